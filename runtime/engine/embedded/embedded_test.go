package embedded

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/enginetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is a broker without sockets.
type log struct {
	topics *topic.Topics
	groups *group.Coordinator
	txns   *txn.Coordinator
	engine engine.Engine
}

// openLog opens a broker over fs.
func openLog(tb testing.TB, fs vfs.FS, dir string) *log {
	tb.Helper()
	l, err := tryOpenLog(fs, dir)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func tryOpenLog(fs vfs.FS, dir string) (*log, error) {
	ctx := context.Background()
	if err := fs.MkdirAll(dir); err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	topics, err := topic.Open(ctx, topic.Options{FS: fs, Dir: dir, Logger: quiet})
	if err != nil {
		return nil, err
	}
	groups, err := group.Open(ctx, group.Options{Topics: topics, Logger: quiet})
	if err != nil {
		return nil, errors.Join(err, topics.Close(ctx))
	}
	txns, err := txn.Open(ctx, txn.Options{Topics: topics, Offsets: groups, Logger: quiet})
	if err != nil {
		return nil, errors.Join(err, groups.Close(ctx), topics.Close(ctx))
	}
	return &log{topics: topics, groups: groups, txns: txns, engine: New(topics, groups, txns, Options{Logger: quiet})}, nil
}

func (l *log) close(tb testing.TB) {
	tb.Helper()
	if err := l.txns.Close(context.Background()); err != nil {
		tb.Error(err)
	}
	if err := l.groups.Close(context.Background()); err != nil {
		tb.Error(err)
	}
	if err := l.topics.Close(context.Background()); err != nil {
		tb.Error(err)
	}
}

var codecs = map[string]record.Codec{"none": record.None, "gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd}

// batchOf is a batch as a producer makes it.
func batchOf(codec string, records []engine.Record) []byte {
	var b record.Builder
	b.Reset(nil, codecs[codec])
	for i := range records {
		r := &records[i]
		b.Append(r.Timestamp, r.Key, r.Value, appendHeaders(nil, r.Headers), len(r.Headers))
	}
	return b.Finish()
}

func (l *log) produce(tb testing.TB, name string, partition int32, codec string, records []engine.Record) {
	tb.Helper()
	p, err := l.topics.Partition(name, partition)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := p.Append(context.Background(), batchOf(codec, records), topic.FromClient); err != nil {
		tb.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	for name, delivery := range deliveries {
		t.Run(name, func(t *testing.T) { contract(t, delivery) })
	}
}

func contract(t *testing.T, delivery engine.Delivery) {
	enginetest.RunInBubble(t, func(t *testing.T) enginetest.Subject {
		l := openLog(t, vfs.NewMem(), "data")
		t.Cleanup(func() { l.close(t) })
		return l.subject(delivery)
	})
}

func (l *log) subject(delivery engine.Delivery) enginetest.Subject {
	return enginetest.Subject{
		Engine:  l.engine,
		Produce: l.produce,
		Grow: func(tb testing.TB, name string, partitions int) {
			if err := l.topics.AddPartitions(context.Background(), name, partitions); err != nil {
				tb.Fatal(err)
			}
		},
		Remake: func(tb testing.TB, name string, partitions int) {
			err := l.topics.Delete(context.Background(), name)
			if err == nil {
				_, err = l.topics.Create(context.Background(), name, partitions, map[string]string{"retention.ms": "-1"})
			}
			if err != nil {
				tb.Fatal(err)
			}
		},
		Delivery:         delivery,
		RebalanceTimeout: l.engine.(*embedded).rejoin,
		Another:          func(testing.TB) engine.Engine { return New(l.topics, l.groups, l.txns, Options{}) },
		ReadUncommitted:  l.uncommitted,
		Transaction:      l.foreign,
		TakeOver:         func(tb testing.TB, id string) { l.takeOver(tb, id) },
		Expel:            l.expel,
	}
}

// uncommitted reads whatever is in a partition.
func (l *log) uncommitted(tb testing.TB, name string, partition int32) (records []engine.Record) {
	tb.Helper()
	p, err := l.topics.Partition(name, partition)
	if err != nil {
		tb.Fatal(err)
	}
	for at, end := p.Offsets().LogStart, p.Offsets().LogEnd; at < end; {
		var f fetch
		if f.raw, err = p.Read(nil, topic.ReadOptions{Offset: at, MaxBytes: 1 << 20}); err == nil {
			err = f.load(at, 1<<20)
		}
		if err != nil {
			tb.Fatal(err)
		}
		for i := range f.Len() {
			records = append(records, f.Record(i))
		}
		at = f.next()
	}
	return records
}

func (l *log) takeOver(tb testing.TB, id string) txn.Producer {
	tb.Helper()
	p, err := l.txns.InitProducer(context.Background(), id, txn.NoProducer, time.Minute)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// foreign is a producer with a transaction, as it would come through the network.
func (l *log) foreign(tb testing.TB, name string, partition int32, records []engine.Record) (end func(commit bool)) {
	tb.Helper()
	id := "foreign-" + string(records[0].Value)
	p := l.takeOver(tb, id)
	to, err := l.topics.Partition(name, partition)
	if err == nil {
		_, err = l.txns.Add(id, p, txn.V2, txn.Partition{Topic: name, Partition: partition})
	}
	if err == nil {
		var b record.Builder
		b.Reset(nil, record.None)
		b.SetProducer(p.ID, p.Epoch, 0, true)
		for _, r := range records {
			b.Append(r.Timestamp, r.Key, r.Value, nil, 0)
		}
		_, err = to.Append(context.Background(), b.Finish(), topic.FromTransaction)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return func(commit bool) {
		if _, err := l.txns.End(context.Background(), id, p, commit, txn.V2); err != nil {
			tb.Error(err)
		}
	}
}

func (l *log) expel(tb testing.TB, name string) {
	tb.Helper()
	d, err := l.groups.Describe(name)
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range d.Members {
		if err := l.groups.Leave(context.Background(), group.Identity{Group: name, MemberID: m.MemberID, Generation: -1}, "expelled"); err != nil {
			tb.Error(err)
		}
	}
}
