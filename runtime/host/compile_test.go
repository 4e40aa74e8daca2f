package host_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

func TestModulesThatAreRefused(t *testing.T) {
	h := newHost(t, host.Options{})
	for _, tt := range []struct {
		name string
		wasm []byte
		want string
	}{
		{"nothing", nil, ""},
		{"text", []byte("package main"), ""},
		{"claims 4 billion imports", []byte("\x00asm\x01\x00\x00\x00\x02\x05\xff\xff\xff\xff\x0f"), ""},
		{"unknown import", wasmtest.Guest{Prepare: func(b *wasmtest.Builder) {
			b.Import("env", "system", nil, nil)
		}}.Bytes(), "env.system"},
		{"import of WASI that does not exist", wasmtest.Guest{Prepare: func(b *wasmtest.Builder) {
			b.Import("wasi_snapshot_preview1", "path_execute", nil, nil)
		}}.Bytes(), "path_execute"},
		{"more memory than its limit", wasmtest.Guest{Pages: 1025}.Bytes(), "memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.Compile(t.Context(), tt.wasm, host.Limits{})
			if !errors.Is(err, module.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a refusal that says %q", err, tt.want)
			}
		})
	}
}

func TestImportsOfTheWrongTypeAreAnError(t *testing.T) {
	h := newHost(t, host.Options{})
	wasm := wasmtest.Guest{Prepare: func(b *wasmtest.Builder) {
		b.Import("wasi_snapshot_preview1", "proc_exit", []wasmtest.ValType{wasmtest.I64}, nil)
	}}.Bytes()
	p, err := h.Compile(t.Context(), wasm, host.Limits{})
	if err == nil {
		_, err = p.Instantiate(t.Context(), oneOutput(""), nil)
	}
	if err == nil || !strings.Contains(err.Error(), "proc_exit") {
		t.Errorf("got %v, want an error that names proc_exit", err)
	}
}

func TestLimitsOutOfRange(t *testing.T) {
	h := newHost(t, host.Options{})
	for _, l := range []host.Limits{
		{MemoryBytes: 1}, {MemoryBytes: 1 << 40}, {FuelPerCall: -1}, {FuelSetup: -1}, {WallTime: -1},
		{OutputBytes: -1}, {LogLines: -1}, {LogLineBytes: -1}, {StackDepth: -1}, {StackDepth: 1 << 30},
	} {
		if _, err := h.Compile(t.Context(), wasmtest.Guest{}.Bytes(), l); err == nil {
			t.Errorf("limits %+v are accepted", l)
		}
	}
}

// A module may declare any maximum: the limit of the deployment is what counts.
func TestDeclaredMaximumOfMemoryIsNoPermission(t *testing.T) {
	g := wasmtest.Guest{MaxPages: 65536, Process: code().I32Const(16).MemoryGrow().Drop().Append(answer(1, 0))}
	i := mustInstantiate(t, g.Bytes(), host.Limits{MemoryBytes: 64 * 65536}, oneOutput(""), nil)
	if _, _, err := run(t.Context(), i, host.Batch{}, value("a")); err != nil {
		t.Fatal(err)
	}
	if got := i.MemoryBytes(); got != 64*65536 {
		t.Errorf("memory has %d bytes, the limit is %d", got, 64*65536)
	}
}

func TestCompiledModulesAreShared(t *testing.T) {
	h := newHost(t, host.Options{})
	wasm := wasmtest.Guest{}.Bytes()
	var group sync.WaitGroup
	programs := make([]*host.Program, 8)
	for n := range programs {
		group.Go(func() {
			p, err := h.Compile(t.Context(), wasm, host.Limits{StackDepth: 1000 + n%2})
			if err != nil {
				t.Error(err)
			}
			programs[n] = p
		})
	}
	group.Wait()
	i, err := programs[0].Instantiate(t.Context(), oneOutput(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		for range 2 {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if _, _, err := run(t.Context(), i, host.Batch{}, value("a")); err != nil {
		t.Errorf("an instance of a closed program: %v", err)
	}
	if _, err := programs[0].Instantiate(t.Context(), oneOutput(""), nil); !errors.Is(err, host.ErrClosed) {
		t.Errorf("a closed program: got %v", err)
	}
	if _, err := h.Compile(t.Context(), wasm, host.Limits{}); err != nil {
		t.Errorf("compiled again: %v", err)
	}
}

func TestClosedHost(t *testing.T) {
	h := newHost(t, host.Options{})
	for range 2 {
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := h.Compile(t.Context(), wasmtest.Guest{}.Bytes(), host.Limits{}); !errors.Is(err, host.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestInterpreterGivesTheSameFuelAndOutputs(t *testing.T) {
	var fuel []int64
	for _, interpreter := range []bool{false, true} {
		h := newHost(t, host.Options{Interpreter: interpreter})
		p, err := h.Compile(t.Context(), wasmtest.Guest{}.Bytes(), host.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		i, err := p.Instantiate(t.Context(), oneOutput(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		outputs, result, err := run(t.Context(), i, host.Batch{}, value("a"), value("b"))
		if err != nil || len(outputs) != 2 || outputs[1].value != "b" {
			t.Errorf("interpreter %t: got %v, %v", interpreter, outputs, err)
		}
		fuel = append(fuel, result.Fuel)
	}
	if fuel[0] != fuel[1] {
		t.Errorf("compiled it takes %d units of fuel, interpreted %d", fuel[0], fuel[1])
	}
}

func TestCacheDirMustBePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := host.New(t.Context(), host.Options{CacheDir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("got %v, want an error that names the fix", err)
	}
}

func TestDamagedCacheIsRebuilt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	wasm := wasmtest.Guest{}.Bytes()
	compile := func() {
		t.Helper()
		h := newHost(t, host.Options{CacheDir: dir, Logger: slog.New(slog.DiscardHandler)})
		p, err := h.Compile(t.Context(), wasm, host.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		i, err := p.Instantiate(t.Context(), oneOutput(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		if outputs, _, err := run(t.Context(), i, host.Batch{}, value("a")); err != nil || len(outputs) != 1 {
			t.Fatalf("got %v, %v", outputs, err)
		}
	}
	compile()
	for name, damage := range map[string]func([]byte) []byte{
		"one bit":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			entries, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if err != nil || len(entries) == 0 {
				t.Fatalf("the cache has no entries (%v)", err)
			}
			for _, entry := range entries {
				b, err := os.ReadFile(entry)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(entry, damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			compile()
		})
	}
}

func TestModulesCompiledInAChildRun(t *testing.T) {
	if _, err := host.New(t.Context(), host.Options{ChildProcess: true}); err == nil {
		t.Error("a host without CacheDir is opened")
	}
	dir := filepath.Join(t.TempDir(), "cache")
	h := newHost(t, host.Options{CacheDir: dir, ChildProcess: true})
	p, err := h.Compile(t.Context(), wasmtest.Guest{}.Bytes(), host.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	i, err := p.Instantiate(t.Context(), oneOutput(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	if outputs, _, err := run(t.Context(), i, host.Batch{}, value("a")); err != nil || len(outputs) != 1 {
		t.Fatalf("got %v, %v", outputs, err)
	}
}
