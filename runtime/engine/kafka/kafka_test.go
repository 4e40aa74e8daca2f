package kafka

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testRebalanceTimeout is short: a test waits for it to pass.
const testRebalanceTimeout = 3 * time.Second

// openEngine opens an engine over a cluster until the end of the test.
func openEngine(t testing.TB, o Options) *kafka {
	t.Helper()
	if o.RebalanceTimeout == 0 {
		o.RebalanceTimeout = testRebalanceTimeout
	}
	if o.SessionTimeout == 0 {
		o.SessionTimeout = 6 * time.Second
	}
	if testing.Verbose() && o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	k, err := open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := k.close(ctx); err != nil {
			t.Error(err)
		}
	})
	return k
}

// subject is an engine over a cluster, with an ordinary producer beside it.
func subject(t *testing.T, o Options) enginetest.Subject {
	t.Helper()
	k := openEngine(t, o)
	return enginetest.Subject{
		Engine: k,
		Produce: func(t testing.TB, topic string, partition int32, codec string, records []engine.Record) {
			t.Helper()
			produce(t, o.Brokers, topic, partition, codec, records)
		},
		Grow: func(t testing.TB, topic string, partitions int) {
			t.Helper()
			admin := kadm.NewClient(k.cluster.client)
			answers, err := admin.UpdatePartitions(context.Background(), partitions, topic)
			if err == nil {
				err = answers.Error()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		RebalanceTimeout: k.o.RebalanceTimeout,
	}
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// produce writes records as an ordinary producer does: as one batch, with one codec.
func produce(t testing.TB, brokers []string, topic string, partition int32, codec string, records []engine.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var list []*kgo.Record
	for _, r := range records {
		x := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			x.Headers = append(x.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		list = append(list, x)
	}
	if err := client.ProduceSync(context.Background(), list...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestContract runs the engine over our own broker.
func TestContract(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		_, address := brokertest.Serve(t, broker.Options{})
		return subject(t, Options{Brokers: []string{address}})
	})
}
