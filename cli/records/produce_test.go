package records_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/records"
)

// serve runs a broker over a file system and returns its address.
func serve(t *testing.T, fs vfs.FS) string {
	t.Helper()
	b, err := broker.Open(t.Context(), broker.Options{FS: fs, Dir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = b.Close(ctx) // what a test broke may not close in order
		<-served
	})
	return l.Addr().String()
}

// produce runs the command over an input.
func produce(t *testing.T, input io.Reader, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &command.Env{In: input, Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	err := command.NewApp(env, "", records.NewProduce(env)).Run(t.Context(), append([]string{"produce"}, args...))
	return out.String(), errs.String(), command.ExitCode(err)
}

// A broker that answers is not one that cannot be reached: what it answers is told.
func TestProduceTellsWhyTheBrokerRefuses(t *testing.T) {
	t.Run("a full disk", func(t *testing.T) {
		fs := vfs.NewMem()
		address := serve(t, fs)
		if _, errs, code := produce(t, strings.NewReader("one\n"), "notes", "--brokers", address); code != 0 {
			t.Fatal(errs)
		}
		fs.SetCapacity(0)
		_, errs, code := produce(t, strings.NewReader("two\nthree\n"), "notes", "--brokers", address)
		for _, want := range []string{"2 records of topic \"notes\" not written", "disk full: KAFKA_STORAGE_ERROR", "topic delete-records"} {
			if !strings.Contains(errs, want) {
				t.Errorf("no %q in %q", want, errs)
			}
		}
		if code != command.CodeFailed {
			t.Errorf("exit %d", code)
		}
		fs.SetCapacity(-1)
		if _, errs, code := produce(t, strings.NewReader("four\n"), "notes", "--brokers", address); code != 0 {
			t.Errorf("with room again: exit %d, %s", code, errs)
		}
	})
	t.Run("a broken disk", func(t *testing.T) {
		var broken atomic.Bool
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if broken.Load() && op.Kind == vfs.OpSync {
				return io.ErrUnexpectedEOF
			}
			return nil
		}}
		address := serve(t, fs)
		if _, errs, code := produce(t, strings.NewReader("one\n"), "notes", "--brokers", address); code != 0 {
			t.Fatal(errs)
		}
		broken.Store(true)
		_, errs, code := produce(t, strings.NewReader("two\n"), "notes", "--brokers", address)
		if code != command.CodeFailed || !strings.Contains(errs, "cannot write to its disk: KAFKA_STORAGE_ERROR") || !strings.Contains(errs, "the server's log") {
			t.Errorf("exit %d, %s", code, errs)
		}
	})
	t.Run("a record that is too large", func(t *testing.T) {
		address := serve(t, vfs.NewMem())
		_, errs, code := produce(t, strings.NewReader(strings.Repeat("x", 2<<20)), "notes", "--brokers", address)
		if code != command.CodeFailed || !strings.Contains(errs, "max.message.bytes") {
			t.Errorf("exit %d, %s", code, errs)
		}
	})
}
