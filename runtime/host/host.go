// Package host runs guests: it compiles a checked and metered module once,
// makes instances of it and passes batches through the native ABI, within
// limits. It is the only place, with abi/native, that knows wazero.
//
// A guest can hurt neither the process nor its neighbours: every pointer and
// length it hands over is bounds-checked at use, memory, fuel, call depth, wall
// time, output and log rate are capped. After any Trap an instance is spent:
// Close it and make a new one.
//
// A guest runs in slices of fuel. Between two slices the host looks at the
// budget, the clock and the context, and lets the scheduler and the garbage
// collector in: machine code that never yields would hold up the whole process.
//
// Host and Program are safe for concurrent use; an Instance belongs to one
// goroutine.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/abi/native"
	"github.com/millstream-io/millstream/runtime/abi/wasi"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/sdk/abi"
)

// ErrClosed is returned by calls of a closed Host or Program.
var ErrClosed = errors.New("host is closed")

// Options open a Host.
type Options struct {
	// CacheDir keeps compiled code between starts; it must be private to the process's user (it holds native code). "" = no cache.
	CacheDir string
	Logger   *slog.Logger
	Caps     module.Caps // zero: module.DefaultCaps
	// Interpreter runs guests without native code.
	Interpreter bool
	// ChildProcess compiles each new module in a limited child process first, so
	// that one which takes the compiler minutes or gigabytes is refused. It needs a CacheDir, and an
	// executable whose main function calls compile.Main first of all.
	ChildProcess bool
}

// Host compiles modules and keeps what it compiled.
type Host struct {
	options Options
	cache   wazero.CompilationCache // nil without CacheDir
	runtime wazero.Runtime

	mu       sync.Mutex
	closed   bool
	programs map[programKey]*compiled
}

// programKey is what compiled code depends on; the other limits belong to an instance.
type programKey struct {
	digest     module.Digest
	stackDepth int
}

// New opens a host. Errors: CacheDir cannot be made or is not private, or the
// machine offers no executable memory (then Options.Interpreter is the fix).
func New(ctx context.Context, o Options) (*Host, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Caps == (module.Caps{}) {
		o.Caps = module.DefaultCaps()
	}
	if o.ChildProcess && (o.CacheDir == "" || o.Interpreter) {
		return nil, errors.New("host: ChildProcess is for compiled code and needs a CacheDir to hand it over")
	}
	h := &Host{options: o, programs: make(map[programKey]*compiled)}
	config, err := engineConfig(o.Interpreter)
	if err != nil {
		return nil, err
	}
	if o.CacheDir != "" {
		if h.cache, err = openCache(o.CacheDir); err != nil {
			return nil, err
		}
		config = config.WithCompilationCache(h.cache)
	}
	h.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if err := h.instantiateImports(ctx); err != nil {
		return nil, errors.Join(err, h.Close(ctx))
	}
	return h, nil
}

// engineConfig never falls back to the interpreter by itself: it is slower by
// one to two orders of magnitude, so that must be somebody's choice.
func engineConfig(interpreter bool) (config wazero.RuntimeConfig, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("compiler engine is not available on this machine (%v): choose the interpreter", r)
		}
	}()
	if interpreter {
		config = wazero.NewRuntimeConfigInterpreter()
	} else {
		config = wazero.NewRuntimeConfigCompiler()
	}
	return config.
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(MaxMemoryBytes / pageBytes).
		WithCloseOnContextDone(false).
		WithDebugInfoEnabled(true), nil
}

// openCache makes dir and refuses one that others can write to or read: what
// is in it is run as machine code.
func openCache(dir string) (wazero.CompilationCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("cache of compiled modules: %s has mode %#o, it holds machine code and must be private: chmod 700 %s", dir, mode, dir)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cache of compiled modules in %s: %w", dir, err)
	}
	return cache, nil
}

func (h *Host) instantiateImports(ctx context.Context) error {
	for _, instantiate := range []func(context.Context, wazero.Runtime) error{
		instantiateMeter, native.Instantiate, wasi.Instantiate,
	} {
		if err := instantiate(ctx, h.runtime); err != nil {
			return fmt.Errorf("host functions: %w", err)
		}
	}
	return nil
}

// Offers tells whether the host gives a module the function that it imports.
func Offers(importModule, name string) bool {
	switch importModule {
	case abi.ImportModule:
		return native.Offers(name)
	case wasi.Module:
		return wasi.Offers(name)
	}
	return false
}

// Close closes all programs and instances.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	clear(h.programs)
	err := h.runtime.Close(ctx)
	if h.cache != nil {
		err = errors.Join(err, h.cache.Close(ctx))
	}
	return err
}
