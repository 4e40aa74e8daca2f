package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
)

// toolchain is a compiler from Go to a WebAssembly reactor.
type toolchain struct {
	name    string // "tinygo" or "go"
	path    string
	version string // "0.41.1", "1.26.8"
	args    []string
	env     []string
}

// The flags are those measured to give the fastest calls: without
// -scheduler=none each call of a TinyGo guest costs some 90 µs; SIMD makes byte loops 5 times faster.
var (
	tinygoArgs = []string{"build", "-target=wasip1", "-buildmode=c-shared", "-scheduler=none", "-opt=2", "-llvm-features=+simd128", "-no-debug"}
	goArgs     = []string{"build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w"}
	goEnv      = []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}
)

// findToolchain takes TinyGo when it is installed, else Go, unless one is asked for.
func findToolchain(ctx context.Context, wanted string) (*toolchain, error) {
	var candidates []*toolchain
	switch wanted {
	case "auto":
		candidates = []*toolchain{{name: "tinygo", args: tinygoArgs}, {name: "go", args: goArgs, env: goEnv}}
	case "tinygo":
		candidates = []*toolchain{{name: "tinygo", args: tinygoArgs}}
	case "go":
		candidates = []*toolchain{{name: "go", args: goArgs, env: goEnv}}
	default:
		return nil, command.Usagef("--toolchain %q is unknown", wanted).WithFix("it is auto, tinygo or go")
	}
	for _, t := range candidates {
		path, err := exec.LookPath(t.name)
		if err != nil {
			continue
		}
		t.path = path
		t.version = versionOf(ctx, t)
		return t, nil
	}
	if wanted == "tinygo" {
		return nil, command.NotFoundf("tinygo is not on the PATH").WithFix("install it (tinygo.org), or build with --toolchain go")
	}
	return nil, command.NotFoundf("no Go toolchain is on the PATH").WithFix("install Go 1.24 or newer: https://go.dev/dl")
}

var versionPattern = regexp.MustCompile(`\b(?:go)?(\d+\.\d+(?:\.\d+)?\S*)`)

func versionOf(ctx context.Context, t *toolchain) string {
	out, err := exec.CommandContext(ctx, t.path, "version").Output()
	if err != nil {
		return "unknown"
	}
	m := versionPattern.FindSubmatch(bytes.TrimPrefix(out, []byte("go version ")))
	if m == nil {
		return "unknown"
	}
	return string(m[1])
}

// String is what manifests and messages call the toolchain: "tinygo 0.41.1".
func (t *toolchain) String() string { return t.name + " " + t.version }

// compile builds the main package in dir into a module.
func (t *toolchain) compile(ctx context.Context, dir string) ([]byte, error) {
	temporary, err := os.MkdirTemp("", "millstream-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temporary)
	out := filepath.Join(temporary, "plugin.wasm")
	cmd := exec.CommandContext(ctx, t.path, append(append([]string{}, t.args...), "-o", out, ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), t.env...)
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, t.explain(dir, said.String(), err)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("%s built nothing: %w", t, err)
	}
	return wasm, nil
}

// noise are warnings of TinyGo about its own flags for a newer wasm-opt; they mean nothing.
var noise = []string{"'+bulk-memory-opt' is not a recognized feature", "'+call-indirect-overlong' is not a recognized feature"}

func (t *toolchain) explain(dir, said string, err error) error {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\n")
		meaningless := line == ""
		for _, n := range noise {
			meaningless = meaningless || strings.Contains(line, n)
		}
		if !meaningless {
			lines = append(lines, line)
		}
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return command.Failedf("%s cannot run: %w", t.path, err)
	}
	e := command.Failedf("%s does not build with %s:\n%s", dir, t, strings.Join(lines, "\n"))
	if t.name == "tinygo" {
		return e.WithFix("if the code is right and only TinyGo objects: millstream build --toolchain go")
	}
	return e
}
