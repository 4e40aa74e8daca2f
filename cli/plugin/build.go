package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

const manifestFile = "plugin.yaml"

type buildOptions struct {
	env       *command.Env
	dir       string
	out       string
	toolchain string
}

// NewBuild makes the command.
func NewBuild(env *command.Env) *cli.Command {
	o := &buildOptions{env: env}
	return command.New(env, command.Spec{
		Name: "build", Usage: "compile a plugin to WebAssembly", Category: category,
		Args: "[DIR]", MaxArgs: 1,
		Description: `Uses TinyGo when it is installed, else standard Go, and says which: TinyGo's modules are some 40 KB and start in
microseconds, those of Go are some 2 MB and can use all of Go. The manifest in plugin.yaml goes into the module, and the module is
checked as deploy would.`,
		Examples: `millstream build
millstream build plugins/upper -o upper.wasm --toolchain go`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the module to `FILE`, or into a directory", DefaultText: "DIR/NAME.wasm", Destination: &o.out},
			&cli.StringFlag{Name: "toolchain", Usage: "`TOOLCHAIN`: auto, tinygo or go", Value: "auto", EnvVars: []string{"MILLSTREAM_TOOLCHAIN"}, Destination: &o.toolchain},
		},
		Run: func(ctx context.Context, args []string) error {
			o.dir = "."
			if len(args) > 0 {
				o.dir = args[0]
			}
			return o.run(ctx)
		},
	})
}

// built is a compiled and checked module.
type built struct {
	wasm      []byte
	toolchain string
	report    *module.Report
	took      time.Duration
}

func (o *buildOptions) run(ctx context.Context) error {
	b, err := build(ctx, o.env, o.dir, o.toolchain)
	if err != nil {
		return err
	}
	file := defaultName(o.dir, b.report.Manifest) + ".wasm"
	if o.out == "" {
		o.out = filepath.Join(o.dir, file)
	} else if info, err := os.Stat(o.out); err == nil && info.IsDir() {
		o.out = filepath.Join(o.out, file)
	}
	if err := writeFile(o.out, b.wasm); err != nil {
		return err
	}
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{
			"file": o.out, "toolchain": b.toolchain, "size_bytes": len(b.wasm), "seconds": b.took.Seconds(),
			"digest": b.report.Digest.String(), "warnings": append([]string{}, b.report.Warnings...),
		})
	}
	o.env.Printf("%s: %s, built with %s in %s\n", o.out, terminal.Size(int64(len(b.wasm))), b.toolchain, terminal.Duration(b.took))
	for _, w := range b.report.Warnings {
		o.env.Notef("warning: %s\n", w)
	}
	return nil
}

// build compiles the plugin in dir, puts its manifest in and checks the result.
func build(ctx context.Context, env *command.Env, dir, wanted string) (*built, error) {
	started := time.Now()
	if err := isGoPlugin(dir); err != nil {
		return nil, err
	}
	manifest, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	t, err := findToolchain(ctx, wanted)
	if err != nil {
		return nil, err
	}
	progress := terminal.NewProgress(env.Err, env.ErrTerminal && !env.JSON, "building "+dir+" with "+t.String())
	wasm, err := t.compile(ctx, dir)
	progress.Done()
	if err != nil {
		return nil, err
	}
	if manifest == nil {
		env.Notef("%s has no %s: the module will not say what it is\n", dir, manifestFile)
	} else {
		manifest.ABI, manifest.Language, manifest.Toolchain = module.ABIVersion1, "go", t.String()
		if wasm, err = module.WithManifest(wasm, manifest); err != nil {
			return nil, command.Failedf("%s: %w", filepath.Join(dir, manifestFile), err)
		}
	}
	report, err := module.Check(wasm, module.DefaultCaps(), host.Offers)
	if err != nil {
		return nil, command.Failedf("the module that %s built would be refused: %w", t, err)
	}
	return &built{wasm: wasm, toolchain: t.String(), report: report, took: time.Since(started)}, nil
}

func isGoPlugin(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return command.NotFoundf("directory %s does not exist", dir).WithFix("start a plugin there: millstream init %s", dir)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return command.Usagef("%s is not a directory", dir).WithFix("name the directory of a plugin")
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return command.NotFoundf("%s has no Go files", dir).
			WithFix("start a plugin with: millstream init DIR; modules of other languages need no build: deploy takes any .wasm file")
	}
	return nil
}

// readManifest reads plugin.yaml; without one it returns nil.
func readManifest(dir string) (*module.Manifest, error) {
	file := filepath.Join(dir, manifestFile)
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	m := &module.Manifest{}
	if err := d.Decode(m); err != nil {
		return nil, command.Failedf("%s: %s", file, inYAML(err))
	}
	if err := m.Validate(); err != nil {
		return nil, command.Failedf("%s: %w", file, err)
	}
	return m, nil
}

// inYAML says what is wrong with a manifest in the words of who writes it: without the names of Go types.
func inYAML(err error) string {
	if errors.Is(err, io.EOF) {
		return "is empty"
	}
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:")) {
		line, _, _ = strings.Cut(line, " in type ")
		line = strings.ReplaceAll(line, "not found", "is no key of a manifest")
		line, _, _ = strings.Cut(line, " into ")
		if line = strings.TrimPrefix(strings.TrimSpace(line), "yaml: "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

func defaultName(dir string, m *module.Manifest) string {
	if m != nil {
		return m.Name
	}
	if absolute, err := filepath.Abs(dir); err == nil {
		if name := pluginName(filepath.Base(absolute)); name != "" {
			return name
		}
	}
	return "plugin"
}

// writeFile replaces a file at once, so that nobody reads half a module.
func writeFile(file string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".millstream-*")
	if errors.Is(err, os.ErrNotExist) {
		return command.NotFoundf("write %s: directory %s does not exist", file, filepath.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
