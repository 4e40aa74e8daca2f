package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/urfave/cli/v2"
)

// invoke runs a command line in this process; nothing of the test's own environment is seen.
func invoke(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &command.Env{In: strings.NewReader(stdin), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	err := New(env, "v0.0.0-test").Run(t.Context(), args)
	return out.String(), errs.String(), command.ExitCode(err)
}

// leaves calls f for every command that does something, with the words that name it.
func leaves(t *testing.T, f func(t *testing.T, path []string, c *cli.Command)) {
	t.Helper()
	env := &command.Env{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}, Getenv: func(string) string { return "" }}
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			p := append(append([]string{}, path...), c.Name)
			if len(c.Subcommands) > 0 {
				walk(p, c.Subcommands)
				continue
			}
			t.Run(strings.Join(p, " "), func(t *testing.T) { f(t, p, c) })
		}
	}
	walk(nil, New(env, "").Commands())
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	leaves(t, func(t *testing.T, path []string, c *cli.Command) {
		for _, args := range [][]string{append(path, "--help"), append(path, "-h"), append([]string{"help"}, path...)} {
			out, errs, code := invoke(t, "", args...)
			if code != 0 || errs != "" {
				t.Fatalf("%v: exit %d, stderr %q", args, code, errs)
			}
			for _, want := range []string{"Usage:\n  millstream " + strings.Join(path, " "), "Examples:\n", "Flags:\n", "--json"} {
				if !strings.Contains(out, want) {
					t.Errorf("%v: no %q in\n%s", args, want, out)
				}
			}
		}
	})
}

// TestFlagsBehindArguments gives every command every flag that it has, once
// before and once behind its arguments, and expects the flag library to see the same.
func TestFlagsBehindArguments(t *testing.T) {
	leaves(t, func(t *testing.T, path []string, c *cli.Command) {
		var flags []string
		for _, f := range c.Flags {
			switch f.(type) {
			case *cli.BoolFlag:
				flags = append(flags, "--"+f.Names()[0])
			case *cli.IntFlag, *cli.Int64Flag, *cli.IntSliceFlag:
				flags = append(flags, "--"+f.Names()[0], "-7")
			case *cli.DurationFlag:
				flags = append(flags, "--"+f.Names()[0]+"=3s")
			default:
				flags = append(flags, "--"+f.Names()[0], "-value")
			}
		}
		arguments := []string{"one", "-", "two"}
		before := parsed(t, path, append(append([]string{}, flags...), arguments...))
		behind := parsed(t, path, append(append([]string{}, arguments...), flags...))
		between := parsed(t, path, append(append([]string{"one"}, flags...), "-", "two"))
		if before != behind || before != between {
			t.Errorf("order matters:\nbefore  %s\nbehind  %s\nbetween %s", before, behind, between)
		}
		if !strings.Contains(before, `args ["one" "-" "two"]`) || !strings.Contains(before, "json=true") {
			t.Errorf("flags or arguments are lost: %s", before)
		}
		literal := parsed(t, path, []string{"one", "--", "--json"})
		if !strings.Contains(literal, `args ["one" "--json"]`) || !strings.Contains(literal, "json=false") {
			t.Errorf("what stands behind -- is not an argument: %s", literal)
		}
	})
}

// parsed replaces what a command does by a description of what it was given.
func parsed(t *testing.T, path, args []string) string {
	t.Helper()
	var out bytes.Buffer
	env := &command.Env{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }}
	app := New(env, "")
	commands := app.Commands()
	var c *cli.Command
	for _, name := range path {
		for _, candidate := range commands {
			if candidate.Name == name {
				c = candidate
			}
		}
		commands = c.Subcommands
	}
	got := ""
	c.Action = func(cc *cli.Context) error {
		got = describe(cc)
		return nil
	}
	if err := app.Run(context.Background(), append(append([]string{}, path...), args...)); err != nil {
		t.Fatalf("%v %q: %v\n%s", path, args, err, out.String())
	}
	return got
}

func TestMistakes(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		code int
		want []string // in stderr
	}{
		{"unknown command", []string{"tpoic", "list"}, 2, []string{`"tpoic" is not a command`, `did you mean "topic"?`}},
		{"unknown command far from any", []string{"xyzzy"}, 2, []string{"its commands are server"}},
		{"unknown verb", []string{"topic", "crate", "x"}, 2, []string{`"crate" is not a command of millstream topic`, `did you mean "create"?`}},
		{"unknown flag behind the argument", []string{"topic", "create", "x", "--partition", "3"}, 2, []string{"no flag --partition", "did you mean --partitions?"}},
		{"unknown flag far from any", []string{"topic", "create", "x", "--zzz=1"}, 2, []string{"no flag --zzz", "--partitions"}},
		{"flag without value", []string{"topic", "create", "x", "--partitions"}, 2, []string{"--partitions needs a value"}},
		{"flag with a flag for a value", []string{"deploy", "x.wasm", "--name", "--from", "a"}, 2, []string{"--name needs a value", "--name=--from"}},
		{"value of the wrong kind", []string{"topic", "create", "x", "--partitions", "many"}, 2, []string{`"many"`, "--help"}},
		{"missing argument", []string{"topic", "create"}, 2, []string{"needs NAME", "usage: millstream topic create NAME"}},
		{"argument too many", []string{"consume", "a", "b"}, 2, []string{`does not expect the argument "b"`}},
		{"missing flag", []string{"deploy", "x.wasm", "--from", "a", "--to", "b"}, 2, []string{"--name is missing"}},
		{"flag before the command", []string{"--brokers", "x:1", "topic", "list"}, 2, []string{"--brokers stands before the command"}},
		{"address", []string{"topic", "list", "--brokers", "1:2:3"}, 2, []string{`"1:2:3" is not HOST:PORT`}},
		{"admin address", []string{"list", "--admin", "ftp://x"}, 2, []string{"is not a URL", "http://127.0.0.1:9644"}},
		{"missing module", []string{"deploy", "nosuch.wasm", "--name", "n", "--from", "a", "--to", "b"}, 3, []string{"nosuch.wasm does not exist", "millstream build"}},
		{"config", []string{"deploy", "x", "--name", "n", "--from", "a", "--to", "b", "--config", "x"}, 2, []string{`--config "x" is not KEY=VALUE`}},
		{"memory", []string{"deploy", "x", "--name", "n", "--from", "a", "--to", "b", "--memory", "lots"}, 2, []string{"--memory", "64MiB"}},
		{"position", []string{"consume", "a", "--from", "yesterday"}, 2, []string{`"yesterday" is no position`, "10m"}},
		{"listen for strangers", []string{"server", "--listen", "0.0.0.0:9092"}, 2, []string{"can be reached from other machines", "--insecure"}},
		{"listen for strangers on a name", []string{"server", "--listen", ":9092"}, 2, []string{"--insecure"}},
		{"admin for strangers", []string{"server", "--admin", "192.0.2.1:1"}, 2, []string{"--admin 192.0.2.1:1 can be reached", "--insecure"}},
		{"listen without a name to advertise", []string{"server", "--insecure", "--listen", "0.0.0.0:0", "--data", "x"}, 2, []string{"--advertise"}},
		{"no home", []string{"server"}, 2, []string{"--data DIR"}},
		{"build nothing", []string{"build", "nosuch"}, 3, []string{"does not exist", "millstream init"}},
		{"language", []string{"init", "x", "--lang", "cobol"}, 2, []string{`"cobol" is unknown`}},
		{"shell", []string{"completion", "tcsh"}, 2, []string{"bash, zsh and fish"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, errs, code := invoke(t, "", tc.args...)
			if code != tc.code || out != "" {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q", code, tc.code, out, errs)
			}
			for _, w := range tc.want {
				if !strings.Contains(errs, w) {
					t.Errorf("no %q in %q", w, errs)
				}
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	// Nothing listens on port 1 of this machine.
	for _, args := range [][]string{
		{"topic", "list"}, {"topic", "create", "x"}, {"topic", "describe", "x"}, {"topic", "delete", "x"}, {"topic", "alter", "x", "--partitions", "2"},
		{"topic", "delete-records", "x", "--before", "end"},
		{"produce", "x"}, {"consume", "x"}, {"group", "list"}, {"group", "describe", "x"}, {"group", "reset", "x", "--to", "start"}, {"logs", "x"},
		{"txn", "list"}, {"txn", "describe", "x"}, {"txn", "abort", "x"}, {"txn", "producers", "x"},
		{"group", "delete", "x"}, {"group", "delete-offsets", "x", "--topic", "y"},
	} {
		_, errs, code := invoke(t, "", append(args, "--brokers", "127.0.0.1:1")...)
		if code != 5 || !strings.Contains(errs, "127.0.0.1:1") || !strings.Contains(errs, "millstream server") {
			t.Errorf("%v: exit %d, stderr %q", args, code, errs)
		}
	}
	for _, args := range [][]string{{"list"}, {"status", "x"}, {"pause", "x"}, {"resume", "x"}, {"delete", "x"}} {
		_, errs, code := invoke(t, "", append(args, "--admin", "http://127.0.0.1:1")...)
		if code != 5 || !strings.Contains(errs, "127.0.0.1:1") || !strings.Contains(errs, "millstream server") {
			t.Errorf("%v: exit %d, stderr %q", args, code, errs)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	_, errs, code := invoke(t, "", "topic", "list", "--json", "--brokers", "127.0.0.1:1")
	if code != 5 || !strings.HasPrefix(errs, `{"error":"no broker answers at 127.0.0.1:1`) || !strings.HasSuffix(errs, "\"exit_code\":5}\n") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
}

func TestHelpOfTheWhole(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}, {"-h"}} {
		out, _, code := invoke(t, "", args...)
		if code != 0 || !strings.Contains(out, "deploy") || !strings.Contains(out, "Exit codes:") {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
	}
	out, _, code := invoke(t, "", "topic")
	if code != 0 || !strings.Contains(out, "millstream topic: ") || !strings.Contains(out, "describe") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestHelpFits: help is no wider than the terminal, but for what is there to be copied.
func TestHelpFits(t *testing.T) {
	for _, columns := range []int{0, 60} {
		env := &command.Env{Columns: columns, Getenv: func(string) string { return "" }, Err: &bytes.Buffer{}}
		wide := columns
		if wide == 0 {
			wide = 100
		}
		leaves(t, func(t *testing.T, path []string, c *cli.Command) {
			var out bytes.Buffer
			env.Out = &out
			if err := New(env, "").Run(t.Context(), append(path, "--help")); err != nil {
				t.Fatal(err)
			}
			before, after, _ := strings.Cut(out.String(), "\nExamples:\n")
			_, flags, _ := strings.Cut(after, "\nFlags:\n")
			_, description, _ := strings.Cut(before, "\nUsage:\n")
			for line := range strings.Lines(description + flags) {
				if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > wide && len(strings.Fields(line)) > 1 && !strings.HasPrefix(line, "  millstream ") {
					t.Errorf("wider than %d: %q", wide, line)
				}
			}
		})
	}
	out, _, _ := invoke(t, "")
	if run, more := strings.Index(out, "Run it:"), strings.Index(out, "More:"); run < 0 || more < run {
		t.Errorf("what comes first is not first:\n%s", out)
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"-v"}} {
		out, _, code := invoke(t, "", args...)
		if code != 0 || !strings.HasPrefix(out, "millstream v0.0.0-test (go") {
			t.Errorf("%v: exit %d, %q", args, code, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	const flag = "--generate-bash-completion"
	for _, tc := range []struct {
		typed []string
		want  string
	}{
		{[]string{flag}, "deploy"},
		{[]string{"topic", flag}, "describe"},
		{[]string{"deploy", "--cr", flag}, "--create-topics"},
		{[]string{"deploy", "x.wasm", "--", flag}, "--name"},
		{[]string{"topic", "create", "x", "--partitions", "3", "-", flag}, "--config"},
		{[]string{"completion", flag}, "fish"},
	} {
		out, _, code := invoke(t, "", tc.typed...)
		if code != 0 || !strings.Contains("\n"+out, "\n"+tc.want+"\n") {
			t.Errorf("%v: exit %d, no %q in %q", tc.typed, code, tc.want, out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, _, code := invoke(t, "", "completion", shell)
		if code != 0 || !strings.Contains(out, flag) {
			t.Errorf("%s: exit %d, %q", shell, code, out)
		}
	}
}

// describe shows what the flag library understood: every flag's value and the arguments.
func describe(cc *cli.Context) string {
	var b strings.Builder
	for _, f := range cc.Command.Flags {
		name := f.Names()[0]
		if name == "help" {
			continue
		}
		value := cc.Value(name)
		if s, ok := value.(cli.StringSlice); ok {
			value = s.Value()
		}
		fmt.Fprintf(&b, "%s=%v ", name, value)
	}
	fmt.Fprintf(&b, "args %q", cc.Args().Slice())
	return b.String()
}
