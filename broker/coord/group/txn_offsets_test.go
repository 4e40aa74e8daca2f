package group

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
)

// onDisk is a coordinator with a journal in a topic.
type onDisk struct {
	t      *testing.T
	fs     *vfs.Mem
	topics *topic.Topics
	c      *Coordinator
}

func openOnDisk(t *testing.T, fs *vfs.Mem) *onDisk {
	t.Helper()
	d := &onDisk{t: t, fs: fs}
	var err error
	if d.topics, err = topic.Open(t.Context(), topic.Options{FS: fs, Dir: "/data"}); err != nil {
		t.Fatal(err)
	}
	if d.c, err = Open(t.Context(), Options{Topics: d.topics, JournalPartitions: 2}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *onDisk) close() {
	d.t.Helper()
	checkRoom(d.t, d.c)
	if err := errors.Join(d.c.Close(context.Background()), d.topics.Close(context.Background())); err != nil {
		d.t.Fatal(err)
	}
}

func (d *onDisk) hold(id Identity, producerID int64, offset int64) error {
	wait, err := d.c.CommitInTransaction(id, producerID, 0, map[TopicPartition]Offset{{"t", 0}: {Offset: offset, LeaderEpoch: -1}})
	if err == nil {
		err = wait(context.Background())
	}
	return err
}

func (d *onDisk) end(producerID int64, commit bool) {
	d.t.Helper()
	tp := d.c.TransactionPartition(groupName)
	for range 2 { // it may be repeated
		if _, err := d.c.EndTransaction(tp.Partition, producerID, 0, record.Marker{Commit: commit}); err != nil {
			d.t.Fatal(err)
		}
	}
}

// state is the committed offset, -1 if there is none, and whether it may still change.
func (d *onDisk) state() string {
	d.t.Helper()
	unstable, err := d.c.Unstable(groupName)
	if err != nil {
		d.t.Fatal(err)
	}
	offsets, err := d.c.Offsets(context.Background(), groupName, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	offset := int64(-1)
	if o, ok := offsets[TopicPartition{"t", 0}]; ok {
		offset = o.Offset
	}
	if unstable[TopicPartition{"t", 0}] {
		return fmt.Sprint(offset, " unstable")
	}
	return fmt.Sprint(offset)
}

// Offsets count in the order in which they were written, whichever transaction ends first.
func TestOffsetsInTransactions(t *testing.T) {
	hold := func(producerID, offset int64) func(d *onDisk) {
		return func(d *onDisk) {
			if err := d.hold(plain, producerID, offset); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	commit := func(producerID int64) func(d *onDisk) { return func(d *onDisk) { d.end(producerID, true) } }
	abort := func(producerID int64) func(d *onDisk) { return func(d *onDisk) { d.end(producerID, false) } }
	plainly := func(offset int64) func(d *onDisk) {
		return func(d *onDisk) {
			if err := d.c.Commit(context.Background(), plain, map[TopicPartition]Offset{{"t", 0}: {Offset: offset, LeaderEpoch: -1}}); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	remove := func(d *onDisk) {
		if err := d.c.Delete(context.Background(), groupName); err != nil {
			d.t.Fatal(err)
		}
	}
	forget := func(d *onDisk) {
		if err := d.c.ForgetTopic(context.Background(), "t"); err != nil {
			d.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		steps []func(d *onDisk)
		want  string
	}{
		"open":                           {[]func(*onDisk){hold(1, 5)}, "-1 unstable"},
		"open over an offset":            {[]func(*onDisk){plainly(3), hold(1, 5)}, "3 unstable"},
		"committed":                      {[]func(*onDisk){plainly(3), hold(1, 5), commit(1)}, "5"},
		"aborted":                        {[]func(*onDisk){plainly(3), hold(1, 5), abort(1)}, "3"},
		"aborted, nothing before":        {[]func(*onDisk){hold(1, 5), abort(1)}, "-1"},
		"the last of a transaction":      {[]func(*onDisk){hold(1, 5), hold(1, 6), commit(1)}, "6"},
		"a plain commit comes after":     {[]func(*onDisk){hold(1, 5), plainly(7), commit(1)}, "7"},
		"two, the first ends first":      {[]func(*onDisk){hold(1, 5), hold(2, 6), commit(1)}, "5 unstable"},
		"two, the second ends first":     {[]func(*onDisk){hold(1, 5), hold(2, 6), commit(2)}, "6"},
		"two, in order":                  {[]func(*onDisk){hold(1, 5), hold(2, 6), commit(1), commit(2)}, "6"},
		"two, not in order":              {[]func(*onDisk){hold(1, 5), hold(2, 6), commit(2), commit(1)}, "6"},
		"two, the second is aborted":     {[]func(*onDisk){hold(1, 5), hold(2, 6), abort(2), commit(1)}, "5"},
		"another transaction's end":      {[]func(*onDisk){hold(1, 5), commit(3)}, "-1 unstable"},
		"one after the other":            {[]func(*onDisk){hold(1, 5), commit(1), hold(1, 6), abort(1)}, "5"},
		"the group is deleted meanwhile": {[]func(*onDisk){plainly(3), hold(1, 5), remove, commit(1)}, "-1"},
		"the topic is deleted meanwhile": {[]func(*onDisk){hold(1, 5), forget, commit(1)}, "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openOnDisk(t, vfs.NewMem())
			for _, do := range c.steps {
				do(d)
			}
			if got := d.state(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			crashed := d.fs.CrashClone(1)
			d.close()
			for how, fs := range map[string]*vfs.Mem{"a stop": d.fs, "a power cut": crashed} {
				again := openOnDisk(t, fs)
				if got := again.state(); got != c.want {
					t.Errorf("after %s: %s, want %s", how, got, c.want)
				}
				again.close()
			}
		})
	}
}

// A producer that says of which member and generation it is, is held to it (KIP-447).
func TestZombiesInTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openOnDisk(t, vfs.NewMem())
		if err := d.hold(Identity{Group: groupName, MemberID: "m", Generation: 3}, 1, 5); !errors.Is(err, ErrIllegalGeneration) {
			t.Errorf("a member of no group: %v", err)
		}
		w := &world{t: t, c: d.c, members: map[string]*client{}}
		w.stable("a")
		member := w.member("a")
		for name, c := range map[string]struct {
			id   Identity
			want error
		}{
			"the member":         {member.identity(), nil},
			"an old generation":  {Identity{Group: groupName, MemberID: member.id, Generation: member.generation - 1}, ErrIllegalGeneration},
			"an unknown member":  {Identity{Group: groupName, MemberID: "zombie", Generation: member.generation}, ErrUnknownMember},
			"an old instance":    {Identity{Group: groupName, MemberID: member.id, InstanceID: "i", Generation: member.generation}, ErrUnknownMember},
			"it does not say":    {plain, nil},
			"too much metadata":  {plain, ErrMetadataTooLarge},
			"no group":           {Identity{Generation: -1}, ErrInvalidGroupID},
			"nothing to be done": {Identity{Group: "empty"}, nil},
		} {
			offsets := map[TopicPartition]Offset{{"t", 0}: {Offset: 1}}
			switch name {
			case "too much metadata":
				offsets[TopicPartition{"t", 1}] = Offset{Metadata: string(make([]byte, MaxMetadataBytes+1))}
			case "nothing to be done":
				offsets = nil
			}
			if _, err := d.c.CommitInTransaction(c.id, 1, 0, offsets); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		d.end(1, true)
		if got := d.state(); got != "1" {
			t.Errorf("offset %s", got)
		}
		d.close()
		synctest.Wait()
	})
}

// An offset that an open transaction will replace does not expire, nor does its group.
func TestExpiryWaitsForTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openOnDisk(t, vfs.NewMem())
		if err := d.hold(plain, 1, 5); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * defaultOffsetsRetention)
		synctest.Wait()
		if got := d.state(); got != "-1 unstable" {
			t.Errorf("offset %s", got)
		}
		d.end(1, true)
		if got := d.state(); got != "5" {
			t.Errorf("offset %s", got)
		}
		d.close()
		synctest.Wait()
	})
}
