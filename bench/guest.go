package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed guest/guest.c
var guestSource []byte

// buildGuest compiles the benchmark's guest with clang.
func buildGuest(dir string) ([]byte, error) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		return nil, fmt.Errorf("the benchmark's guest needs clang and lld (Debian: apt-get install clang lld): %w", err)
	}
	src, out := filepath.Join(dir, "guest.c"), filepath.Join(dir, "guest.wasm")
	if err := os.WriteFile(src, guestSource, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(clang, "--target=wasm32", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib",
		"-Wl,--no-entry", "-Wl,-z,stack-size=65536", "-o", out, src)
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("clang: %w\n%s", err, b)
	}
	return os.ReadFile(out)
}
