package commitlog

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
)

// TestReserveMakesRoom: without a byte left, the start of a log can be moved all the same, which makes room; also after a restart.
func TestReserveMakesRoom(t *testing.T) {
	mem := vfs.NewMem()
	reserve := NewReserve(mem, "/RESERVE", slog.New(slog.DiscardHandler))
	build := func(dir string, r *Reserve) *Log {
		l, err := Open(t.Context(), Options{FS: mem, Dir: dir, Config: Config{SegmentBytes: 300}, Reserve: r})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.shut)
		for i := range 5 {
			mustAppend(t, l, batch(int64(i), strings.Repeat("x", 200)))
		}
		return l
	}
	l, poor := build("/rich", reserve), build("/poor", nil)
	mem.SetCapacity(capacityFor(mem, l, 0))
	if err := poor.AdvanceStart(3); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a log without a reserve: %v", err)
	}
	if err := l.AdvanceStart(2); err != nil {
		t.Errorf("with a reserve: %v", err)
	}
	restarted := NewReserve(mem, "/RESERVE", slog.New(slog.DiscardHandler))
	if restarted.size != reserveBytes-reservePiece {
		t.Errorf("%d bytes are left of the reserve after a restart", restarted.size)
	}
	mem.SetCapacity(capacityFor(mem, l, 0))
	l.o.Reserve = restarted
	if err := l.AdvanceStart(3); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	mem.SetCapacity(-1)
	if err := l.AdvanceStart(4); err != nil || restarted.size != reserveBytes {
		t.Errorf("%d bytes are reserved once there is room: %v", restarted.size, err)
	}
}

// TestReserveRunsOut: when it does not help, the error is that of the disk.
func TestReserveRunsOut(t *testing.T) {
	mem := vfs.NewMem()
	reserve := NewReserve(mem, "/RESERVE", slog.New(slog.DiscardHandler))
	calls := 0
	err := reserve.Lend(func() error { calls++; return vfs.ErrNoSpace })
	if !errors.Is(err, vfs.ErrNoSpace) || calls != 1+reserveBytes/reservePiece {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := reserve.Lend(func() error { return nil }); err != nil || reserve.size != reserveBytes {
		t.Errorf("%d bytes are reserved once there is room: %v", reserve.size, err)
	}
	var none *Reserve
	if err := none.Lend(func() error { return vfs.ErrNoSpace }); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("none: %v", err)
	}
}

// quota is a file system that has less room than it says.
type quota struct{ *vfs.Mem }

func (quota) FreeBytes(string) (int64, error) { return 1 << 40, nil }

// TestReserveUnderQuota: who tries to fill the reserve up in vain, which a quota does not tell before, loses nothing of it.
func TestReserveUnderQuota(t *testing.T) {
	mem := vfs.NewMem()
	reserve := NewReserve(mem, "/RESERVE", slog.New(slog.DiscardHandler))
	reserve.fs = quota{mem}
	mem.SetCapacity(reserveBytes)
	err := reserve.Lend(func() error {
		f, err := mem.Create("/few")
		if err == nil {
			_, err = f.WriteAt([]byte("x"), 0)
		}
		return err
	})
	if err != nil || reserve.size != reserveBytes-reservePiece {
		t.Errorf("%d bytes are left after a piece was lent: %v", reserve.size, err)
	}
	if free, _ := mem.FreeBytes("/"); free != reservePiece-1 {
		t.Errorf("%d bytes of the piece are for others", free)
	}
}

// TestReserveTroubleIsToldOnce: it is not logged again with each checkpoint that a reserve cannot be made, but again once it could.
func TestReserveTroubleIsToldOnce(t *testing.T) {
	mem := vfs.NewMem()
	var log bytes.Buffer
	reserve := NewReserve(mem, "/missing/RESERVE", slog.New(slog.NewTextHandler(&log, nil)))
	nothing := func() error { return nil }
	for range 3 {
		if err := reserve.Lend(nothing); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytes.Count(log.Bytes(), []byte("no room is reserved")); n != 1 {
		t.Errorf("it is told %d times:\n%s", n, log.String())
	}
	if err := mem.MkdirAll("/missing"); err != nil {
		t.Fatal(err)
	}
	if err := reserve.Lend(nothing); err != nil || reserve.size != reserveBytes || reserve.told {
		t.Errorf("%d bytes are reserved once there can be: %v", reserve.size, err)
	}
}

// TestReserveOpensLogs: a log that has to finish a compaction when it is opened can be opened on a full disk.
func TestReserveOpensLogs(t *testing.T) {
	mem := vfs.NewMem()
	reserve := NewReserve(mem, "/RESERVE", slog.New(slog.DiscardHandler))
	l := open(t, mem, Config{})
	mustAppend(t, l, batch(1, "a"))
	if err := writeCheckpoint(mem, l.Dir(), checkpoint{replacing: &offsetRange{0, 1}}); err != nil {
		t.Fatal(err)
	}
	l.shut()
	mem.SetCapacity(capacityFor(mem, l, 0))
	if _, err := Open(t.Context(), Options{FS: mem, Dir: l.Dir()}); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("without a reserve: %v", err)
	}
	l, err := Open(t.Context(), Options{FS: mem, Dir: l.Dir(), Reserve: reserve})
	if err != nil {
		t.Fatal(err)
	}
	expectEntries(t, l, "0=a")
	l.shut()
}
