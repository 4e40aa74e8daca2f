package dlq

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

type cluster struct {
	t       *testing.T
	brokers connect.Brokers
	client  *kgo.Client
}

func newCluster(t *testing.T, topics ...string) *cluster {
	t.Helper()
	_, address := brokertest.Serve(t, broker.Options{})
	c := &cluster{t: t, brokers: connect.Brokers{Addresses: address}}
	var err error
	c.client, err = c.brokers.Open(t.Context(), append(stream.Options(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	c.ok(err)
	t.Cleanup(c.client.Close)
	for _, topic := range topics {
		_, err := kadm.NewClient(c.client).CreateTopics(t.Context(), 2, 1, nil, topic)
		c.ok(err)
	}
	return c
}

func (c *cluster) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) produce(topic string, partition int32, r engine.Record) {
	c.t.Helper()
	out := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	c.ok(c.client.ProduceSync(c.t.Context(), out).FirstErr())
}

func (c *cluster) read(topic string) []*kgo.Record {
	c.t.Helper()
	var out []*kgo.Record
	c.ok(stream.Read(c.t.Context(), c.client, stream.Request{Topic: topic, Partition: stream.AllPartitions}, func(r *kgo.Record) error {
		out = append(out, cloned(r))
		return nil
	}))
	return out
}

// retry runs the command behind its flags: the flag library has globals, so several cannot run in one process.
func (c *cluster) retry(ctx context.Context) (string, error) {
	var out, notes bytes.Buffer
	o := &retryOptions{
		env:       &command.Env{Out: &out, Err: &notes},
		target:    target{brokers: c.brokers, deployment: "d"},
		partition: stream.AllPartitions, offset: -1,
	}
	err := o.run(ctx)
	return out.String() + notes.String(), err
}

var source = deadletter.Source{Deployment: "d", Module: "sha256:ab"}

// TestRetriesAtOnceSendEachLetterOnce has several retries fence each other off; those that lose say so and are started again.
func TestRetriesAtOnceSendEachLetterOnce(t *testing.T) {
	c := newCluster(t, "in", "d.dlq")
	const letters = 300
	for i := range letters {
		from := engine.TopicPartition{Topic: "in", Partition: int32(i % 2)}
		r := engine.Record{Offset: int64(i), Key: []byte(strconv.Itoa(i)), Value: []byte("v")}
		c.produce("d.dlq", int32(i%2), source.Envelope(from, r, deadletter.Failure{Kind: deadletter.KindReject, Reason: "no"}))
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			var err error
			for attempt := range 20 {
				if _, err = c.retry(t.Context()); err == nil {
					return
				}
				// People who are told that somebody else retries do not all try again in the same moment.
				<-time.After(rand.N(time.Duration(1+attempt) * 20 * time.Millisecond))
			}
			t.Errorf("a retry does not get through in 20 attempts: %v", err)
		})
	}
	running.Wait()
	seen := map[string]int{}
	for _, r := range c.read("in") {
		seen[string(r.Key)]++
		if i, _ := strconv.Atoi(string(r.Key)); int32(i%2) != r.Partition {
			t.Errorf("record %s went to partition %d", r.Key, r.Partition)
		}
	}
	for i := range letters {
		if n := seen[strconv.Itoa(i)]; n != 1 {
			t.Errorf("record %d was sent %d times", i, n)
		}
	}
}

func TestCutLettersAreTakenFromTheirSource(t *testing.T) {
	c := newCluster(t, "in", "d.dlq")
	from := engine.TopicPartition{Topic: "in", Partition: 1}
	whole := engine.Record{Key: []byte("k"), Value: []byte("a long value"), Headers: []engine.Header{{Name: "own", Value: []byte("1")}}}
	c.produce("in", 1, whole)
	c.produce("d.dlq", 0, source.Cut(from, whole, deadletter.Failure{Kind: deadletter.KindTooLarge}))
	if out, err := c.retry(t.Context()); err != nil {
		t.Fatal(err, out)
	}
	again := c.read("in")[1]
	if string(again.Value) != "a long value" || string(again.Headers[0].Value) != "1" || string(again.Headers[1].Value) != "d.dlq/0@0" {
		t.Errorf("sent %s with %v", again.Value, again.Headers)
	}

	// What lies there now is another record: the letter stays.
	other := whole
	other.Value = []byte("another")
	other.Offset = 1
	c.produce("d.dlq", 0, source.Cut(from, other, deadletter.Failure{Kind: deadletter.KindTooLarge}))
	out, err := c.retry(t.Context())
	if err == nil || !strings.Contains(out, "another record") {
		t.Errorf("got %v, %s", err, out)
	}
	if n := len(c.read("in")); n != 2 {
		t.Errorf("the source has %d records, want 2", n)
	}
}

// lag is what the group of the marks shows to any tool, and how many ranges its metadata has.
func (c *cluster) lag(partition int32) (lag int64, ranges int) {
	c.t.Helper()
	admin := kadm.NewClient(c.client)
	committed, err := admin.FetchOffsets(c.t.Context(), "d.dlq")
	c.ok(err)
	ends, err := admin.ListEndOffsets(c.t.Context(), "d.dlq")
	c.ok(err)
	end, _ := ends.Lookup("d.dlq", partition)
	at, _ := committed.Lookup("d.dlq", partition)
	spans, err := decodeRanges(at.At, at.Metadata)
	c.ok(err)
	return end.Offset - at.At, len(spans)
}

// Deployments write letters in transactions, whose marks take offsets, too: these are nothing that is left to be sent.
func TestMarksOfTransactionsAreNotLeft(t *testing.T) {
	c := newCluster(t, "in", "d.dlq")
	client, err := c.brokers.Open(t.Context(), kgo.TransactionalID("d"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	c.ok(err)
	defer client.Close()
	letter := func(i int) {
		from := engine.TopicPartition{Topic: "in", Partition: 0}
		r := source.Envelope(from, engine.Record{Offset: int64(i), Value: []byte("v")}, deadletter.Failure{Kind: deadletter.KindReject, Reason: "no"})
		out := &kgo.Record{Topic: "d.dlq", Value: r.Value}
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		c.ok(client.BeginTransaction())
		c.ok(client.ProduceSync(t.Context(), out).FirstErr())
		c.ok(client.EndTransaction(t.Context(), kgo.TryCommit))
	}
	const letters = 2 * chunkLetters
	for i := range letters {
		letter(i)
	}
	if out, err := c.retry(t.Context()); err != nil || !strings.Contains(out, strconv.Itoa(letters)+" letters") {
		t.Fatalf("%s: %v", out, err)
	}
	if lag, ranges := c.lag(0); lag != 0 || ranges != 0 {
		t.Errorf("all letters were retried: lag %d, %d ranges", lag, ranges)
	}

	// One by one: what lies between them is settled by the next retry of all.
	letter(letters)
	letter(letters + 1)
	for _, offset := range []int64{2 * letters, 2*letters + 2} {
		o := &retryOptions{env: &command.Env{Out: io.Discard, Err: io.Discard}, target: target{brokers: c.brokers, deployment: "d"}, partition: 0, offset: offset}
		c.ok(o.run(t.Context()))
	}
	if out, err := c.retry(t.Context()); err != nil || !strings.Contains(out, "nothing to send") {
		t.Fatalf("%s: %v", out, err)
	}
	if lag, ranges := c.lag(0); lag != 0 || ranges != 0 {
		t.Errorf("all letters were retried one by one: lag %d, %d ranges", lag, ranges)
	}
	if n := len(c.read("in")); n != letters+2 {
		t.Errorf("%d records were sent, want %d", n, letters+2)
	}
}
