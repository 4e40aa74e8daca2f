package host

import (
	"context"
	"runtime"
	"testing"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// Who waits for code that another builds does not fail because that one's request was cancelled.
func TestCompileOutlivesTheBuildersContext(t *testing.T) {
	h, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background()) //nolint:errcheck // nothing depends on it
	wasm := wasmtest.Guest{}.Bytes()
	builders, _, err := h.acquire(programKey{module.DigestOf(wasm), DefaultLimits().StackDepth})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		_, err := h.Compile(t.Context(), wasm, Limits{})
		result <- err
	}()
	for waiting := false; !waiting; runtime.Gosched() {
		h.mu.Lock()
		waiting = builders.users == 2
		h.mu.Unlock()
	}
	builders.err, builders.abandoned = context.Canceled, true
	close(builders.ready)
	if err := h.release(t.Context(), builders); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Errorf("got %v", err)
	}
}
