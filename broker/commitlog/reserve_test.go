package commitlog

import (
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
