package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/host/compile"
	"github.com/millstream-io/millstream/runtime/module"
)

// Compile checks, meters and compiles a module. What it compiled is kept as
// long as one of its Programs is open, and compiled once however many ask.
// Errors: *module.Refusal, a limit out of range, or a compile error that names
// the module.
func (h *Host) Compile(ctx context.Context, wasm []byte, l Limits) (*Program, error) {
	limits, err := l.withDefaults()
	if err != nil {
		return nil, err
	}
	key := programKey{digest: module.DigestOf(wasm), stackDepth: limits.StackDepth}
	c, err := h.shared(ctx, key, wasm, limits)
	if err != nil {
		return nil, err
	}
	p := &Program{host: h, compiled: c, limits: limits}
	if c.report.MemoryMin > limits.MemoryBytes {
		refusal := &module.Refusal{
			Reason:   fmt.Sprintf("module wants %d bytes of memory at its start, its limit is %d", c.report.MemoryMin, limits.MemoryBytes),
			Position: -1,
			Fix:      "raise the deployment's memory limit",
		}
		return nil, errors.Join(refusal, p.Close(ctx))
	}
	return p, nil
}

// shared returns the code of key with one more user, built by the first who asks.
func (h *Host) shared(ctx context.Context, key programKey, wasm []byte, limits Limits) (*compiled, error) {
	for {
		c, first, err := h.acquire(key)
		if err != nil {
			return nil, err
		}
		if first {
			c.report, c.module, c.err = h.build(ctx, wasm, limits)
			c.abandoned = c.err != nil && ctx.Err() != nil
			close(c.ready)
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), h.release(ctx, c))
		}
		if c.err == nil {
			return c, nil
		}
		if err := h.release(ctx, c); err != nil || first || !c.abandoned {
			return nil, errors.Join(c.err, err)
		}
		// Who built it went away; that is no reason for those who stay.
	}
}

// acquire returns the entry of key with one more user; first tells that the caller has to build it.
func (h *Host) acquire(key programKey) (c *compiled, first bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false, ErrClosed
	}
	c, ok := h.programs[key]
	if !ok {
		c = &compiled{key: key, ready: make(chan struct{})}
		h.programs[key] = c
	}
	c.users++
	return c, !ok, nil
}

// release gives an entry back; the last user closes it. A failed one is
// forgotten at once, so that the next Compile tries again.
func (h *Host) release(ctx context.Context, c *compiled) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.users--
	if h.programs[c.key] == c && (c.users == 0 || c.failed()) {
		delete(h.programs, c.key)
	}
	if c.users > 0 || c.module == nil {
		return nil
	}
	return c.module.Close(ctx)
}

func (h *Host) build(ctx context.Context, wasm []byte, l Limits) (*module.Report, wazero.CompiledModule, error) {
	report, err := module.Check(wasm, h.options.Caps, Offers)
	if err != nil {
		return nil, nil, err
	}
	metered, err := module.Meter(wasm, l.StackDepth)
	if err != nil {
		return nil, nil, fmt.Errorf("module %s: metering: %w", report.Digest.Short(), err)
	}
	code, err := h.machineCode(ctx, metered)
	if err != nil {
		return nil, nil, fmt.Errorf("module %s: %w", report.Digest.Short(), err)
	}
	if err := h.checkImports(code); err != nil {
		return nil, nil, errors.Join(err, code.Close(ctx))
	}
	return report, code, nil
}

// checkImports refuses functions that the host gives with other types, which the
// engine would find only when it makes an instance.
func (h *Host) checkImports(code wazero.CompiledModule) error {
	for _, f := range code.ImportedFunctions() {
		from, name, _ := f.Import()
		given := h.runtime.Module(from).ExportedFunctionDefinitions()[name]
		if given == nil || !slices.Equal(f.ParamTypes(), given.ParamTypes()) || !slices.Equal(f.ResultTypes(), given.ResultTypes()) {
			return &module.Refusal{
				Reason:   fmt.Sprintf("imports %s.%s with the type %s, which the host does not give it", from, name, signature(f)),
				Position: -1,
				Fix:      "build it with an SDK or compiler for this version of the interface",
			}
		}
	}
	return nil
}

func signature(f api.FunctionDefinition) string {
	list := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = api.ValueTypeName(t)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(f.ParamTypes()) + " → " + list(f.ResultTypes())
}

// machineCode is the one door to the compiler. wasm has passed the check and
// is metered. A damaged entry of the cache is an error for the engine, not a
// miss; the cache can be rebuilt, so it is emptied and the module compiled anew.
func (h *Host) machineCode(ctx context.Context, wasm []byte) (wazero.CompiledModule, error) {
	if h.options.ChildProcess {
		if err := compile.InChild(ctx, wasm, h.options.CacheDir, compile.Limits{}); err != nil {
			return nil, err
		}
	}
	code, err := h.compile(ctx, wasm)
	if err == nil || !isCacheDamage(err) || h.options.CacheDir == "" {
		return code, err
	}
	h.options.Logger.Warn("cache of compiled modules is damaged and is emptied", "dir", h.options.CacheDir, "error", err)
	if err := emptyCache(h.options.CacheDir); err != nil {
		return nil, err
	}
	return h.compile(ctx, wasm)
}

func (h *Host) compile(ctx context.Context, wasm []byte) (code wazero.CompiledModule, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the compiler failed: %v", r)
		}
	}()
	code, err = h.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return code, nil
}

func isCacheDamage(err error) bool {
	return strings.Contains(err.Error(), "compilationcache") || strings.HasSuffix(err.Error(), "EOF")
}

// emptyCache deletes the engine's folders in dir, and nothing else that may be there.
func emptyCache(dir string) error {
	entries, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err != nil {
		return fmt.Errorf("cache of compiled modules in %s: %w", dir, err)
	}
	for _, entry := range entries {
		if err := os.Remove(entry); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cache of compiled modules: %w", err)
		}
	}
	return nil
}
