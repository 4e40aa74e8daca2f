package stream_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a broker in memory whose partitions are written batch by batch.
type fixture struct {
	*broker.Broker
	address string
}

func start(t *testing.T, partitions int32) *fixture {
	t.Helper()
	b, address := brokertest.Serve(t, broker.Options{DefaultPartitions: int(partitions)})
	f := &fixture{Broker: b, address: address}
	client := f.client(t)
	forever := "-1" // the records are from 1970
	configs := map[string]*string{"retention.ms": &forever}
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, -1, configs, "notes"); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(f.address), kgo.DisableClientMetrics(), kgo.MetadataMinAge(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// write appends to a partition what a script says, separated by spaces:
//
//	a@5      a record with the value a and the timestamp 5
//	7:a@5    the same of transactional producer 7
//	hole:3   a batch of three offsets whose records compaction took away
//	commit:7, abort:7   the marker that ends the transaction
func (f *fixture) write(t *testing.T, partition int32, script string) {
	t.Helper()
	p, err := f.Topics().Partition("notes", partition)
	if err != nil {
		t.Fatal(err)
	}
	sequence := map[int64]int32{}
	for word := range strings.FieldsSeq(script) {
		var batch []byte
		from := topic.FromBroker
		var n, at int64
		var value string
		switch what, number, _ := strings.Cut(word, ":"); {
		case what == "hole":
			fmt.Sscan(number, &n)
			batch = hole(int32(n))
		case what == "commit" || what == "abort":
			fmt.Sscan(number, &n)
			batch = record.AppendMarker(nil, n, 0, record.Marker{Commit: what == "commit"}, 0)
		default:
			if _, err := fmt.Sscan(what, &n); err == nil && number != "" {
				word, from = number, topic.FromTransaction
			}
			text, stamp, _ := strings.Cut(word, "@")
			value = text
			fmt.Sscan(stamp, &at)
			var b record.Builder
			b.Reset(nil, record.None)
			b.Append(at, nil, []byte(value), nil, 0)
			if from == topic.FromTransaction {
				b.SetProducer(n, 0, sequence[n], true)
				sequence[n]++
			}
			batch = b.Finish()
		}
		if _, err := p.Append(t.Context(), batch, from); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
	}
}

// hole is a batch as compaction leaves it: its header says where the last
// record was, so that no offset is given twice, and there is no record in it.
func hole(offsets int32) []byte {
	var b record.Builder
	b.Reset(nil, record.None)
	b.Append(1, nil, nil, nil, 0)
	const headerBytes = 61
	batch := slices.Clone(b.Finish()[:headerBytes])
	binary.BigEndian.PutUint32(batch[8:], headerBytes-record.LengthOverhead)
	binary.BigEndian.PutUint32(batch[23:], uint32(offsets-1))
	binary.BigEndian.PutUint32(batch[57:], 0) // number of records
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	return batch
}

func (f *fixture) read(t *testing.T, r stream.Request) string {
	t.Helper()
	r.Topic = "notes"
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	err := stream.Read(ctx, f.client(t, r.Isolation.Options()...), r, func(rec *kgo.Record) error {
		got = append(got, string(rec.Value))
		return nil
	})
	if err != nil {
		t.Fatalf("%+v: %v (read %v)", r, err, got)
	}
	return strings.Join(got, " ")
}

// Reading without Follow ends where the partition ends, whatever lies there.
func TestReadEnds(t *testing.T) {
	at := func(n int64) *stream.Position { return &stream.Position{Kind: stream.Offset, Offset: n} }
	all := stream.Request{Partition: stream.AllPartitions}
	for _, tc := range []struct {
		name, script           string
		committed, uncommitted string
	}{
		{"records", "a b c", "a b c", "a b c"},
		{"nothing", "", "", ""},
		{"a hole behind records", "a b hole:5", "a b", "a b"},
		{"holes only", "hole:1 hole:4", "", ""},
		{"holes between", "a hole:3 b hole:2 hole:2", "a b", "a b"},
		{"a committed transaction", "a 7:b 7:c commit:7", "a b c", "a b c"},
		{"an aborted transaction", "a 7:b 7:c abort:7", "a", "a b c"},
		{"an aborted transaction and a hole", "7:b abort:7 hole:3", "", "b"},
		{"an open transaction", "a hole:2 7:b c", "a", "a b c"},
		{"an open transaction behind an aborted one", "7:a abort:7 8:b c", "", "a b c"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, 1)
			f.write(t, 0, tc.script)
			if got := f.read(t, all); got != tc.committed {
				t.Errorf("read_committed: %q, want %q", got, tc.committed)
			}
			r := all
			r.Isolation = stream.ReadUncommitted
			if got := f.read(t, r); got != tc.uncommitted {
				t.Errorf("read_uncommitted: %q, want %q", got, tc.uncommitted)
			}
		})
	}
	t.Run("until", func(t *testing.T) {
		t.Parallel()
		f := start(t, 1)
		f.write(t, 0, "a@10 b@20 hole:3 c@30 d@40")
		for until, want := range map[*stream.Position]string{
			at(0): "", at(1): "a", at(2): "a b", at(4): "a b", at(6): "a b c", at(99): "a b c d",
			{Kind: stream.Time, Time: time.UnixMilli(30)}: "a b",
			{Kind: stream.Time, Time: time.UnixMilli(99)}: "a b c d",
			{Kind: stream.End}:                            "a b c d",
		} {
			r := all
			r.Until = until
			if got := f.read(t, r); got != want {
				t.Errorf("until %+v: %q, want %q", *until, got, want)
			}
		}
		r := all
		r.From, r.Until = *at(1), at(6)
		if got := f.read(t, r); got != "b c" {
			t.Errorf("from 1 until 6: %q", got)
		}
	})
}

// Many partitions that end in holes are looked at together, also when one of them still has much to show.
func TestReadEndsInManyHoles(t *testing.T) {
	const partitions = 40
	f := start(t, partitions)
	want := map[string]int{}
	for p := range int32(partitions) {
		f.write(t, p, fmt.Sprintf("v%d hole:2 hole:%d", p, p+1))
		want[fmt.Sprintf("v%d", p)] = 1
	}
	f.write(t, 0, strings.Repeat(strings.Repeat("x", 300_000)+" ", 30)+"hole:9")
	want[strings.Repeat("x", 300_000)] = 30
	got := map[string]int{}
	for _, v := range strings.Fields(f.read(t, stream.Request{Partition: stream.AllPartitions})) {
		got[v]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("read %d values, want %d", len(got), len(want))
	}
}

func TestHeldBack(t *testing.T) {
	f := start(t, 2)
	f.write(t, 0, "a 7:b c")
	f.write(t, 1, "8:a commit:8")
	admin := kadm.NewClient(f.client(t))
	for partition, want := range map[int32]int64{stream.AllPartitions: 2, 0: 2, 1: 0} {
		if n, err := stream.HeldBack(t.Context(), admin, "notes", partition); n != want || err != nil {
			t.Errorf("partition %d: %d, %v; want %d", partition, n, err, want)
		}
	}
}

// A broker that goes away in the middle ends the reading with an error, not never.
func TestReadEndsWithTheBroker(t *testing.T) {
	f := start(t, 1)
	f.write(t, 0, strings.Repeat(strings.Repeat("x", 500_000)+" ", 60))
	client := f.client(t, append(stream.Options(), kgo.RetryTimeout(time.Second), kgo.RequestRetries(2))...)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	read := 0
	err := stream.Read(ctx, client, stream.Request{Topic: "notes", Partition: stream.AllPartitions}, func(*kgo.Record) error {
		if read++; read == 1 {
			return f.Close(ctx)
		}
		return nil
	})
	if err == nil || ctx.Err() != nil || read >= 60 {
		t.Errorf("%v after %d records", err, read)
	}
}

func TestReadLast(t *testing.T) {
	f := start(t, 3)
	f.write(t, 0, "a@10 b@30 c@50 7:x@60 abort:7")
	f.write(t, 1, "d@20 e@40 hole:1 hole:2 hole:80")
	for last, want := range map[int]string{1: "c", 4: "d b e c", 1000: "a d b e c"} {
		if got := f.read(t, stream.Request{Partition: stream.AllPartitions, Last: last}); got != want {
			t.Errorf("the last %d: %q, want %q", last, got, want)
		}
	}
	if got := f.read(t, stream.Request{Partition: 1, Last: 1}); got != "e" {
		t.Errorf("the last of partition 1: %q", got)
	}
	if got := f.read(t, stream.Request{Partition: stream.AllPartitions, Last: 2, Isolation: stream.ReadUncommitted}); got != "c x" {
		t.Errorf("the last two, read_uncommitted: %q", got)
	}

	// With Follow it goes on behind them.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	r := stream.Request{Topic: "notes", Partition: stream.AllPartitions, Last: 2, Follow: true}
	err := stream.Read(ctx, f.client(t, stream.Options()...), r, func(rec *kgo.Record) error {
		got = append(got, string(rec.Value))
		switch len(got) {
		case 2:
			f.write(t, 2, "new@1")
		case 3:
			return stream.ErrStop
		}
		return nil
	})
	if want := "e c new"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("the last 2 and what follows: %v, %v; want %s", got, err, want)
	}
}

// Last counts the records that Match wants, however far back they lie.
func TestLastOfThoseThatMatch(t *testing.T) {
	f := start(t, 1)
	f.write(t, 0, "a b x c"+strings.Repeat(" x", 300)+" d x")
	wanted := func(r *kgo.Record) bool { return string(r.Value) != "x" }
	for last, want := range map[int]string{1: "d", 2: "c d", 3: "b c d", 9: "a b c d"} {
		r := stream.Request{Partition: stream.AllPartitions, Last: last, Match: wanted}
		if got := f.read(t, r); got != want {
			t.Errorf("last %d: %q, want %q", last, got, want)
		}
	}
}
