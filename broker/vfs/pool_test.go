package vfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
)

// handles counts the files that are open below a pool.
type handles struct {
	vfs.FS
	mu   sync.Mutex
	open int
	most int
	deny bool
}

func (h *handles) count(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open++
	h.most = max(h.most, h.open)
	return &handle{f, h}, nil
}

func (h *handles) Create(path string) (vfs.File, error) { return h.count(h.FS.Create(path)) }

func (h *handles) Open(path string) (vfs.File, error) {
	if h.deny {
		return nil, errors.New("too many open files")
	}
	return h.count(h.FS.Open(path))
}

type handle struct {
	vfs.File
	h *handles
}

func (f *handle) Close() error {
	f.h.mu.Lock()
	f.h.open--
	f.h.mu.Unlock()
	return f.File.Close()
}

// TestPoolAgainstPlain does the same random operations with and without a
// pool that is far too small: files, names and contents must be the same.
func TestPoolAgainstPlain(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		h := &handles{FS: vfs.NewMem()}
		pool, plain := vfs.NewPool(h, 3), vfs.NewMem()
		systems := []vfs.FS{pool, plain}
		for _, s := range systems {
			must(t, s.MkdirAll("/d/e"))
		}
		var files [][2]vfs.File
		name := func() string { return fmt.Sprintf("/d/%sf%d", []string{"", "e/"}[rng.IntN(2)], rng.IntN(6)) }
		for step := range 300 {
			results := [2]string{}
			kind, a, b := rng.IntN(10), name(), name()
			at, n := rng.Int64N(50), rng.IntN(len(files)+1)
			var opened [2]vfs.File
			for i, s := range systems {
				var err error
				switch {
				case kind < 2:
					opened[i], err = s.Create(a)
				case kind == 2:
					opened[i], err = s.Open(a)
				case kind == 3:
					err = s.Rename(a, b)
				case kind == 4:
					err = s.Remove(a)
				case n == len(files):
				case kind == 5:
					err = files[n][i].Close()
				case kind == 6:
					err = files[n][i].Sync()
				case kind == 7:
					_, err = files[n][i].WriteAt([]byte{byte(step)}, at)
				case kind == 8:
					err = files[n][i].Truncate(at)
				default:
					buf := make([]byte, 64)
					var got int
					got, err = files[n][i].ReadAt(buf, 0)
					results[i] = fmt.Sprint(buf[:got])
				}
				results[i] += fmt.Sprint(err != nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrClosed))
			}
			if results[0] != results[1] {
				t.Fatalf("seed %d, step %d, kind %d: pool %s, plain %s", seed, step, kind, results[0], results[1])
			}
			if opened[0] != nil {
				files = append(files, opened)
			}
			if h.open != pool.OpenFiles() {
				t.Fatalf("seed %d, step %d: %d files are open, the pool counts %d", seed, step, h.open, pool.OpenFiles())
			}
		}
		for _, f := range files {
			_ = f[0].Close()
		}
		if h.open != 0 {
			t.Fatalf("seed %d: %d files are left open", seed, h.open)
		}
	}
}

func TestPoolKeepsTheLimit(t *testing.T) {
	h := &handles{FS: vfs.NewMem()}
	pool := vfs.NewPool(h, 10)
	must(t, pool.MkdirAll("/d"))
	files := make([]vfs.File, 100)
	for i := range files {
		f, err := pool.Create(fmt.Sprint("/d/", i))
		must(t, err)
		_, err = f.WriteAt([]byte{byte(i)}, 0)
		must(t, err)
		if i%2 == 0 {
			vfs.MarkExpendable(f)
		} else {
			must(t, f.Sync())
		}
		files[i] = f
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, 1))
			for range 1000 {
				i := rng.IntN(len(files))
				var b [1]byte
				if _, err := files[i].ReadAt(b[:], 0); err != nil || b[0] != byte(i) {
					t.Errorf("file %d reads %d, %v", i, b[0], err)
				}
			}
		})
	}
	wg.Wait()
	if h.most > 10+4 { // each reader may hold one
		t.Errorf("%d files were open at once", h.most)
	}
}

// What a failing write-back did to bytes that were not synced is told to who opened the file before, and to him only.
func TestPoolKeepsUnsyncedFilesOpen(t *testing.T) {
	h := &handles{FS: vfs.NewMem()}
	pool := vfs.NewPool(h, 2)
	must(t, pool.MkdirAll("/d"))
	dirty, err := pool.Create("/d/dirty")
	must(t, err)
	_, err = dirty.WriteAt([]byte("x"), 0)
	must(t, err)
	other, err := pool.Create("/d/other")
	must(t, err)
	for i := range 5 {
		f, err := pool.Create(fmt.Sprint("/d/", i))
		must(t, err)
		must(t, f.Sync())
	}
	h.deny = true
	if err := dirty.Sync(); err != nil {
		t.Errorf("a file with unsynced writes was closed: %v", err)
	}
	if _, err := other.ReadAt(make([]byte, 1), 0); !errors.Is(err, vfs.ErrNotOpened) {
		t.Errorf("a file that cannot be opened again: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
