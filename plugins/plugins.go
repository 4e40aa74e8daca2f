// Package plugins carries the ready-made modules inside the binary: their
// manifests always, the modules themselves once "make plugins" has built them into
// dist, gzipped so that the binary stays small. What it gives out are copies; it
// may be used by several goroutines at a time.
package plugins

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrUnknown says that there is no plugin of that name.
var ErrUnknown = errors.New("no such plugin")

// ErrNotBuilt says that this binary was built before its plugins were.
var ErrNotBuilt = errors.New("plugin is not in this binary")

//go:embed */plugin.yaml
var manifests embed.FS

// dist holds NAME.wasm.gz or NAME.wasm, and a README.md so that there is something to embed before anything is built.
//
//go:embed dist
var dist embed.FS

// maxModuleBytes bounds what is unpacked: more is no module that could be deployed.
const maxModuleBytes = 64 << 20

// Plugin is what a plugin says of itself, from its plugin.yaml.
type Plugin struct {
	Name        string   `json:"name" yaml:"name"`
	Version     string   `json:"version" yaml:"version"`
	Description string   `json:"description" yaml:"description"`
	Config      []Config `json:"config,omitempty" yaml:"config"`
	Assets      []Part   `json:"assets,omitempty" yaml:"assets"`
	Outputs     []Part   `json:"outputs,omitempty" yaml:"outputs"`
	// Built says whether Open will find the module.
	Built bool `json:"built" yaml:"-"`
}

// Config is a config key.
type Config struct {
	Name        string   `json:"name" yaml:"name"`
	Description string   `json:"description,omitempty" yaml:"description"`
	Default     string   `json:"default,omitempty" yaml:"default"`
	Required    bool     `json:"required,omitempty" yaml:"required"`
	Values      []string `json:"values,omitempty" yaml:"values"`
}

// Part is an asset or an output.
type Part struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description"`
	Required    bool   `json:"required,omitempty" yaml:"required"`
}

// List returns all plugins, ordered by name. An error is a mistake in a manifest, which a test of this package finds.
func List() ([]Plugin, error) {
	files, err := fs.Glob(manifests, "*/plugin.yaml")
	if err != nil {
		return nil, err
	}
	list := make([]Plugin, 0, len(files))
	for _, file := range files {
		b, err := manifests.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p, err := parse(b)
		if err != nil {
			return nil, fmt.Errorf("plugins/%s: %w", file, err)
		}
		if p.Name != path.Dir(file) {
			return nil, fmt.Errorf("plugins/%s: the name is %q", file, p.Name)
		}
		_, _, err = module(p.Name)
		p.Built = err == nil
		list = append(list, p)
	}
	return list, nil
}

func parse(manifest []byte) (Plugin, error) {
	var p Plugin
	d := yaml.NewDecoder(bytes.NewReader(manifest))
	d.KnownFields(true)
	err := d.Decode(&p)
	return p, err
}

// Open returns the module of a plugin. Errors: ErrUnknown, which lists the plugins there are, and ErrNotBuilt, which says how
// to build it.
func Open(name string) ([]byte, error) {
	if _, err := manifests.ReadFile(name + "/plugin.yaml"); err != nil {
		return nil, fmt.Errorf("%w: %q; there are: %s", ErrUnknown, name, strings.Join(names(), ", "))
	}
	b, zipped, err := module(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: run make plugins and build the binary again, or run millstream build plugins/%s -o %s.wasm and deploy that file",
			ErrNotBuilt, name, name, name)
	}
	if !zipped {
		return b, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("plugins/dist/%s.wasm.gz: %w", name, err)
	}
	wasm, err := io.ReadAll(io.LimitReader(z, maxModuleBytes))
	if err != nil {
		return nil, fmt.Errorf("plugins/dist/%s.wasm.gz: %w", name, err)
	}
	return wasm, nil
}

func module(name string) (b []byte, zipped bool, err error) {
	if b, err = dist.ReadFile("dist/" + name + ".wasm.gz"); err == nil {
		return b, true, nil
	}
	b, err = dist.ReadFile("dist/" + name + ".wasm")
	return b, false, err
}

func names() []string {
	files, _ := fs.Glob(manifests, "*/plugin.yaml") // the pattern is good: List's test
	for i, f := range files {
		files[i] = path.Dir(f)
	}
	return files
}
