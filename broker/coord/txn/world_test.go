package txn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id        = "id"
	groupName = "g"
)

// world is a coordinator over a disk, with topics "a" and "b" and a group.
type world struct {
	t      testing.TB
	topics *topic.Topics
	groups *group.Coordinator
	c      *Coordinator
}

func newWorld(t testing.TB, fs vfs.FS, o Options) *world {
	t.Helper()
	w, err := openWorld(t, fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func openWorld(t testing.TB, fs vfs.FS, o Options) (*world, error) {
	return openWorldIn(t, fs, "/data", o)
}

func openWorldIn(t testing.TB, fs vfs.FS, dir string, o Options) (w *world, err error) {
	w = &world{t: t}
	ctx := context.Background()
	if w.topics, err = topic.Open(ctx, topic.Options{FS: fs, Dir: dir}); err != nil {
		return w, err
	}
	for _, name := range []string{"a", "b"} {
		if _, ok := w.topics.Lookup(name); !ok {
			if _, err := w.topics.Create(ctx, name, 1, nil); err != nil {
				return w, err
			}
		}
	}
	if w.groups, err = group.Open(ctx, group.Options{Topics: w.topics, JournalPartitions: 1}); err != nil {
		return w, err
	}
	o.Topics, o.Offsets, o.JournalPartitions = w.topics, w.groups, 1
	w.c, err = Open(ctx, o)
	return w, err
}

// close leaves nothing running; what a disk that fails says then does not matter here.
func (w *world) close() error {
	ctx := context.Background()
	var err error
	if w.c != nil {
		err = w.c.Close(ctx)
	}
	if w.groups != nil {
		err = w.groups.Close(ctx)
	}
	if w.topics != nil {
		if e := w.topics.Close(ctx); e != nil {
			err = e
		}
	}
	return err
}

func (w *world) part(name string) *topic.Partition {
	w.t.Helper()
	p, err := w.topics.Partition(name, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) init(expected Producer) Producer {
	w.t.Helper()
	p, err := w.c.InitProducer(context.Background(), id, expected, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// write appends a record with the text of n to a topic, durably, as a client of version v does.
func (w *world) write(p Producer, v Version, name string, sequence int32, n int) error {
	ctx := context.Background()
	tp := Partition{Topic: name, Partition: 0}
	ticket, err := w.c.Add(id, p, v, tp)
	if err != nil {
		return err
	}
	part := w.part(name)
	if v == V1 { // the client waits for the answer to AddPartitionsToTxn
		if err := ticket.Durable(ctx); err != nil {
			return err
		}
	}
	var at topic.Appended
	err = w.c.Within(id, p, tp, func() (err error) {
		var b record.Builder
		b.Reset(nil, record.None)
		b.Append(time.Now().UnixMilli(), nil, fmt.Append(nil, n), nil, 0)
		b.SetProducer(p.ID, p.Epoch, sequence, true)
		at, err = part.Append(ctx, b.Finish(), topic.FromTransaction)
		return err
	})
	if err == nil {
		err = part.WaitDurable(ctx, at.LastOffset+1)
	}
	if err == nil {
		err = ticket.Durable(ctx)
	}
	return err
}

// offset commits n as the group's offset of a-0 within the transaction.
func (w *world) offset(p Producer, v Version, n int) error {
	ctx := context.Background()
	ticket, err := w.c.AddOffsets(id, p, v, groupName)
	if err != nil {
		return err
	}
	if v == V1 {
		if err := ticket.Durable(ctx); err != nil {
			return err
		}
	}
	var wait func(context.Context) error
	err = w.c.WithinOffsets(id, p, groupName, func() (err error) {
		wait, err = w.groups.CommitInTransaction(group.Identity{Group: groupName, Generation: -1}, p.ID, p.Epoch,
			map[group.TopicPartition]group.Offset{{Topic: "a"}: {Offset: int64(n), LeaderEpoch: -1}})
		return err
	})
	if err == nil {
		err = wait(ctx)
	}
	if err == nil {
		err = ticket.Durable(ctx)
	}
	return err
}

// committed are the records of a topic that a reader of committed records is shown.
func (w *world) committed(name string) string {
	w.t.Helper()
	p := w.part(name)
	batches, err := p.Read(nil, topic.ReadOptions{Offset: p.Offsets().LogStart, MaxBytes: 1 << 20, Committed: true})
	if err != nil {
		w.t.Fatal(err)
	}
	// As clients do: a producer is aborted from a transaction's first offset to the next marker.
	aborted, skipped := p.Aborted(batches), map[int64]bool{}
	var out []string
	for len(batches) > 0 {
		h, err := record.ParseHeader(batches)
		if err != nil {
			w.t.Fatal(err)
		}
		for len(aborted) > 0 {
			i := slices.IndexFunc(aborted, func(a topic.AbortedTransaction) bool { return a.FirstOffset <= h.LastOffset() })
			if i < 0 {
				break
			}
			skipped[aborted[i].ProducerID] = true
			aborted = slices.Delete(aborted, i, i+1)
		}
		switch {
		case h.Control():
			if m, _, _ := record.ParseMarker(batches); !m.Commit {
				delete(skipped, h.ProducerID)
			}
		case !skipped[h.ProducerID]:
			it, _, err := record.Iterate(batches[:h.Size()], nil, 1<<20)
			if err != nil {
				w.t.Fatal(err)
			}
			var r record.Record
			for it.Next(&r) {
				out = append(out, string(r.Value))
			}
		}
		batches = batches[h.Size():]
	}
	return strings.Join(out, " ")
}

// groupOffset is the group's committed offset, 0 if there is none.
func (w *world) groupOffset() int64 {
	w.t.Helper()
	offsets, err := w.groups.Offsets(context.Background(), groupName, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return offsets[group.TopicPartition{Topic: "a"}].Offset
}

func (w *world) state() string {
	w.t.Helper()
	d, err := w.c.Describe(id)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%v %d/%d", d.State, d.Producer, d.Epoch)
}

// stable reports whether nothing is open anywhere.
func (w *world) stable() bool {
	for _, p := range w.topics.Partitions() {
		if o := p.Offsets(); o.LastStable != o.HighWatermark || len(p.OpenTransactions()) > 0 {
			return false
		}
	}
	unstable, err := w.groups.Unstable(groupName)
	return err == nil && len(unstable) == 0
}
