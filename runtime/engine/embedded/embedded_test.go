package embedded

import (
	"context"
	"errors"
	"log/slog"
	"testing"

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
		return enginetest.Subject{
			Engine:  l.engine,
			Produce: l.produce,
			Grow: func(tb testing.TB, name string, partitions int) {
				if err := l.topics.AddPartitions(context.Background(), name, partitions); err != nil {
					tb.Fatal(err)
				}
			},
			Delivery:         delivery,
			RebalanceTimeout: l.engine.(*embedded).rejoin,
		}
	})
}
