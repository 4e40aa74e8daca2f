package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/host/compile"
	"github.com/millstream-io/millstream/sdk/abi"
)

// guestDir is where the test binary builds its guests, once each.
var guestDir string

func TestMain(m *testing.M) {
	compile.Main(os.Args)
	dir, err := os.MkdirTemp("", "millstream-host-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	guestDir = dir
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

var (
	buildGo     = sync.OnceValues(func() ([]byte, error) { return build("go.wasm", "testdata/goguest", goCommand) })
	buildTinyGo = sync.OnceValues(func() ([]byte, error) { return build("tinygo.wasm", "testdata/goguest", tinyGoCommand("precise")) })
	buildC      = sync.OnceValues(func() ([]byte, error) { return build("c.wasm", "testdata/cguest", clangCommand) })
)

func goCommand(out string) *exec.Cmd {
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, ".")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	return cmd
}

func tinyGoCommand(gc string) func(string) *exec.Cmd {
	return func(out string) *exec.Cmd {
		cmd := exec.Command("tinygo", "build", "-target=wasip1", "-buildmode=c-shared", "-scheduler=none", "-gc="+gc,
			"-opt=2", "-llvm-features=+simd128", "-no-debug", "-o", out, ".")
		cmd.Env = append(os.Environ(), "GOWORK=off")
		return cmd
	}
}

func clangCommand(out string) *exec.Cmd {
	return exec.Command("clang", "--target=wasm32", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib", "-Wl,--no-entry", "-o", out, "guest.c")
}

func build(name, dir string, command func(out string) *exec.Cmd) ([]byte, error) {
	out := filepath.Join(guestDir, name)
	cmd := command(out)
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, text)
	}
	return os.ReadFile(out)
}

// built returns a guest, or skips the test, saying so, when its compiler is not there.
func built(t testing.TB, builder func() ([]byte, error)) []byte {
	t.Helper()
	wasm, err := builder()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("guest not built: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// eachGoGuest runs f with the Go guest of every Go compiler that is there.
func eachGoGuest(t *testing.T, f func(t *testing.T, wasm []byte)) {
	t.Run("go", func(t *testing.T) { f(t, built(t, buildGo)) })
	t.Run("tinygo", func(t *testing.T) { f(t, built(t, buildTinyGo)) })
}

func newHost(t testing.TB, o host.Options) *host.Host {
	t.Helper()
	h, err := host.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return h
}

// cacheDir is what the hosts of all tests share: a standard-Go guest takes a
// second to compile, and many under the race detector.
func cacheDir() string { return filepath.Join(guestDir, "cache") }

// logLines collects what a guest logs.
type logLines []string

func (l *logLines) add(level slog.Level, line string) { *l = append(*l, level.String()+" "+line) }

// instantiate makes an instance of wasm in a host of its own.
func instantiate(t testing.TB, wasm []byte, limits host.Limits, setup host.Setup, log host.LogFunc) (*host.Instance, error) {
	t.Helper()
	h := newHost(t, host.Options{CacheDir: cacheDir()})
	p, err := h.Compile(t.Context(), wasm, limits)
	if err != nil {
		t.Fatal(err)
	}
	return p.Instantiate(t.Context(), setup, log)
}

func mustInstantiate(t testing.TB, wasm []byte, limits host.Limits, setup host.Setup, log host.LogFunc) *host.Instance {
	t.Helper()
	i, err := instantiate(t, wasm, limits, setup, log)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// oneOutput is the setup of most tests.
func oneOutput(mode string) host.Setup {
	return host.Setup{
		Deployment: "d", Inputs: []string{"in"}, Outputs: []string{"out"},
		Config: map[string]string{"mode": mode},
	}
}

// output is an abi.Output as a value to compare.
type output struct {
	input, index int
	timestamp    int64
	key, value   string // "<null>" for null
	headers      string
}

// run passes records through i and decodes what comes out.
func run(ctx context.Context, i *host.Instance, b host.Batch, records ...abi.Record) ([]output, host.Result, error) {
	var encoded []byte
	for n := range records {
		encoded = abi.AppendRecord(encoded, &records[n])
	}
	view, err := i.Input(ctx, len(encoded))
	if err != nil {
		return nil, host.Result{}, err
	}
	copy(view, encoded)
	b.Count, b.SizeBytes = len(records), len(encoded)
	if b.Now.IsZero() {
		b.Now = time.UnixMilli(1_700_000_000_000)
	}
	b.Timestamps = make([]int64, len(records))
	for n := range records {
		b.Timestamps[n] = records[n].Timestamp
	}
	result, err := i.Process(ctx, b)
	if err != nil {
		return nil, result, err
	}
	var outputs []output
	var o abi.Output
	for result.Outputs.Next(&o) {
		var headers []string
		for rest := o.Headers; ; {
			var name, value []byte
			var ok bool
			if name, value, rest, ok = abi.NextHeader(rest); !ok {
				break
			}
			headers = append(headers, string(name)+"="+text(value))
		}
		outputs = append(outputs, output{
			input: o.Input, index: o.Index, timestamp: o.Timestamp,
			key: text(o.Key), value: text(o.Value), headers: strings.Join(headers, " "),
		})
	}
	return outputs, result, nil
}

func text(p []byte) string {
	if p == nil {
		return "<null>"
	}
	return string(p)
}

func value(s string) abi.Record { return abi.Record{Value: []byte(s)} }

// trapOf returns the trap that err is, or fails.
func trapOf(t *testing.T, err error, kind host.TrapKind) *host.Trap {
	t.Helper()
	var trap *host.Trap
	if !errors.As(err, &trap) {
		t.Fatalf("got error %v, want a trap of kind %s", err, kind)
	}
	if trap.Kind != kind {
		t.Fatalf("got %v, want kind %s", trap, kind)
	}
	return trap
}

func asTrap(err error, into *host.Trap) bool {
	var trap *host.Trap
	if errors.As(err, &trap) {
		*into = *trap
		return true
	}
	return false
}
