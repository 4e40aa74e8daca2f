package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, fs vfs.FS, change ...func(*Options)) *Topics {
	t.Helper()
	o := Options{FS: fs, Dir: "/data"}
	for _, f := range change {
		f(&o)
	}
	topics, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topics.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return topics
}

func create(t *testing.T, topics *Topics, name string, partitions int, configs map[string]string) *Partition {
	t.Helper()
	if _, err := topics.Create(t.Context(), name, partitions, configs); err != nil {
		t.Fatal(err)
	}
	p, err := topics.Partition(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// batch builds a batch with one record per value at the given times.
func batch(codec record.Codec, timestamps ...int64) []byte {
	var b record.Builder
	b.Reset(nil, codec)
	for i, ts := range timestamps {
		b.Append(ts, fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "value %d", i), record.AppendHeader(nil, []byte("h"), []byte("v")), 1)
	}
	return b.Finish()
}

func fresh(n int) []byte {
	ts := make([]int64, n)
	for i := range ts {
		ts[i] = time.Now().UnixMilli()
	}
	return batch(record.None, ts...)
}

func TestValidateName(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a.b_c-D9": true, strings.Repeat("x", 249): true, "...": true,
		"": false, ".": false, "..": false, strings.Repeat("x", 250): false, "a b": false, "ä": false, "a/b": false, "a\x00": false} {
		if err := ValidateName(name); (err == nil) != ok || (err != nil && !errors.Is(err, ErrInvalidName)) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestConfigs(t *testing.T) {
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{"cleanup.policy", "compact,delete", true}, {"cleanup.policy", "compact, delete", true}, {"cleanup.policy", "", false}, {"cleanup.policy", "none", false},
		{"retention.ms", "-1", true}, {"retention.ms", "0", true}, {"retention.ms", "-2", false}, {"retention.ms", "1e3", false}, {"retention.ms", "9223372036854775808", false},
		{"segment.bytes", "1024", true}, {"segment.bytes", "1", false}, {"segment.bytes", "4294967296", false},
		{"min.cleanable.dirty.ratio", "0", true}, {"min.cleanable.dirty.ratio", "1.1", false}, {"min.cleanable.dirty.ratio", "NaN", false},
		{"message.timestamp.type", "LogAppendTime", true}, {"message.timestamp.type", "logappendtime", false},
		{"preallocate", "true", true}, {"preallocate", "yes", false},
		{"max.compaction.lag.ms", "1", true}, {"max.compaction.lag.ms", "0", false}, {"min.compaction.lag.ms", "9223372036854775807", true},
		{"min.insync.replicas", "2", true}, {"segment.index.bytes", "52428800", true}, {"leader.replication.throttled.replicas", "0:1", true},
		{"retention", "1", false}, {"", "1", false},
	} {
		table, err := newConfigTable(map[string]string{c.name: c.value})
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrInvalidConfig)) {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
		if err == nil {
			table.settings(nil)
		}
	}
	table, err := newConfigTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ConfigDefs() {
		if err := d.check(d.Default); err != nil {
			t.Errorf("the default of %s: %v", d.Name, err)
		}
		if d.Doc == "" {
			t.Errorf("%s has no text", d.Name)
		}
	}
	// A value of 0 is 0, and not the commit log's default.
	s := table.settings(map[string]string{"retention.ms": "0", "delete.retention.ms": "0", "file.delete.delay.ms": "0", "min.cleanable.dirty.ratio": "0"})
	if c := s.log; c.RetentionAge > time.Millisecond || c.TombstoneAge > time.Millisecond || c.DeleteDelay > time.Millisecond || c.MinDirtyRatio > 1e-9 ||
		c.RetentionAge == 0 || c.TombstoneAge == 0 || c.DeleteDelay == 0 || c.MinDirtyRatio == 0 {
		t.Errorf("zeros became %+v", c)
	}
	lags := map[string]string{ConfigMinCompactionLag: "1000", ConfigMaxCompactionLag: "999"}
	if _, err := newConfigTable(lags); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("%v: %v", lags, err)
	}
}

func TestTopicsOverRestarts(t *testing.T) {
	for name, stop := range map[string]func(t *testing.T, fs *vfs.Mem, topics *Topics) *vfs.Mem{
		"clean": func(t *testing.T, fs *vfs.Mem, topics *Topics) *vfs.Mem {
			if err := topics.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return fs
		},
		"power cut":      func(_ *testing.T, fs *vfs.Mem, _ *Topics) *vfs.Mem { return fs.CrashClone(0) },
		"power cut torn": func(_ *testing.T, fs *vfs.Mem, _ *Topics) *vfs.Mem { return fs.CrashClone(7) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			topics := open(t, fs)
			create(t, topics, "kept", 2, map[string]string{"retention.ms": "5000"})
			create(t, topics, "deleted", 3, nil)
			create(t, topics, "recreated", 1, nil)
			before, _ := topics.Lookup("recreated")
			for _, n := range []string{"deleted", "recreated"} {
				if err := topics.Delete(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			create(t, topics, "recreated", 1, nil)
			if err := topics.AddPartitions(t.Context(), "kept", 4); err != nil {
				t.Fatal(err)
			}
			if err := topics.SetConfigs(t.Context(), "kept", map[string]string{"retention.ms": "7000"}); err != nil {
				t.Fatal(err)
			}
			want := topics.List()
			again := open(t, stop(t, fs, topics))
			if got := again.List(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("topics %v, want %v", got, want)
			}
			if got, _ := again.Lookup("recreated"); got.ID == before.ID {
				t.Error("a new topic has the id of the old one")
			}
			if v, own := again.ConfigValue("kept", "retention.ms"); v != "7000" || !own {
				t.Errorf("retention.ms is %s", v)
			}
			if p, err := again.Partition("kept", 3); err != nil || p.TopicID() != want[0].ID {
				t.Errorf("partition 3: %v", err)
			}
			if _, err := again.Partition("kept", 4); !errors.Is(err, ErrUnknownPartition) {
				t.Errorf("partition 4: %v", err)
			}
			if _, err := again.Partition("deleted", 0); !errors.Is(err, ErrUnknownTopic) {
				t.Errorf("deleted topic: %v", err)
			}
		})
	}
}

// At whatever operation the disk fails for good, a restart finds each topic whole or not at all.
func TestCreateAndDeleteCutAnywhere(t *testing.T) {
	broken := errors.New("disk is gone")
	for n := int64(1); ; n++ {
		mem := vfs.NewMem()
		steady := open(t, mem)
		create(t, steady, "a", 2, nil)
		if err := steady.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var count atomic.Int64
		failing := &vfs.Fault{FS: mem, Decide: func(op vfs.Op) error {
			if op.Kind.Mutates() {
				if count.Add(1) >= n {
					return broken
				}
			}
			return nil
		}}
		topics, err := Open(t.Context(), Options{FS: failing, Dir: "/data"})
		var made, gone error = broken, broken
		if err == nil {
			_, made = topics.Create(t.Context(), "b", 2, nil)
			gone = topics.Delete(t.Context(), "a")
			_ = topics.Close(context.Background())
		}
		again := open(t, mem.CrashClone(uint64(n)))
		if _, ok := again.Lookup("b"); !ok && made == nil {
			t.Errorf("cut at %d: topic b was created and is lost", n)
		}
		if _, ok := again.Lookup("a"); ok && gone == nil {
			t.Errorf("cut at %d: topic a was deleted and is back", n)
		}
		for _, info := range again.List() {
			for i := range int32(info.Partitions) {
				p, err := again.Partition(info.Name, i)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Append(t.Context(), fresh(1), FromClient); err != nil {
					t.Errorf("cut at %d: append to %s-%d: %v", n, info.Name, i, err)
				}
			}
		}
		if made == nil && gone == nil && count.Load() < n {
			return
		}
	}
}

func TestStrangersDirectoryIsSetAside(t *testing.T) {
	fs := vfs.NewMem()
	topics := open(t, fs)
	if err := fs.MkdirAll("/data/notes-0"); err != nil {
		t.Fatal(err)
	}
	if f, err := fs.Create("/data/notes-0/precious"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	create(t, topics, "notes", 1, nil)
	names, err := fs.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "notes-0.stray-") {
		t.Errorf("the directory holds %s", all)
	}
}

func TestWatchAndNotify(t *testing.T) {
	topics := open(t, vfs.NewMem())
	wake := make(chan struct{}, 1)
	told := func(what string, want bool) {
		t.Helper()
		select {
		case <-wake:
			if !want {
				t.Errorf("told of %s", what)
			}
		default:
			if want {
				t.Errorf("not told of %s", what)
			}
		}
	}
	cancel := topics.Watch(wake)
	p := create(t, topics, "notes", 1, nil)
	told("creation", true)
	if err := topics.AddPartitions(t.Context(), "notes", 2); err != nil {
		t.Fatal(err)
	}
	told("growth", true)
	cancel()
	cancel()
	create(t, topics, "other", 1, nil)
	told("creation after cancel", false)

	cancel1, cancel2 := p.Notify(wake), p.Notify(wake)
	for range 2 {
		if _, err := p.Append(t.Context(), fresh(2), FromClient); err != nil {
			t.Fatal(err)
		}
	}
	told("appends", true)
	told("appends twice, the channel has room for one", false)
	cancel1()
	if low, err := p.DeleteRecords(1); err != nil || low != 1 {
		t.Fatal(low, err)
	}
	told("deleted records", true)
	if _, err := p.DeleteRecords(5); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Errorf("delete before 5 of 4: %v", err)
	}
	if low, err := p.DeleteRecords(-1); err != nil || low != 4 {
		t.Errorf("delete all: %d, %v", low, err)
	}
	told("deleted records", true)
	if err := topics.Delete(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	told("deletion", true)
	cancel2()
	if _, err := p.Read(nil, ReadOptions{Offset: 4}); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("read of a deleted topic: %v", err)
	}
	if _, err := p.Append(t.Context(), fresh(1), FromClient); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("append to a deleted topic: %v", err)
	}
}

func TestRead(t *testing.T) {
	p := create(t, open(t, vfs.NewMem()), "notes", 1, nil)
	for range 3 {
		if _, err := p.Append(t.Context(), fresh(2), FromClient); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		offset      int64
		first, last int64 // -1: nothing
		err         error
	}{{0, 0, 5, nil}, {1, 0, 5, nil}, {2, 2, 5, nil}, {5, 4, 5, nil}, {6, -1, -1, nil}, {7, 0, 0, commitlog.ErrOffsetOutOfRange}, {-1, 0, 0, commitlog.ErrOffsetOutOfRange}} {
		b, err := p.Read([]byte("kept"), ReadOptions{Offset: c.offset, MaxBytes: 1 << 20})
		if !errors.Is(err, c.err) || !strings.HasPrefix(string(b), "kept") {
			t.Errorf("offset %d: %v", c.offset, err)
			continue
		}
		first, last := int64(-1), int64(-1)
		for b = b[4:]; len(b) > 0; {
			h, err := record.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			if first < 0 {
				first = h.BaseOffset
			}
			last, b = h.LastOffset(), b[h.Size():]
		}
		if err == nil && (first != c.first || last != c.last) {
			t.Errorf("offset %d: %d to %d, want %d to %d", c.offset, first, last, c.first, c.last)
		}
	}
}

// Old segments go in the background, and readers are told.
func TestRetentionInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, err := Open(t.Context(), Options{FS: vfs.NewMem(), Dir: "/data"})
		if err != nil {
			t.Fatal(err)
		}
		p := create(t, topics, "notes", 1, map[string]string{"retention.ms": "60000"})
		if _, err := p.Append(t.Context(), fresh(3), FromClient); err != nil {
			t.Fatal(err)
		}
		wake := make(chan struct{}, 1)
		defer p.Notify(wake)()
		time.Sleep(50 * time.Second) // bubble
		if got := p.Offsets().LogStart; got != 0 {
			t.Errorf("after 50 s the log starts at %d", got)
		}
		time.Sleep(30 * time.Second) // bubble
		if got := p.Offsets().LogStart; got != 3 {
			t.Errorf("after 80 s the log starts at %d", got)
		}
		if len(wake) != 1 {
			t.Error("readers were not told")
		}
		if err := topics.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Idempotence survives a clean stop, a power cut, and the loss of the snapshot.
func TestProducersOverRestarts(t *testing.T) {
	fs := vfs.NewMem()
	topics := open(t, fs)
	p := create(t, topics, "notes", 1, nil)
	send := func(p *Partition, sequence int32) (Appended, error) {
		var b record.Builder
		b.Reset(nil, record.None)
		b.SetProducer(9, 0, sequence, false)
		b.Append(time.Now().UnixMilli(), nil, []byte("v"), nil, 0)
		return p.Append(t.Context(), b.Finish(), FromClient)
	}
	for i := range int32(3) {
		if at, err := send(p, i); err != nil || at.BaseOffset != int64(i) {
			t.Fatal(at, err)
		}
	}
	if err := p.WaitDurable(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(0)
	if err := topics.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	without := fs.CrashClone(3)
	_ = without.Remove("/data/notes-0/" + snapshotName)
	damaged := fs.CrashClone(0)
	f, err := damaged.Create("/data/notes-0/" + snapshotName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("MSPS0001 this is no snapshot"), 0); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	for name, fs := range map[string]vfs.FS{"clean": fs, "power cut": crashed, "snapshot lost": without, "snapshot damaged": damaged} {
		t.Run(name, func(t *testing.T) {
			p, err := open(t, fs).Partition("notes", 0)
			if err != nil {
				t.Fatal(err)
			}
			if at, err := send(p, 1); err != nil || at.BaseOffset != 1 {
				t.Errorf("sequence 1 again: %+v, %v", at, err)
			}
			if _, err := send(p, 4); err == nil {
				t.Error("a gap was taken")
			}
			if at, err := send(p, 3); err != nil || at.BaseOffset != 3 {
				t.Errorf("sequence 3: %+v, %v", at, err)
			}
		})
	}
}

// A damaged log is told and keeps only its own partition offline; the topic can still be deleted.
func TestDamagedPartition(t *testing.T) {
	fs := vfs.NewMem()
	topics := open(t, fs)
	p := create(t, topics, "notes", 2, map[string]string{"segment.bytes": "1024"})
	for range 5 {
		if _, err := p.Append(t.Context(), fresh(20), FromClient); err != nil {
			t.Fatal(err)
		}
	}
	if err := topics.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("/data/notes-0")
	if err != nil {
		t.Fatal(err)
	}
	removed := false
	for _, name := range names[1:] { // a segment in the middle is lost
		if strings.HasSuffix(name, ".log") && !strings.HasPrefix(name, "00000000000000000000") && !removed {
			removed = fs.Remove("/data/notes-0/"+name) == nil
		}
	}
	again := open(t, fs)
	if _, err := again.Partition("notes", 0); !removed || !errors.Is(err, commitlog.ErrCorrupt) {
		t.Errorf("damaged partition (segment removed: %v): %v", removed, err)
	}
	if _, err := again.Partition("notes", 1); err != nil {
		t.Errorf("the other partition: %v", err)
	}
	if err := again.SetConfigs(t.Context(), "notes", nil); err != nil {
		t.Error(err)
	}
	if err := again.Delete(t.Context(), "notes"); err != nil {
		t.Errorf("delete: %v", err)
	}
	create(t, again, "notes", 2, nil)
}

func TestTooManyPartitions(t *testing.T) {
	topics, err := Open(t.Context(), Options{FS: vfs.NewMem(), Dir: "/data", MaxPartitions: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close(context.Background())
	create := func(name string, n int) error { _, err := topics.Create(t.Context(), name, n, nil); return err }
	for _, step := range []struct {
		what string
		do   func() error
		want error
	}{
		{"three", func() error { return create("a", 3) }, nil},
		{"three more", func() error { return create("b", 3) }, ErrTooManyPartitions},
		{"one more", func() error { return create("b", 1) }, nil},
		{"growth by two", func() error { return topics.AddPartitions(t.Context(), "a", 5) }, ErrTooManyPartitions},
		{"growth by one", func() error { return topics.AddPartitions(t.Context(), "a", 4) }, nil},
		{"deletion", func() error { return topics.Delete(t.Context(), "a") }, nil},
		{"room again", func() error { return create("c", 4) }, nil},
	} {
		if err := step.do(); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.what, err, step.want)
		}
	}
}
