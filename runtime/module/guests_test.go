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
