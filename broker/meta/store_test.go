package meta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/vfs"
)

func open(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{FS: fs, Dir: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func TestStoreSurvivesPowerCuts(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	if len(s.ClusterID()) != 22 {
		t.Errorf("cluster id %q", s.ClusterID())
	}
	var last int64
	for i := range 3 {
		topic := Topic{Name: fmt.Sprint("t", i), ID: [16]byte{byte(i)}, Partitions: i + 1, Configs: map[string]string{"retention.ms": fmt.Sprint(i)}}
		if err := s.PutTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		id, err := s.NewProducerID(t.Context())
		if err != nil || (i > 0 && id != last+1) {
			t.Fatalf("producer id %d after %d, %v", id, last, err)
		}
		last = id
	}
	if err := s.PutTopic(t.Context(), Topic{Name: "t1", ID: [16]byte{1}, Partitions: 9, Deleting: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.DropTopic(t.Context(), "t2"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.PutGroupConfigs(t.Context(), "g", map[string]string{"a": "1"}), s.PutGroupConfigs(t.Context(), "h", map[string]string{"a": "2"}),
		s.PutGroupConfigs(t.Context(), "h", nil), s.PutGroupConfigs(t.Context(), "never", nil)); err != nil {
		t.Fatal(err)
	}
	want := "[{t0 [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0] 1 map[retention.ms:0] false} {t1 [1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0] 9 map[] true}]"
	for seed := range uint64(4) {
		again := open(t, fs.CrashClone(seed))
		if got := fmt.Sprint(again.Topics()); got != want {
			t.Errorf("seed %d: %s, want %s", seed, got, want)
		}
		if got := fmt.Sprint(again.GroupConfigs()); got != "map[g:map[a:1]]" {
			t.Errorf("seed %d: configs of groups %s", seed, got)
		}
		if again.ClusterID() != s.ClusterID() {
			t.Errorf("seed %d: cluster id %s, was %s", seed, again.ClusterID(), s.ClusterID())
		}
		if id, err := again.NewProducerID(t.Context()); err != nil || id <= last {
			t.Errorf("seed %d: producer id %d after %d, %v", seed, id, last, err)
		}
	}
}

func TestProducerIDsAcrossBlocks(t *testing.T) {
	s := open(t, vfs.NewMem())
	for want := range int64(2*producerIDBlock + 5) {
		if got, err := s.NewProducerID(t.Context()); err != nil || got != want {
			t.Fatalf("%d, want %d: %v", got, want, err)
		}
	}
}

// What is not durable is not answered, and not visible.
func TestFailedWriteChangesNothing(t *testing.T) {
	broken := errors.New("disk is gone")
	disk := &vfs.Fault{FS: vfs.NewMem()}
	s := open(t, disk)
	disk.Decide = func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return broken
		}
		return nil
	}
	if err := s.PutTopic(t.Context(), Topic{Name: "t", Partitions: 1}); !errors.Is(err, broken) {
		t.Errorf("put: %v", err)
	}
	if got := s.Topics(); len(got) != 0 {
		t.Errorf("topics %v", got)
	}
	if err := s.PutTopic(t.Context(), Topic{Name: "t", Partitions: 1}); !errors.Is(err, commitlog.ErrFailed) {
		t.Errorf("put after a failed fsync: %v", err)
	}
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"topic/a", `{"id":"00000000000000000000000000000001","partitions":1,"new field":true}`, true},
		{"topic/a", `{"id":"01","partitions":1}`, false},
		{"topic/a", `{"id":"00000000000000000000000000000001","partitions":0}`, false},
		{"topic/a", `no json`, false},
		{"group/g", `{"configs":{"a":"1"}}`, true},
		{"group/g", `no json`, false},
		{"cluster", `{"id":""}`, false},
		{"producer-ids", `{"next":-1}`, false},
		{"key of a newer release", `whatever`, true},
	} {
		s := &Store{topics: map[string]Topic{}, groups: map[string]map[string]string{}}
		if err := s.apply([]byte(c.key), []byte(c.value)); (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrCorrupt)) {
			t.Errorf("%s=%s: %v", c.key, c.value, err)
		}
	}
}

// TestFullDisk: with the reserve a topic can be changed and deleted without a byte left; what takes more room leaves it alone.
func TestFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	reserve := commitlog.NewReserve(fs, "/RESERVE", slog.New(slog.DiscardHandler))
	s, err := Open(t.Context(), Options{FS: fs, Dir: "/data", Reserve: reserve})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	there := Topic{Name: "there", ID: [16]byte{1}, Partitions: 1}
	if err := s.PutTopic(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	fs.SetCapacity(1 << 30)
	free, _ := fs.FreeBytes("/")
	fs.SetCapacity(1<<30 - free)
	if err := s.PutTopic(t.Context(), Topic{Name: "new", ID: [16]byte{2}, Partitions: 1}); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a new topic: %v", err)
	}
	if _, err := s.NewProducerID(t.Context()); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a producer id: %v", err)
	}
	there.Deleting = true
	if err := errors.Join(s.PutTopic(t.Context(), there), s.DropTopic(t.Context(), "there")); err != nil {
		t.Errorf("a deletion: %v", err)
	}
	if len(s.Topics()) != 0 {
		t.Errorf("there are %v", s.Topics())
	}
}
