package enginetest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// transactionTests are about what a batch with exactly-once delivery is.
func transactionTests() []test {
	return []test{
		{name: "transaction/all or nothing", run: allOrNothing, exactlyOnce: true},
		{name: "transaction/committed on return", run: committedOnReturn, exactlyOnce: true},
		{name: "transaction/abort shows nothing", run: abortShowsNothing, exactlyOnce: true},
		{name: "transaction/larger than memory", run: largerThanMemory, exactlyOnce: true},
		{name: "transaction/too large behind much", run: tooLargeBehindMuch, exactlyOnce: true},
		{name: "transaction/outputs change", run: outputsChange},
		{name: "transaction/many small ones", run: manySmall},
		{name: "transaction/seek in an open batch", run: seekInBatch},
		{name: "transaction/left open by Close", run: leftOpenByClose, exactlyOnce: true},
		{name: "transaction/revoked in mid-transaction", run: revokedAndCommitted, exactlyOnce: true},
		{name: "transaction/paused", run: paused},
	}
}

// all topics of allOrNothing have records in several partitions.
func allOrNothing(e *env) {
	e.topic("in", 1)
	e.topic("out", 3)
	e.topic("more", 2)
	e.topic("dead", 1)
	s, _ := e.session(e.group())
	e.outputs = []string{"out", "more"}
	e.Produce(e, "in", 0, "none", numbered("v", 0, 9))
	f := e.poll(s)
	e.must(s.Begin(e.outputs))
	var all []abi.Output
	for i := range 30 {
		o := keyed(fmt.Sprint("k", i), fmt.Sprint(i))
		o.Index = i % 2
		all = append(all, o)
	}
	e.must(s.Produce(e.ctx, outputs(all...)))
	e.must(s.ProduceTo(e.ctx, "dead", engine.Record{Timestamp: 1, Value: []byte("letter")}))
	count := func() (n int) {
		for _, topic := range []string{"out", "more", "dead"} {
			for _, records := range e.records(topic) {
				n += len(records)
			}
		}
		return n
	}
	if n, at := count(), e.committed(0); n != 0 || at > 0 {
		e.Errorf("before the commit %d records are visible, and %d is committed", n, at)
	}
	e.must(s.Commit(e.ctx, f.NextOffset(f.Len()-1)))
	if n, at := count(), e.committed(0); n != 31 || at != 9 {
		e.Errorf("after the commit %d records are visible, want 31, and %d is committed, want 9", n, at)
	}
}

func committedOnReturn(e *env) {
	s := e.single()
	e.copyBatch(s, 3, output(0, "a"))
	if got := e.committed(0); got != 3 {
		e.Errorf("after a commit with outputs %d is committed, want 3", got)
	}
	e.commit(s, 5)
	if got := e.committed(0); got != 5 {
		e.Errorf("after a commit without outputs %d is committed, want 5", got)
	}
	e.must(s.Commit(e.ctx, 7)) // without Begin
	if got := e.committed(0); got != 7 {
		e.Errorf("after a commit without a batch %d is committed, want 7", got)
	}
}

// big makes outputs of about size bytes in all, 50 KiB each, with keys.
func big(name string, size int) (all []abi.Output) {
	for i := range size / (50 << 10) {
		value := bytes.Repeat([]byte{byte(i)}, 50<<10)
		copy(value, fmt.Sprintf("%s-%06d", name, i))
		all = append(all, abi.Output{Timestamp: 1, Key: fmt.Append(nil, "k", i%20), Value: value})
	}
	return all
}

// wantBig checks that the partitions of a topic hold just these, in the order of each key.
func (e *env) wantBig(topic string, want []abi.Output) {
	e.Helper()
	byKey, left := map[string][]abi.Output{}, len(want)
	for _, o := range want {
		byKey[string(o.Key)] = append(byKey[string(o.Key)], o)
	}
	for p, records := range e.records(topic) {
		for _, r := range records {
			next := byKey[string(r.Key)]
			if len(next) == 0 || !bytes.Equal(next[0].Value, r.Value) {
				e.Fatalf("offset %d of %s-%d, %.12s, is not what comes next for its key", r.Offset, topic, p, r.Value)
			}
			byKey[string(r.Key)] = next[1:]
			left--
		}
	}
	if left != 0 {
		e.Errorf("%d of %d outputs are missing", left, len(want))
	}
}

// abortShowsNothing: what was written ahead stays in the log and is never shown.
func abortShowsNothing(e *env) {
	e.topic("in", 1)
	e.topic("out", 3)
	s, _ := e.session(e.group())
	e.Produce(e, "in", 0, "none", numbered("v", 0, 4))
	e.pollValues(s, 4)
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(big("dropped", 6<<20)...)))
	e.must(s.Abort(e.ctx))
	e.wantBig("out", nil)
	if e.ReadUncommitted != nil {
		n := 0
		for p := range int32(3) {
			n += len(e.ReadUncommitted(e, "out", p))
		}
		if n == 0 {
			e.Error("6 MiB of outputs were held in memory")
		}
	}
	e.wantValues(e.pollValues(s, 4), valuesOf("v", 0, 4)...)
	again := big("again", 3<<20)
	e.copyBatch(s, 4, again...)
	e.wantBig("out", again)
	if got := e.committed(0); got != 4 {
		e.Errorf("committed is %d, want 4", got)
	}
}

func largerThanMemory(e *env) {
	e.topic("in", 1)
	e.topic("out", 3)
	s, _ := e.session(e.group())
	e.must(s.Begin(e.outputs))
	var all []abi.Output
	for i := range 6 {
		part := big(fmt.Sprint("part", i), 4<<20)
		all = append(all, part...)
		e.must(s.Produce(e.ctx, outputs(part...)))
	}
	e.wantBig("out", nil)
	e.must(s.Commit(e.ctx, 1))
	e.wantBig("out", all)
}

// tooLargeBehindMuch: an output that its topic does not take spoils the batch, however much of it is written.
func tooLargeBehindMuch(e *env) {
	e.topic("in", 1)
	e.topic("out", 1)
	e.topic("narrow", 1, "max.message.bytes", "1000")
	s, _ := e.session(e.group())
	e.outputs = []string{"out", "narrow"}
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(big("much", 3<<20)...)))
	err := s.Produce(e.ctx, outputs(output(1, "fits"), abi.Output{Input: 4, Index: 1, Timestamp: 1, Value: make([]byte, 2000)}))
	var which *engine.OutputError
	if !errors.Is(err, engine.ErrTooLarge) || !errors.As(err, &which) || which.Input != 4 || which.Topic != "narrow" {
		e.Fatalf("answer is %v", err)
	}
	e.must(s.Abort(e.ctx))
	e.copyBatch(s, 1, output(1, "after"))
	e.wantBig("out", nil)
	e.wantValues(e.values("narrow", 0), "after")
}

// outputsChange: an upgrade may name other outputs, at any batch.
func outputsChange(e *env) {
	e.topic("in", 1)
	e.topic("a", 1)
	e.topic("b", 1)
	s, _ := e.session(e.group())
	for i, names := range [][]string{{"a"}, {"b", "a"}, {"b"}, {"a", "b"}} {
		e.outputs = names
		e.copyBatch(s, int64(i), output(0, fmt.Sprint("first of ", i)))
	}
	e.must(s.Begin([]string{"a"}))
	if err := s.Produce(e.ctx, outputs(output(1, "no such index"))); err == nil {
		e.Error("an output was taken whose index the batch does not have")
	}
	e.must(s.Abort(e.ctx))
	e.wantValues(e.values("a", 0), "first of 0", "first of 3")
	e.wantValues(e.values("b", 0), "first of 1", "first of 2")
}

// manySmall: record by record, each with a commit of its own, over several partitions.
func manySmall(e *env) {
	const n = 60
	e.topic("in", 1)
	e.topic("out", 3)
	e.Produce(e, "in", 0, "none", numbered("v", 0, n))
	s, _ := e.session(e.group())
	var want []abi.Output
	for done := int64(0); done < n; {
		f := e.poll(s)
		for i := range f.Len() {
			o := keyed(fmt.Sprint("k", done%7), string(f.Record(i).Value))
			want = append(want, o)
			done = f.NextOffset(i)
			e.copyBatch(s, done, o)
		}
	}
	e.wantBig("out", want)
	if got := e.committed(0); e.Delivery == engine.ExactlyOnce && got != n {
		e.Errorf("committed is %d, want %d", got, n)
	}
}

// seekInBatch: where the session reads has nothing to do with what it commits.
func seekInBatch(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 6))
	e.pollValues(s, 6)
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(output(0, "a"))))
	s.SeekTo(2)
	e.must(s.Commit(e.ctx, 5))
	e.wantValues(e.values("out", 0), "a")
	e.wantValues(e.pollValues(s, 4), valuesOf("v", 2, 4)...)
	e.must(s.Abort(e.ctx))
	e.wantValues(e.pollValues(s, 1), "v-5")
}

// leftOpenByClose: a session that is closed in mid-transaction has done nothing.
func leftOpenByClose(e *env) {
	e.topic("in", 1)
	e.topic("out", 2)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 4))
	s, m := e.session(e.group())
	e.pollValues(s, 4)
	e.copyBatch(s, 1, keyed("k", "kept"))
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(big("dropped", 3<<20)...)))
	e.must(m.Leave(e.ctx))
	e.wantBig("out", []abi.Output{keyed("k", "kept")})
	s, _ = e.session(e.group())
	e.wantValues(e.pollValues(s, 3), valuesOf("v", 1, 3)...)
}

// revokedAndCommitted: one who is asked to let go in mid-transaction may finish it; the next owner begins behind it.
func revokedAndCommitted(e *env) {
	e.topic("in", 2)
	e.topic("out", 1)
	for p := range int32(2) {
		e.Produce(e, "in", p, "none", numbered(fmt.Sprint("p", p), 0, 6))
	}
	first := e.join(e.group())
	sessions := e.sessions(first, 2)
	for _, s := range sessions {
		e.pollValues(s, 6)
		e.must(s.Begin(e.outputs))
		e.must(s.Produce(e.ctx, outputs(output(0, fmt.Sprint("from ", s.Partition().Partition)))))
	}
	second := background(func() ([]engine.Session, error) { return e.keepClosing(e.join(e.group()), 1), nil })
	var moved, kept engine.Session
	select {
	case <-sessions[0].Done():
		moved, kept = sessions[0], sessions[1]
	case <-sessions[1].Done():
		moved, kept = sessions[1], sessions[0]
	case <-e.ctx.Done():
		e.Fatal("no partition was taken away")
	}
	e.must(moved.Commit(e.ctx, 4))
	e.must(moved.Close(e.ctx))
	taken, _ := second()
	e.wantValues(e.pollValues(taken[0], 2), valuesOf(fmt.Sprint("p", moved.Partition().Partition), 4, 2)...)
	e.must(kept.Commit(e.ctx, 6))
	got := map[string]bool{}
	for _, v := range e.values("out", 0) {
		got[v] = true
	}
	if len(got) != 2 {
		e.Errorf("the output holds %v", got)
	}
}

// paused: a session that nobody polls for a while keeps its place, and others go on.
func paused(e *env) {
	e.topic("in", 2)
	e.topic("out", 2)
	sessions := e.sessions(e.join(e.group()), 2)
	quiet, busy := sessions[0], sessions[1]
	e.Produce(e, "in", 0, "none", numbered("quiet", 0, 3))
	e.pollValues(quiet, 3)
	e.copyBatch(quiet, 2, output(0, "from the quiet one"))
	for i := range 20 {
		e.Produce(e, "in", 0, "none", numbered("quiet", 3+i*10, 10))
		e.Produce(e, "in", 1, "none", numbered("busy", i*10, 10))
		e.wantValues(e.pollValues(busy, 10), valuesOf("busy", i*10, 10)...)
		e.copyBatch(busy, int64(i*10+10), output(0, fmt.Sprint("busy ", i)))
	}
	e.wantValues(e.pollValues(quiet, 200), valuesOf("quiet", 3, 200)...)
	e.copyBatch(quiet, 203, output(0, "and again"))
	e.wantValues(e.values("out", 0), "from the quiet one", "and again")
}
