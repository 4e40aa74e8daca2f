package module_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/millstream-io/millstream/runtime/module"
)

// compileC builds testdata/<name>.c with clang.
func compileC(t testing.TB, name string) []byte {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("SKIPPED: clang is not installed (Debian: clang lld)")
	}
	out := filepath.Join(t.TempDir(), name+".wasm")
	compile(t, exec.Command(clang, "--target=wasm32", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib",
		"-Wl,--no-entry", "-o", out, filepath.Join("testdata", name+".c")))
	return read(t, out)
}

func compile(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestCompiledCBehavesTheSame(t *testing.T) {
	wasm := compileC(t, "kernels")
	if err := module.CheckStructure(wasm, module.DefaultCaps(), nil); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(10) {
		newPair(t).sameBehaviour(t, wasm, rand.New(rand.NewPCG(seed, 0)))
	}
}

// Guests of Go and TinyGo compile for seconds, so -short leaves them out.
func TestCompiledGoBehavesTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles guests")
	}
	t.Run("go", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "guest.wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./testdata/goguest")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		compile(t, cmd)
		compareGuest(t, read(t, out))
	})
	t.Run("tinygo", func(t *testing.T) {
		tinygo, err := exec.LookPath("tinygo")
		if err != nil {
			t.Skip("SKIPPED: tinygo is not installed")
		}
		out := filepath.Join(t.TempDir(), "guest.wasm")
		compile(t, exec.Command(tinygo, "build", "-target=wasip1", "-buildmode=c-shared", "-scheduler=none", "-opt=2",
			"-llvm-features=+simd128", "-no-debug", "-o", out, "./testdata/goguest"))
		compareGuest(t, read(t, out))
	})
}

func compareGuest(t *testing.T, wasm []byte) {
	t.Helper()
	if err := module.CheckStructure(wasm, module.DefaultCaps(), func(string, string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	metered, err := module.Meter(wasm, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if calls := newPair(t).sameBehaviour(t, wasm, rand.New(rand.NewPCG(1, 0))); calls < 20 {
		t.Errorf("only %d calls were compared", calls)
	}
	t.Logf("%d bytes, metered %d", len(wasm), len(metered))
}
