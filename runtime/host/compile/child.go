package compile

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/tetratelabs/wazero"
)

// Main does the work of a child process and ends it, if args (os.Args) are a
// child's; otherwise it returns. Executables that use InChild call it before
// anything else.
func Main(args []string) {
	if len(args) < 2 || args[1] != ChildArgument {
		return
	}
	code, err := child(args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// child takes the cache directory, seconds of CPU time and bytes of memory.
func child(args []string) (exitCode int, err error) {
	if len(args) != 3 {
		return exitFailed, fmt.Errorf("%s is for the server's own use", ChildArgument)
	}
	seconds, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return exitFailed, fmt.Errorf("CPU time: %w", err)
	}
	memory, err := strconv.ParseUint(args[2], 10, 62)
	if err != nil {
		return exitFailed, fmt.Errorf("memory: %w", err)
	}
	if err := limitProcess(seconds, memory); err != nil {
		return exitFailed, fmt.Errorf("limits of the process: %w", err)
	}
	// Collect in time rather than meet the limit.
	debug.SetMemoryLimit(int64(memory / 4 * 3))

	wasm, err := io.ReadAll(os.Stdin)
	if err != nil {
		return exitFailed, fmt.Errorf("read the module: %w", err)
	}
	ctx := context.Background()
	cache, err := wazero.NewCompilationCacheWithDir(args[0])
	if err != nil {
		return exitFailed, fmt.Errorf("cache directory: %w", err)
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	if _, err := r.CompileModule(ctx, wasm); err != nil {
		return exitInvalid, err
	}
	return exitDone, nil
}
