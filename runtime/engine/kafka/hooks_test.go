package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// newClient is a client for the length of a test.
func newClient(t testing.TB, brokers []string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(20 * time.Millisecond)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// toRecords makes records for one partition.
func toRecords(topic string, partition int32, records []engine.Record) (list []*kgo.Record) {
	for _, r := range records {
		x := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			x.Headers = append(x.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		list = append(list, x)
	}
	return list
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// outsider is what tests do to a cluster as ordinary clients of it.
type outsider struct{ brokers []string }

// produce writes records as an ordinary producer does: as one batch, with one codec.
func (c outsider) produce(t testing.TB, topic string, partition int32, codec string, records []engine.Record) {
	t.Helper()
	client := newClient(t, c.brokers, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(time.Millisecond))
	if err := client.ProduceSync(t.Context(), toRecords(topic, partition, records)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func (c outsider) grow(t testing.TB, topic string, partitions int) {
	t.Helper()
	client := newClient(t, c.brokers)
	answers, err := kadm.NewClient(client).UpdatePartitions(t.Context(), partitions, topic)
	if err == nil {
		err = answers.Error()
	}
	var p pauses
	for known := false; err == nil && !known; {
		_, no, _ := newCluster(client).poll(t.Context(), topic, partitions)
		if known = no == 0; !known {
			err = p.wait(t.Context())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readUncommitted reads whatever is in a partition.
func (c outsider) readUncommitted(t testing.TB, topic string, partition int32) (records []engine.Record) {
	t.Helper()
	client := newClient(t, c.brokers, kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, partition)
	for at := int64(0); at < end.Offset; {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, engine.Record{Offset: r.Offset, Key: r.Key, Value: r.Value})
			}
		})
	}
	return records
}

// transaction writes records in a transaction of an ordinary producer.
func (c outsider) transaction(t testing.TB, topic string, partition int32, records []engine.Record) (end func(commit bool)) {
	t.Helper()
	client := newClient(t, c.brokers, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("foreign-"+string(records[0].Value)))
	err := client.BeginTransaction()
	if err == nil {
		err = client.ProduceSync(t.Context(), toRecords(topic, partition, records)...).FirstErr()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(commit bool) {
		if err := client.EndTransaction(context.Background(), kgo.TransactionEndTry(commit)); err != nil {
			t.Error(err)
		}
	}
}

// takeOver initialises a producer with a transactional id.
func (c outsider) takeOver(t testing.TB, id string) {
	t.Helper()
	client := newClient(t, c.brokers)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &id, 60_000, -1, -1
	err := retry(t.Context(), time.Minute, func() error {
		answer, err := req.RequestWith(t.Context(), client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.ErrorCode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// expel makes the members leave a group without their knowing.
func (c outsider) expel(t testing.TB, group string) {
	t.Helper()
	client := newClient(t, c.brokers)
	described, err := kadm.NewClient(client).DescribeGroups(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range described[group].Members {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group, req.MemberID = group, m.MemberID
		leaving := kmsg.NewLeaveGroupRequestMember()
		leaving.MemberID = m.MemberID
		req.Members = append(req.Members, leaving)
		if _, err := req.RequestWith(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
}

// cable is a network that can be cut.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

var errCut = errors.New("the cable is cut")

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut {
		return nil, errCut
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		conn.Close()
		return nil, errCut
	}
	c.conns[conn] = true
	return conn, nil
}

// breakIt cuts the cable until mend is called.
func (c *cable) breakIt(testing.TB) (mend func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cut = false
	}
}
