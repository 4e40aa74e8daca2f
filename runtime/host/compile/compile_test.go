package compile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/millstream-io/millstream/runtime/host/compile"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

func TestMain(m *testing.M) {
	compile.Main(os.Args)
	os.Exit(m.Run())
}

func metered(t *testing.T, wasm []byte) []byte {
	t.Helper()
	if _, err := module.Check(wasm, module.DefaultCaps(), func(string, string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	out, err := module.Meter(wasm, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestChildFillsTheCacheThatTheParentReads(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "cache")
	wasm := metered(t, wasmtest.Guest{}.Bytes())
	if err := compile.InChild(ctx, wasm, dir, compile.Limits{}); err != nil {
		t.Fatal(err)
	}
	filled := entries(t, dir)
	if len(filled) != 1 {
		t.Fatalf("cache has %q", filled)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("cache directory: %v %v", info.Mode(), err)
	}

	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	defer r.Close(ctx)
	if _, err := r.CompileModule(ctx, wasm); err != nil {
		t.Fatal(err)
	}
	if after := entries(t, dir); len(after) != 1 {
		t.Errorf("the parent did not find the child's entry: %q", after)
	}

	// A module that passed needs no child: limits that no child could live with do not matter.
	if err := compile.InChild(ctx, wasm, dir, compile.Limits{MemoryBytes: 1 << 20}); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestWideDirectoryIsNarrowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := compile.InChild(context.Background(), metered(t, wasmtest.Guest{}.Bytes()), dir, compile.Limits{}); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode().Perm())
	}
}

// bomb passes the check and takes the compiler long: variables that change in nested loops.
func bomb() []byte {
	type C = wasmtest.Code
	const loops, locals = 60, 990
	types := make([]wasmtest.ValType, locals)
	for i := range types {
		types[i] = wasmtest.I32
	}
	body := C{}
	for range loops {
		body = body.Loop(wasmtest.NoResult)
	}
	for i := range uint32(locals) {
		body = body.LocalGet(i).LocalGet((i + 7) % locals).Op(wasmtest.I32Add).I32Const(int32(i)).Op(wasmtest.I32Xor).LocalSet(i)
	}
	for range loops {
		body = body.LocalGet(0).BrIf(0).End()
	}
	b := wasmtest.Guest{}.Builder()
	for range 30 {
		b.Func(nil, nil, types, body)
	}
	return b.Bytes()
}

func TestBombsAreRefusedAndLeaveNothing(t *testing.T) {
	wasm := metered(t, bomb())
	tests := []struct {
		name   string
		limits compile.Limits
		want   string
	}{
		{"CPU time", compile.Limits{CPUTime: time.Second, WallTime: time.Minute}, "CPU time"},
		{"wall time", compile.Limits{WallTime: 100 * time.Millisecond}, "longer than 100ms"},
		{"memory", compile.Limits{MemoryBytes: 24 << 20, CPUTime: time.Minute, WallTime: time.Minute}, "MiB of memory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			err := compile.InChild(context.Background(), wasm, dir, test.limits)
			var refusal *module.Refusal
			if !errors.As(err, &refusal) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want a refusal with %q", err, test.want)
			}
			for _, file := range entries(t, dir) {
				if !strings.HasSuffix(file, ".tmp") {
					t.Errorf("%s was left in the cache", file)
				}
			}
		})
	}
}

func TestInvalidModuleIsRefusedWithTheCompilersReason(t *testing.T) {
	b := wasmtest.Guest{}.Builder()
	b.Func(nil, nil, nil, wasmtest.Code{}.I64Const(1).Op(wasmtest.I32Add).Drop())
	err := compile.InChild(context.Background(), metered(t, b.Bytes()), t.TempDir(), compile.Limits{})
	if !errors.Is(err, module.ErrRefused) || !strings.Contains(err.Error(), "type") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := compile.InChild(ctx, metered(t, wasmtest.Guest{}.Bytes()), t.TempDir(), compile.Limits{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestExecutableThatDoesNotCallMainIsNamed(t *testing.T) {
	t.Setenv("MILLSTREAM_COMPILE_CHILD", "1")
	err := compile.InChild(context.Background(), []byte("x"), t.TempDir(), compile.Limits{})
	if err == nil || !strings.Contains(err.Error(), "does not call compile.Main") {
		t.Errorf("got %v", err)
	}
}
