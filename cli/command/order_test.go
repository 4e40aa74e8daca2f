package command

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func tree() []*cli.Command {
	leaf := func(name string) *cli.Command {
		return &cli.Command{Name: name, Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}},
			&cli.StringFlag{Name: "name"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}},
		}}
	}
	return []*cli.Command{leaf("build"), {Name: "topic", Subcommands: []*cli.Command{leaf("create"), leaf("list")}}}
}

func TestArrange(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"", ""},
		{"build", "build --"},
		{"build dir", "build -- dir"},
		{"build dir -o file", "build -o file -- dir"},
		{"build -o file dir", "build -o file -- dir"},
		{"build dir --output=file --json", "build --output=file --json -- dir"},
		{"build dir -f=false", "build -f=false -- dir"},
		{"build --name -1 dir", "build --name -1 -- dir"},
		{"build --name - dir", "build --name - -- dir"},
		{"build --name --nosuch dir", "build --name --nosuch -- dir"},
		{"build --name= dir", "build --name= -- dir"},
		{"build - -- --json", "build -- - --json"},
		{"build -- -- x", "build -- -- x"},
		{"build a --json -- b -o", "build --json -- a b -o"},
		{"topic create x --name=--json", "topic create --name=--json -- x"},
		{"topic create topic", "topic create -- topic"},
		{"topic", "topic"},
		{"topic --help", "topic --help"},
		{"help topic create", "topic create --help"},
		{"build dir --help", "build --help"},
		{"build dir --name x -h --json", "build --help"},
		{"build dir --name -h", "build --name -h -- dir"},
		{"--help", "--help"},
	} {
		got, err := arrange(tree(), strings.Fields(tc.line))
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%q: got %q, %v; want %q", tc.line, strings.Join(got, " "), err, tc.want)
		}
	}
}

func TestArrangeRefuses(t *testing.T) {
	for _, line := range []string{
		"nosuch", "topic nosuch", "--json build", "topic --json list", "build --nosuch", "build -x", "build --name",
		"build --name --json", "build --name --follow=true", "build x -o",
	} {
		got, err := arrange(tree(), strings.Fields(line))
		if ExitCode(err) != CodeUsage {
			t.Errorf("%q: got %q, %v", line, got, err)
		}
	}
}

// FuzzArrange: nothing is lost or invented, whatever the words are.
func FuzzArrange(f *testing.F) {
	f.Add("build\na\n--name\nb\n--\n-c")
	f.Add("topic\ncreate\n-f\n-")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\n")
		got, err := arrange(tree(), args)
		if err != nil {
			return
		}
		count := func(words []string) map[string]int {
			m := map[string]int{}
			for _, w := range words {
				if w != "--" && !help(w) && w != "help" && w != "version" && !strings.HasPrefix(w, "-v") && w != "--version" {
					m[w]++
				}
			}
			return m
		}
		a, b := count(args), count(got)
		if len(got) > 0 && slices.Contains(got, "--help") && !slices.Contains(got, "--") {
			return // help about a group: what follows does not matter
		}
		for w, n := range a {
			if b[w] != n {
				t.Fatalf("%q: %q is there %d times, was %d: %q", args, w, b[w], n, got)
			}
		}
	})
}

func TestNearest(t *testing.T) {
	names := []string{"server", "deploy", "delete", "list", "status", "partitions"}
	for word, want := range map[string]string{
		"sevrer": "server", "delpoy": "deploy", "lst": "list", "stat": "status", "part": "partitions", "partition": "partitions",
		"xyz": "", "": "", "li": "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
