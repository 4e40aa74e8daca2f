package embedded

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// hinted counts the bytes of logs that a file system is asked to write out.
type hinted struct {
	vfs.FS
	bytes atomic.Int64
}

func (h *hinted) Create(path string) (vfs.File, error) {
	f, err := h.FS.Create(path)
	if err != nil || filepath.Ext(path) != ".log" {
		return f, err
	}
	return &hintedFile{f, h}, nil
}

type hintedFile struct {
	vfs.File
	fs *hinted
}

func (f *hintedFile) WriteOut(_, n int64) { f.fs.bytes.Add(n) }

// TestDiskBeginsAheadOfTheCommit: a large transaction does not leave all of its bytes to the commit, a small one does.
func TestDiskBeginsAheadOfTheCommit(t *testing.T) {
	ctx := context.Background()
	fs := &hinted{FS: vfs.NewMem()}
	l, s, m := oneSession(t, fs, engine.ExactlyOnce)
	defer l.close(t)
	defer m.Leave(ctx)
	if err := s.Begin([]string{"out"}); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, aheadBytes)
	produce := func(bytes int) {
		t.Helper()
		for done := 0; done < bytes; done += len(value) {
			if err := s.ProduceTo(ctx, "out", engine.Record{Timestamp: 1, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
	}
	flusher := s.(*session).txn.flusher
	produce(flushBytes / 2)
	flusher.stop()
	if n := fs.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are written out before there are %d", n, flushBytes)
	}
	produce(flushBytes)
	flusher.stop()
	if n := fs.bytes.Load(); n < flushBytes/2 || n > 2*flushBytes {
		t.Errorf("%d bytes are written out, want about %d", n, flushBytes)
	}
	if err := s.Abort(ctx); err != nil {
		t.Fatal(err)
	}
}
