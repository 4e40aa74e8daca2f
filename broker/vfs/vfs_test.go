package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
)

func put(t *testing.T, f FS, path, content string) File {
	t.Helper()
	file, err := f.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return file
}

func content(t *testing.T, f FS, path string) string {
	t.Helper()
	file, err := f.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return string(b)
}

// TestFileSystems runs the contract against every implementation.
func TestFileSystems(t *testing.T) {
	for _, c := range []struct {
		name string
		fs   FS
		dir  string
	}{
		{"os", OS{}, t.TempDir()},
		{"mem", NewMem(), "/data"},
		{"fault", &Fault{FS: NewMem()}, "/data"},
	} {
		t.Run(c.name, func(t *testing.T) { contract(t, c.fs, filepath.Join(c.dir, "a", "b")) })
	}
}

func contract(t *testing.T, f FS, dir string) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.MkdirAll(dir))
	check(f.MkdirAll(dir))
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	if _, err := f.Open(one); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of no file: %v", err)
	}
	file := put(t, f, one, "hello")
	if file.Path() != one {
		t.Fatalf("path %s", file.Path())
	}
	if _, err := file.WriteAt([]byte("world"), 7); err != nil {
		t.Fatal(err)
	}
	file.WriteOut(0, 12)
	file.WriteOut(4096, 1<<20) // nothing is there
	check(file.Sync())
	b := make([]byte, 4)
	if n, err := file.ReadAt(b, 10); n != 2 || err != io.EOF || string(b[:2]) != "ld" {
		t.Fatalf("read at the end: %d %v %q", n, err, b)
	}
	if n, err := file.ReadAt(b, 100); n != 0 || err != io.EOF {
		t.Fatalf("read behind the end: %d %v", n, err)
	}
	if got := content(t, f, one); got != "hello\x00\x00world" {
		t.Fatalf("%q", got)
	}
	check(file.Truncate(3))
	check(file.Truncate(4))
	if got := content(t, f, one); got != "hel\x00" {
		t.Fatalf("truncated: %q", got)
	}
	put(t, f, two, "old").Close()
	check(f.Rename(one, two))
	if got := content(t, f, two); got != "hel\x00" {
		t.Fatalf("renamed: %q", got)
	}
	check(file.Close())
	file.WriteOut(0, 4)
	if err := file.Sync(); err == nil {
		t.Fatal("sync of a closed file succeeds")
	}
	check(f.SyncDir(dir))
	names, err := f.List(dir)
	if err != nil || !slices.Equal(names, []string{"two"}) {
		t.Fatalf("%v %v", names, err)
	}
	if _, err := f.List(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("list of no directory: %v", err)
	}
	if err := f.Remove(one); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("remove of no file: %v", err)
	}
	lock, err := f.Lock(filepath.Join(dir, "lock"))
	check(err)
	if _, err := f.Lock(filepath.Join(dir, "lock")); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	check(lock.Close())
	lock, err = f.Lock(filepath.Join(dir, "lock"))
	check(err)
	check(lock.Close())
	if free, err := f.FreeBytes(dir); err != nil || free <= 0 {
		t.Fatalf("free: %d %v", free, err)
	}
	check(f.Remove(two))
	check(f.RemoveAll(dir))
	check(f.RemoveAll(dir))
	if _, err := f.List(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("list after removal: %v", err)
	}
}

// TestCrashLosesWhatWasNotSynced: seed 0 is the strictest reading of POSIX.
func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	m := NewMem()
	if err := m.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	expect := func(step, path, want string) {
		t.Helper()
		if got := content(t, m.CrashClone(0), path); got != want {
			t.Fatalf("%s: %s holds %q after a crash, want %q", step, path, got, want)
		}
	}
	a := put(t, m, "/d/a", "one")
	a.WriteOut(0, 3)
	m.SyncDir("/d")
	expect("written out, not synced", "/d/a", "")
	m.Remove("/d/a")
	m.SyncDir("/d")
	a = put(t, m, "/d/a", "one")
	expect("created", "/d/a", "(none)")
	a.Sync()
	expect("file synced, name not", "/d/a", "(none)")
	m.SyncDir("/d")
	expect("both synced", "/d/a", "one")
	a.WriteAt([]byte("two!"), 0)
	expect("overwritten", "/d/a", "one")
	a.Truncate(1)
	expect("cut", "/d/a", "one")
	a.Sync()
	expect("synced", "/d/a", "t")
	m.Rename("/d/a", "/d/b")
	expect("renamed", "/d/a", "t")
	expect("renamed", "/d/b", "(none)")
	m.SyncDir("/d")
	expect("rename synced", "/d/a", "(none)")
	expect("rename synced", "/d/b", "t")
	m.Remove("/d/b")
	expect("removed", "/d/b", "t")
	m.SyncDir("/d")
	expect("removal synced", "/d/b", "(none)")
}

// TestCrashCloneKeepsMadeDirectories: what is made under a name that was taken by something else before, and whose
// directory is synced by that, is there after a power cut.
func TestCrashCloneKeepsMadeDirectories(t *testing.T) {
	m := NewMem()
	if err := errors.Join(m.MkdirAll("/d/p"), m.Rename("/d/p", "/d/aside"), m.MkdirAll("/d/p")); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(50) {
		if _, err := m.CrashClone(seed).List("/d/p"); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestClone: kill -9 loses nothing, but what was not synced stays at risk.
func TestClone(t *testing.T) {
	m := NewMem()
	m.MkdirAll("/d")
	a := put(t, m, "/d/a", "one")
	a.Sync()
	m.SyncDir("/d")
	a.WriteAt([]byte("two"), 0)
	put(t, m, "/d/b", "b")
	c := m.Clone()
	a.WriteAt([]byte("xxx"), 0)
	for _, want := range []struct {
		fs            FS
		path, content string
	}{
		{c, "/d/a", "two"}, {c, "/d/b", "b"}, {c.CrashClone(0), "/d/a", "one"}, {c.CrashClone(0), "/d/b", "(none)"},
	} {
		if got := content(t, want.fs, want.path); got != want.content {
			t.Errorf("%s holds %q, want %q", want.path, got, want.content)
		}
	}
}

// TestCrashChoices: over many seeds an unsynced write is lost, kept and torn; one seed always gives one state.
func TestCrashChoices(t *testing.T) {
	m := NewMem()
	m.MkdirAll("/d")
	f := put(t, m, "/d/f", "")
	f.Sync()
	m.SyncDir("/d")
	whole := bytes.Repeat([]byte("x"), 4*sectorBytes)
	f.WriteAt(whole, 0)
	put(t, m, "/d/new", "n")
	seen := map[string]bool{}
	for seed := uint64(1); seed < 200; seed++ {
		c := m.CrashClone(seed)
		got := content(t, c, "/d/f")
		if got != content(t, m.CrashClone(seed), "/d/f") {
			t.Fatalf("seed %d gives two states", seed)
		}
		switch {
		case got == "":
			seen["lost"] = true
		case got == string(whole):
			seen["kept"] = true
		default:
			seen["torn"] = true
		}
		seen["new "+content(t, c, "/d/new")] = true
	}
	for _, want := range []string{"lost", "kept", "torn", "new (none)", "new n"} {
		if !seen[want] {
			t.Errorf("no seed of 200 gives %q: %v", want, seen)
		}
	}
	if got := content(t, m, "/d/f"); got != string(whole) {
		t.Errorf("the original changed to %q", got)
	}
}

func TestMemCapacity(t *testing.T) {
	m := NewMem()
	m.SetCapacity(10)
	f := put(t, m, "/f", "12345678")
	if n, err := f.WriteAt([]byte("abcd"), 8); n != 0 || !errors.Is(err, ErrNoSpace) {
		t.Fatalf("%d %v, want a write that fails", n, err)
	}
	if size, err := f.Size(); size != 10 || err != nil {
		t.Fatalf("%d bytes, %v: want a part of the write to be there", size, err)
	}
	if _, err := f.WriteAt([]byte("ABCD"), 0); err != nil {
		t.Fatalf("overwriting needs no space: %v", err)
	}
	if free, _ := m.FreeBytes("/"); free != 0 {
		t.Fatalf("%d bytes free", free)
	}
	f.Truncate(4)
	if _, err := f.WriteAt([]byte("123456"), 4); err != nil {
		t.Fatal(err)
	}
	m.Remove("/f")
	if free, _ := m.FreeBytes("/"); free != 10 {
		t.Fatalf("%d bytes free after the removal", free)
	}
}

func TestFault(t *testing.T) {
	boom := errors.New("boom")
	isWrite := func(op Op) bool { return op.Kind == OpWrite }
	f := &Fault{FS: NewMem(), Decide: FailNth(2, isWrite, boom)}
	file := put(t, f, "/f", "one")
	if _, err := file.WriteAt([]byte("two"), 0); !errors.Is(err, boom) {
		t.Fatalf("%v", err)
	}
	if _, err := file.WriteAt([]byte("x"), 0); err != nil {
		t.Fatalf("only the second one fails: %v", err)
	}
	f.Decide = func(op Op) error { return ShortWrite{Bytes: 2, Err: ErrNoSpace} }
	if n, err := file.WriteAt([]byte("ABC"), 0); n != 0 || !errors.Is(err, ErrNoSpace) {
		t.Fatalf("%d %v", n, err)
	}
	f.Decide = func(op Op) error { return Ignore }
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if n, err := file.WriteAt([]byte("zzz"), 0); n != 3 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	f.Decide = nil
	if got := content(t, f, "/f"); got != "ABe" {
		t.Fatalf("%q", got)
	}
}
