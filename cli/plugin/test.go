package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/plugin/cases"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/urfave/cli/v2"
)

type testOptions struct {
	env       *command.Env
	dir       string
	wasm      string
	run       string
	toolchain string
	verbose   bool
}

// NewTest makes the command.
func NewTest(env *command.Env) *cli.Command {
	o := &testOptions{env: env}
	return command.New(env, command.Spec{
		Name: "test", Usage: "run a plugin's cases in the production host, without a broker", Category: category,
		Args: "[DIR]", MaxArgs: 1,
		Description: `Builds the plugin in DIR and runs every case of DIR/testdata/cases/*.yaml in a fresh instance, with the limits of
production. A case says what goes in and what must come out; plugins/README.md describes the format. The exit code is 1 if one fails.`,
		Examples: `millstream test
millstream test plugins/translate --run question
millstream test --wasm other.wasm --verbose`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "wasm", Usage: "test this `FILE` instead of building", Destination: &o.wasm, TakesFile: true},
			&cli.StringFlag{Name: "run", Usage: "only cases whose name contains `TEXT`", Destination: &o.run},
			&cli.StringFlag{Name: "toolchain", Usage: "`TOOLCHAIN`: auto, tinygo or go", Value: "auto", EnvVars: []string{"MILLSTREAM_TOOLCHAIN"}, Destination: &o.toolchain},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "also show passed cases and what guests print", Destination: &o.verbose, DisableDefaultText: true},
		},
		Run: func(ctx context.Context, args []string) error {
			o.dir = "."
			if len(args) > 0 {
				o.dir = args[0]
			}
			return o.test(ctx)
		},
	})
}

func (o *testOptions) test(ctx context.Context) error {
	all, err := o.load()
	if err != nil {
		return err
	}
	wasm, err := o.module(ctx)
	if err != nil {
		return err
	}
	cache := ""
	if dir, err := os.UserCacheDir(); err == nil {
		cache = filepath.Join(dir, "millstream", "modules")
	}
	h, err := host.New(ctx, host.Options{CacheDir: cache})
	if err != nil {
		return err
	}
	defer h.Close(context.WithoutCancel(ctx))
	program, err := h.Compile(ctx, wasm, host.Limits{})
	if err != nil {
		return command.Failedf("the module does not compile: %w", err)
	}
	defer program.Close(context.WithoutCancel(ctx))
	started := time.Now()
	var results []cases.Result
	failed := 0
	for _, c := range all {
		r := cases.Run(ctx, program, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(r.Failures) > 0 {
			failed++
		}
		o.tell(r)
		results = append(results, r)
	}
	return o.conclude(results, failed, time.Since(started))
}

func (o *testOptions) load() ([]cases.Case, error) {
	dir := filepath.Join(o.dir, "testdata", "cases")
	all, err := cases.Load(dir)
	if err != nil {
		return nil, command.Failedf("%w", err)
	}
	if len(all) == 0 {
		return nil, command.NotFoundf("no cases in %s", dir).WithFix("write one as plugins/README.md describes, or start from: millstream init DIR")
	}
	var chosen []cases.Case
	for _, c := range all {
		if strings.Contains(c.Name, o.run) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil, command.NotFoundf("none of the %d cases has %q in its name", len(all), o.run)
	}
	return chosen, nil
}

func (o *testOptions) module(ctx context.Context) ([]byte, error) {
	if o.wasm != "" {
		wasm, err := os.ReadFile(o.wasm)
		if errors.Is(err, os.ErrNotExist) {
			return nil, command.NotFoundf("file %s does not exist", o.wasm)
		}
		return wasm, err
	}
	b, err := build(ctx, o.env, o.dir, o.toolchain)
	if err != nil {
		return nil, err
	}
	o.env.Notef("built with %s in %s\n", b.toolchain, terminal.Duration(b.took))
	return b.wasm, nil
}

// tell prints a case for people.
func (o *testOptions) tell(r cases.Result) {
	passed := len(r.Failures) == 0
	if o.env.JSON || (passed && !o.verbose) {
		return
	}
	s := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	if passed {
		o.env.Printf("%s  %s  %s\n", s.Good("ok  "), r.Case.Name, s.Dim(terminal.Duration(r.Took)))
	} else {
		o.env.Printf("%s  %s  %s\n", s.Bad("FAIL"), s.Bold(r.Case.Name), s.Dim(place(r.Case)))
	}
	for _, f := range r.Failures {
		o.env.Printf("      %s\n", strings.ReplaceAll(f, "\n", "\n      "))
	}
	if !passed || o.verbose {
		for _, line := range r.Logs {
			o.env.Printf("      %s\n", s.Dim("guest "+line))
		}
	}
}

func (o *testOptions) conclude(results []cases.Result, failed int, took time.Duration) error {
	if o.env.JSON {
		if err := o.json(results, failed); err != nil {
			return err
		}
	} else if failed == 0 {
		o.env.Printf("%s passed in %s\n", terminal.Count(int64(len(results)), "case"), terminal.Duration(took))
	}
	if failed > 0 {
		return command.Failedf("%d of %s failed", failed, terminal.Count(int64(len(results)), "case"))
	}
	return nil
}

func (o *testOptions) json(results []cases.Result, failed int) error {
	type row struct {
		Name     string   `json:"name"`
		File     string   `json:"file"`
		Line     int      `json:"line"`
		Passed   bool     `json:"passed"`
		Failures []string `json:"failures,omitempty"`
		Logs     []string `json:"logs,omitempty"`
		Seconds  float64  `json:"seconds"`
	}
	rows := []row{}
	for _, r := range results {
		rows = append(rows, row{
			Name: r.Case.Name, File: r.Case.File, Line: r.Case.Line, Passed: len(r.Failures) == 0,
			Failures: r.Failures, Logs: r.Logs, Seconds: r.Took.Seconds(),
		})
	}
	return o.env.PrintJSON(map[string]any{"cases": rows, "failed": failed})
}
