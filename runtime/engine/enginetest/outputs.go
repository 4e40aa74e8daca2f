package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// outputTests are about what a batch writes.
func outputTests() []test {
	return []test{
		{name: "output/visible after commit only", run: visibleAfterCommit},
		{name: "output/key decides the partition", run: keyDecides},
		{name: "output/without a key to the input's partition", run: inputPartitionDecides},
		{name: "output/several outputs", run: severalOutputs},
		{name: "output/nulls, headers, timestamps", run: outputRecords},
		{name: "output/order per key", run: orderPerKey},
		{name: "output/many bytes in one commit", run: manyBytes},
		{name: "output/to another topic", run: produceTo},
		{name: "output/too large", run: tooLarge},
		{name: "output/no key in a compacted topic", run: compactedWithoutKey},
		{name: "output/unknown topic", run: unknownOutput},
		{name: "output/calls out of order", run: callsOutOfOrder},
	}
}

func contextWithCancel(e *env) (context.Context, context.CancelFunc) {
	return context.WithCancel(e.ctx)
}

func output(index int, value string) abi.Output {
	return abi.Output{Index: index, Timestamp: 1, Value: []byte(value)}
}

func keyed(key, value string) abi.Output {
	return abi.Output{Timestamp: 1, Key: []byte(key), Value: []byte(value)}
}

func visibleAfterCommit(e *env) {
	s := e.single()
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(output(0, "a"), output(0, "b"))))
	e.wantValues(e.values("out", 0))
	e.must(s.Commit(e.ctx, 0))
	e.wantValues(e.values("out", 0), "a", "b")
}

// keyDecides compares with the partitions that Kafka's default partitioner gives these keys.
func keyDecides(e *env) {
	e.topic("in", 1)
	e.topic("out", 10)
	s, _ := e.session(e.group())
	// murmur2 of Kafka's own test vectors (UtilsTest.testMurmur2), as a partition of ten.
	want := map[string]int32{}
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107} {
		want[key] = int32(uint32(hash) & 0x7fffffff % 10)
	}
	var all []abi.Output
	for key := range want {
		all = append(all, keyed(key, key))
	}
	e.copyBatch(s, 0, all...)
	got := map[string]int32{}
	for p, records := range e.records("out") {
		for _, r := range records {
			got[string(r.Key)] = p
		}
	}
	if !reflect.DeepEqual(got, want) {
		e.Errorf("partitions by key are %v, want %v", got, want)
	}
}

func inputPartitionDecides(e *env) {
	e.topic("in", 3)
	e.topic("out", 2)
	m := e.join(e.group())
	for _, s := range e.sessions(m, 3) {
		e.copyBatch(s, 0, output(0, fmt.Sprint("from ", s.Partition().Partition)))
	}
	e.wantValues(e.values("out", 1), "from 1")
	even := e.values("out", 0)
	slices.Sort(even)
	e.wantValues(even, "from 0", "from 2")
}

func severalOutputs(e *env) {
	e.topic("in", 1)
	e.topic("es", 1)
	e.topic("fr", 1)
	s, _ := e.session(e.group())
	e.outputs = []string{"es", "fr"}
	e.copyBatch(s, 0, output(0, "hola"), output(1, "bonjour"), output(0, "adiós"))
	e.wantValues(e.values("es", 0), "hola", "adiós")
	e.wantValues(e.values("fr", 0), "bonjour")
}

func outputRecords(e *env) {
	s := e.single()
	var all []abi.Output
	for _, r := range odd {
		o := abi.Output{Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, HeaderCount: len(r.Headers)}
		for _, h := range r.Headers {
			o.Headers = abi.AppendHeader(o.Headers, h.Name, h.Value)
		}
		all = append(all, o)
	}
	e.copyBatch(s, 0, all...)
	for i, got := range e.records("out")[0] {
		want := clone(odd[i])
		if want.Offset = int64(i); !reflect.DeepEqual(got, want) {
			e.Errorf("record %d is %#v, want %#v", i, got, want)
		}
	}
}

func orderPerKey(e *env) {
	e.topic("in", 1)
	e.topic("out", 4)
	s, _ := e.session(e.group())
	for batch := range 5 {
		var all []abi.Output
		for i := range 40 {
			all = append(all, keyed(fmt.Sprint("key", i%7), fmt.Sprintf("%02d-%02d", batch, i)))
		}
		e.copyBatch(s, int64(batch), all...)
	}
	last, count := map[string]string{}, 0
	for _, records := range e.records("out") {
		for _, r := range records {
			if string(r.Value) <= last[string(r.Key)] {
				e.Errorf("%s comes after %s", r.Value, last[string(r.Key)])
			}
			last[string(r.Key)] = string(r.Value)
			count++
		}
	}
	if count != 200 {
		e.Errorf("%d records, want 200", count)
	}
}

func manyBytes(e *env) {
	s := e.single()
	var all []abi.Output
	for i := range 80 {
		all = append(all, abi.Output{Timestamp: 1, Value: bytes.Repeat([]byte{byte(i)}, 100<<10)})
	}
	e.copyBatch(s, 0, all...) // 8 MB: more than one record batch may hold
	records := e.records("out")[0]
	if len(records) != len(all) {
		e.Fatalf("%d records, want %d", len(records), len(all))
	}
	for i, r := range records {
		if !bytes.Equal(r.Value, all[i].Value) {
			e.Errorf("record %d is another one", i)
		}
	}
}

func produceTo(e *env) {
	s := e.single()
	e.topic("dead", 1)
	letter := engine.Record{Timestamp: 7, Key: []byte("k"), Value: []byte("v"), Headers: []engine.Header{{Name: "reason", Value: []byte("because")}}}
	e.must(s.Begin(e.outputs))
	e.must(s.ProduceTo(e.ctx, "dead", letter))
	e.must(s.Produce(e.ctx, outputs(output(0, "fine"))))
	e.must(s.Commit(e.ctx, 1))
	if got := e.records("dead")[0]; len(got) != 1 || !reflect.DeepEqual(got[0], letter) {
		e.Errorf("the topic holds %#v", got)
	}
	e.wantValues(e.values("out", 0), "fine")
}

func tooLarge(e *env) {
	e.topic("in", 1)
	e.topic("out", 1, "max.message.bytes", "1000")
	s, _ := e.session(e.group())
	big := abi.Output{Input: 3, Timestamp: 1, Value: make([]byte, 1000)}
	e.must(s.Begin(e.outputs))
	err := s.Produce(e.ctx, outputs(output(0, "a"), big))
	var which *engine.OutputError
	if !errors.Is(err, engine.ErrTooLarge) || !errors.As(err, &which) || which.Input != 3 || which.Topic != "out" {
		e.Fatalf("answer is %v", err)
	}
	e.must(s.Abort(e.ctx))
	// Many that fit are never too large together.
	var all []abi.Output
	for range 20 {
		all = append(all, abi.Output{Timestamp: 1, Value: make([]byte, 400)})
	}
	e.copyBatch(s, 1, all...)
	if got := len(e.records("out")[0]); got != 20 {
		e.Errorf("%d records, want 20", got)
	}
}

func compactedWithoutKey(e *env) {
	e.topic("in", 1)
	e.topic("out", 1, "cleanup.policy", "compact")
	s, _ := e.session(e.group())
	e.must(s.Begin(e.outputs))
	if err := s.Produce(e.ctx, outputs(output(0, "no key"))); !errors.Is(err, engine.ErrInvalidRecord) {
		e.Errorf("answer is %v", err)
	}
	e.must(s.Abort(e.ctx))
	e.copyBatch(s, 1, keyed("k", "v"))
	e.wantValues(e.values("out", 0), "v")
}

func unknownOutput(e *env) {
	e.topic("in", 1)
	s, _ := e.session(e.group())
	e.must(s.Begin(e.outputs))
	err := s.Produce(e.ctx, outputs(output(0, "a")))
	if err == nil {
		err = s.Commit(e.ctx, 1)
	}
	if !errors.Is(err, engine.ErrUnknownTopic) {
		e.Errorf("answer is %v", err)
	}
	e.must(s.Abort(e.ctx))
	e.topic("out", 1)
	e.copyBatch(s, 1, output(0, "now"))
	e.wantValues(e.values("out", 0), "now")
}

func callsOutOfOrder(e *env) {
	s := e.single()
	if err := s.Produce(e.ctx, outputs(output(0, "a"))); err == nil {
		e.Error("Produce without Begin was taken")
	}
	if err := s.ProduceTo(e.ctx, "out", engine.Record{}); err == nil {
		e.Error("ProduceTo without Begin was taken")
	}
	e.must(s.Begin(e.outputs))
	if err := s.Begin(e.outputs); err == nil {
		e.Error("a second Begin was taken")
	}
	e.must(s.Produce(e.ctx, outputs(output(0, "dropped by Close"))))
	e.must(s.Close(e.ctx))
	e.must(s.Close(e.ctx))
	for name, err := range map[string]error{"Begin": s.Begin(e.outputs), "Commit": s.Commit(e.ctx, 1), "Abort": s.Abort(e.ctx)} {
		if !errors.Is(err, engine.ErrClosed) {
			e.Errorf("%s after Close: %v", name, err)
		}
	}
	if _, err := s.Poll(e.ctx, pollBytes); !errors.Is(err, engine.ErrClosed) {
		e.Errorf("Poll after Close: %v", err)
	}
	e.wantValues(e.values("out", 0))
}
