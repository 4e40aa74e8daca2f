package topic

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/producer"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// act does one step of a story on a partition: "1" is a batch of one record in a
// transaction of producer 1, "c1" and "a1" commit and abort it, "." is a batch without a producer.
func act(t *testing.T, p *Partition, sequences map[int64]int32, step string) {
	t.Helper()
	var b record.Builder
	b.Reset(nil, record.None)
	b.Append(time.Now().UnixMilli(), []byte("k"), []byte(step), nil, 0)
	var err error
	switch {
	case step == ".":
		_, err = p.Append(t.Context(), b.Finish(), FromClient)
	case step[0] == 'a' || step[0] == 'c':
		m := record.AppendMarker(nil, int64(step[1]-'0'), 0, record.Marker{Commit: step[0] == 'c'}, 0)
		_, err = p.Append(t.Context(), m, FromBroker)
	default:
		id := int64(step[0] - '0')
		b.SetProducer(id, 0, sequences[id], true)
		sequences[id]++
		_, err = p.Append(t.Context(), b.Finish(), FromTransaction)
	}
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
}

// seen describes what a reader of committed records gets from an offset on: the last
// stable offset, and the aborted transactions as producer@offset.
func seen(t *testing.T, p *Partition, from int64) string {
	t.Helper()
	b, err := p.Read(nil, ReadOptions{Offset: from, MaxBytes: 1 << 20, Committed: true})
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprint(p.Offsets().LastStable)
	for _, a := range p.Aborted(b) {
		out += fmt.Sprintf(" %d@%d", a.ProducerID, a.FirstOffset)
	}
	return out
}

func TestTransactions(t *testing.T) {
	for _, c := range []struct {
		story string // one step for each offset from 0 on
		from  int64
		want  string
	}{
		{". .", 0, "2"},
		{"1", 0, "0"},
		{". 1 .", 0, "1"},
		{". 1 . c1", 0, "4"},
		{". 1 . a1", 0, "4 1@1"},
		{"1 a1 1 c1", 0, "4 1@0"},
		{"1 a1 1 c1", 2, "4"},
		{"1 2 a1", 0, "1 1@0"},
		{"1 2 c2", 0, "0"},
		{"1 2 c2 a1", 0, "4 1@0"},
		{"1 2 a2 c1 1 a1", 0, "6 2@1 1@4"},
		{"1 2 a2 c1 1 a1", 3, "6 1@4"},
		{"1 2 3 a2 a3 1 a1", 4, "7 3@2 1@0"},
		{"1 2 3 a2 a3 1 .", 0, "0"},
		{"c1 . a2", 0, "3"}, // markers of transactions that have written nothing
	} {
		t.Run(c.story+fmt.Sprint(" from ", c.from), func(t *testing.T) {
			fs := vfs.NewMem()
			topics := open(t, fs)
			p := create(t, topics, "t", 1, nil)
			sequences := map[int64]int32{}
			for step := range strings.FieldsSeq(c.story) {
				act(t, p, sequences, step)
			}
			if got := seen(t, p, c.from); got != c.want {
				t.Errorf("reads %s, want %s", got, c.want)
			}
			// The same from the log alone, then from the snapshot of a clean stop.
			if err := p.WaitDurable(t.Context(), p.Offsets().LogEnd); err != nil {
				t.Fatal(err)
			}
			crashed := fs.CrashClone(1)
			for _, how := range []string{"log", "snapshot"} {
				again := open(t, crashed)
				p, err := again.Partition("t", 0)
				if err != nil {
					t.Fatal(err)
				}
				if got := seen(t, p, c.from); got != c.want {
					t.Errorf("from the %s: reads %s, want %s", how, got, c.want)
				}
				if err := again.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTransactionalBatchesAreVetted(t *testing.T) {
	p := create(t, open(t, vfs.NewMem()), "t", 1, map[string]string{"max.message.bytes": "75"})
	send := func(epoch int16, sequence int32, transactional bool, from Origin) error {
		var b record.Builder
		b.Reset(nil, record.None)
		b.Append(time.Now().UnixMilli(), nil, nil, nil, 0)
		b.SetProducer(7, epoch, sequence, transactional)
		_, err := p.Append(t.Context(), b.Finish(), from)
		return err
	}
	marker := func(epoch int16) error {
		_, err := p.Append(t.Context(), record.AppendMarker(nil, 7, epoch, record.Marker{}, 0), FromBroker)
		return err
	}
	for i, step := range []struct{ got, want error }{
		{send(0, 0, true, FromClient), ErrNoTransaction},
		{send(0, 0, true, FromTransaction), nil},
		{send(0, 1, false, FromClient), producer.ErrInTransaction},
		{send(0, 1, true, FromTransaction), nil},
		{marker(1), nil}, // fits, though it is larger than max.message.bytes
		{send(0, 2, true, FromTransaction), producer.ErrFenced},
		{send(1, 2, true, FromTransaction), producer.ErrOutOfOrder},
		{send(1, 0, true, FromTransaction), nil},
		{send(1, 0, true, FromTransaction), nil}, // again
		{marker(1), nil},
		{send(1, 1, false, FromClient), nil},
	} {
		if !errors.Is(step.got, step.want) || (step.got == nil) != (step.want == nil) {
			t.Errorf("step %d: %v, want %v", i, step.got, step.want)
		}
	}
	if got := p.Offsets().LogEnd; got != 6 {
		t.Errorf("the log ends at %d, want 6", got)
	}
}

// Producers with an open transaction outlive their expiration.
func TestExpirationSparesOpenTransactions(t *testing.T) {
	p := create(t, open(t, vfs.NewMem()), "t", 1, nil)
	sequences := map[int64]int32{}
	for _, step := range []string{"1", "2", "a2"} {
		act(t, p, sequences, step)
	}
	p.expireProducers(time.Now().Add(2 * producer.Expiration))
	list := p.Producers()
	if len(list) != 1 || list[0].ProducerID != 1 || list[0].FirstOpen != 0 || list[0].LastSequence != 0 {
		t.Errorf("producers %+v", list)
	}
	if _, err := p.DeleteRecords(3); err != nil {
		t.Fatal(err)
	}
	p.expireProducers(time.Now())
	if got := p.producers.state.Aborted(); len(got) != 0 {
		t.Errorf("aborted transactions before the start of the log: %v", got)
	}
	if got := p.Offsets().LastStable; got != 3 {
		t.Errorf("last stable offset %d before the log start", got)
	}
}

// TestCompactionForgetsAborted: the aborted transactions of a compacted partition do not pile up, nor come back with a restart.
func TestCompactionForgetsAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		topics := open(t, mem)
		configs := map[string]string{"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "60000"}
		if _, err := topics.Create(t.Context(), "c", 1, configs); err != nil {
			t.Fatal(err)
		}
		p, err := topics.Partition("c", 0)
		if err != nil {
			t.Fatal(err)
		}
		sequences := map[int64]int32{}
		for range 20 {
			act(t, p, sequences, "1")
			act(t, p, sequences, "a1")
		}
		time.Sleep(time.Second)
		act(t, p, sequences, ".") // rolls
		time.Sleep(time.Minute)
		if n := len(*p.transactions.aborted.Load()); n != 20 {
			t.Fatalf("%d aborted transactions are known while their markers are there", n)
		}
		time.Sleep(5 * time.Minute)
		if n := len(*p.transactions.aborted.Load()); n != 1 { // its emptied batch has the last sequence number
			t.Fatalf("%d aborted transactions are known", n)
		}
		if err := topics.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		topics = open(t, mem)
		if p, err = topics.Partition("c", 0); err != nil {
			t.Fatal(err)
		}
		if n := len(*p.transactions.aborted.Load()); n != 1 {
			t.Fatalf("%d aborted transactions are known after a restart", n)
		}
		if err := topics.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
