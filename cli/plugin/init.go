package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/urfave/cli/v2"
)

type initOptions struct {
	env  *command.Env
	dir  string
	lang string
	name string
}

// NewInit makes the command.
func NewInit(env *command.Env) *cli.Command {
	o := &initOptions{env: env}
	return command.New(env, command.Spec{
		Name: "init", Usage: "start a plugin: code, tests, manifest", Category: category,
		Args: "DIR", MinArgs: 1, MaxArgs: 1,
		Description: "Writes a plugin that builds and passes its tests at once, with nothing but Go installed. The SDK comes with it.",
		Examples:    `millstream init shout && cd shout && millstream build && millstream test`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "lang", Usage: "`LANGUAGE` of the plugin: go", Value: "go", Destination: &o.lang},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the plugin", DefaultText: "the directory's", Destination: &o.name},
		},
		Run: func(_ context.Context, args []string) error {
			o.dir = args[0]
			return o.run()
		},
	})
}

func (o *initOptions) run() error {
	if o.lang != "go" {
		return command.Usagef("--lang %q is unknown", o.lang).
			WithFix("init writes Go; any language that compiles to core WebAssembly can speak the ABI (sdk/abi/SPEC.md)")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	if o.name == "" {
		o.name = pluginName(filepath.Base(dir))
	}
	if o.name == "" || pluginName(o.name) != o.name {
		return command.Usagef("%q is no name for a plugin", o.name).
			WithFix("give one with --name, of the characters a-z 0-9 . _ -, beginning and ending with a letter or digit")
	}
	files := skeleton(o.name)
	for _, f := range files {
		target := filepath.Join(dir, filepath.FromSlash(f.path))
		if _, err := os.Lstat(target); err == nil {
			return command.Conflictf("%s exists already", target).WithFix("name a directory that is new or empty")
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, f := range files {
		target := filepath.Join(dir, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, f.content, 0o644); err != nil {
			return err
		}
	}
	return o.tell(files)
}

// quoted is a path as it is typed into a shell.
func quoted(path string) string {
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	safe := func(r rune) bool {
		return r > unicode.MaxASCII || unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-+,@%:", r)
	}
	if strings.TrimFunc(path, safe) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func (o *initOptions) tell(files []skeletonFile) error {
	if o.env.JSON {
		var paths []string
		for _, f := range files {
			paths = append(paths, f.path)
		}
		return o.env.PrintJSON(map[string]any{"name": o.name, "dir": o.dir, "files": paths})
	}
	o.env.Printf("plugin %q is in %s: edit main.go\n\n", o.name, o.dir)
	if filepath.Clean(o.dir) != "." {
		o.env.Printf("  cd %s\n", quoted(o.dir))
	}
	o.env.Printf("  millstream build     # %s.wasm\n", o.name)
	o.env.Printf("  millstream test      # its cases, in the production host\n")
	o.env.Printf("  millstream deploy %s.wasm --name %s --from notes --to notes.loud --create-topics\n", o.name, o.name)
	return nil
}
