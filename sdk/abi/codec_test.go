package abi

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func TestRecordsRoundTrip(t *testing.T) {
	headers := AppendHeader(AppendHeader(nil, "", []byte{}), []byte("n"), nil)
	records := []Record{
		{Offset: 1, Timestamp: -1, Headers: []byte{}},
		{Offset: 1 << 60, Key: []byte{}, Value: []byte("v"), Headers: headers, HeaderCount: 2},
		{Key: []byte("k"), Value: []byte{}, Headers: []byte{}},
	}
	var block []byte
	for i := range records {
		before := len(block)
		block = AppendRecord(block, &records[i])
		if got := len(block) - before; got != records[i].Size() {
			t.Errorf("record %d has %d bytes, Size says %d", i, got, records[i].Size())
		}
	}
	for i := range records {
		var r Record
		n, err := ReadRecord(block, &r)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, records[i]) {
			t.Errorf("got  %+v\nwant %+v", r, records[i])
		}
		block = block[n:]
	}
}

func TestRecordBuiltPieceByPiece(t *testing.T) {
	want := Record{Offset: 5, Timestamp: 6, Value: []byte("v"), Headers: AppendHeader(nil, "a", []byte("b")), HeaderCount: 1}
	got := BeginRecord([]byte("before"), want.Key, want.Value, want.Offset, want.Timestamp)
	got = AppendHeader(got, "a", []byte("b"))
	EndRecord(got, len("before"), 1)
	if all := AppendRecord([]byte("before"), &want); !bytes.Equal(got, all) {
		t.Errorf("got  %x\nwant %x", got, all)
	}
}

func TestMalformedSetups(t *testing.T) {
	good := AppendSetup(nil, &Setup{
		Deployment: "deployment", Inputs: []string{"in"}, Outputs: []string{"out"},
		Config: map[string]string{"k": "v"}, Assets: map[string][]byte{"a": []byte("content")},
	})
	for cut := range good {
		if _, err := ParseSetup(good[:cut]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: got error %v", cut, err)
		}
	}
	for field := range 7 {
		bad := bytes.Clone(good)
		bad[4*field+3] = 0xff
		if _, err := ParseSetup(bad); !errors.Is(err, ErrMalformed) && field != 1 {
			t.Errorf("field %d of 4 billion: got error %v", field, err)
		}
	}
	// A later revision may add sections.
	longer := append(bytes.Clone(good), "more"...)
	longer[0] += 4
	if s, err := ParseSetup(longer); err != nil || s.Deployment != "deployment" {
		t.Errorf("block of a later revision: got %+v, %v", s, err)
	}
}

func TestRejectsReachBackOverPieces(t *testing.T) {
	o := func(input int) []byte { return AppendOutput(nil, &Output{Input: input}, false) }
	first := append(o(0), o(1)...)
	second := append(append(o(1), AppendReject(nil, 1, "no")...), o(2)...)
	outputs, verdicts, err := decode(3, 1, first, second)
	if err != nil {
		t.Fatal(err)
	}
	if len(outputs) != 2 || outputs[0].Input != 0 || outputs[1].Input != 2 || len(verdicts) != 1 {
		t.Errorf("got %+v and %+v", outputs, verdicts)
	}
}

func TestNothingIsAllocatedPerRecord(t *testing.T) {
	var block, entries []byte
	r := Record{Key: []byte("key"), Value: []byte("value"), Headers: AppendHeader(nil, "a", []byte("b")), HeaderCount: 1}
	o := Output{Key: r.Key, Value: r.Value, Headers: r.Headers, HeaderCount: 1}
	var c OutputChecker
	var it OutputIterator
	round := func() {
		block, entries = block[:0], entries[:0]
		for i := range 100 {
			block = AppendRecord(block, &r)
			o.Input = i
			entries = AppendOutput(entries, &o, true)
		}
		var back Record
		for rest := block; len(rest) > 0; {
			n, err := ReadRecord(rest, &back)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		entries = AppendReject(entries, 99, "last")
		c.Reset(100, 1)
		if err := c.Check(entries); err != nil {
			t.Fatal(err)
		}
		it.Reset(entries, nil, c.Verdicts)
		for it.Next(&o) {
		}
	}
	round()
	if n := testing.AllocsPerRun(20, round); n != 0 {
		t.Errorf("%v allocations for 100 records", n)
	}
}

func FuzzParseSetup(f *testing.F) {
	f.Add(AppendSetup(nil, &Setup{Deployment: "d", Inputs: []string{"i"}, Config: map[string]string{"a": "b"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSetup(b)
		if err != nil {
			return
		}
		again, err := ParseSetup(AppendSetup(nil, s))
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("got %+v, then %+v (%v)", s, again, err)
		}
	})
}

func FuzzReadRecord(f *testing.F) {
	f.Add(AppendRecord(nil, &Record{Key: []byte("k"), Headers: AppendHeader(nil, "a", nil), HeaderCount: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		n, err := ReadRecord(b, &r)
		if err != nil {
			return
		}
		if again := AppendRecord(nil, &r); !bytes.Equal(again, b[:n]) {
			t.Errorf("read %x, wrote %x", b[:n], again)
		}
	})
}

func FuzzOutputs(f *testing.F) {
	entries := AppendOutput(nil, &Output{Input: 1, Headers: AppendHeader(nil, "a", nil), HeaderCount: 1}, true)
	f.Add(AppendReject(entries, 1, "no"), uint8(30))
	f.Fuzz(func(t *testing.T, b []byte, border uint8) {
		at := min(int(border), len(b))
		outputs, verdicts, err := decode(4, 2, b[:at:at], b[at:])
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v is not marked as malformed", err)
			}
			return
		}
		rejected := make(map[int]bool)
		for _, v := range verdicts {
			rejected[v.Input] = true
		}
		last := 0
		for _, o := range outputs {
			if o.Input < last || o.Input >= 4 || o.Index >= 2 || rejected[o.Input] {
				t.Errorf("output %+v passed", o)
			}
			if err := CheckHeaders(o.Headers, o.HeaderCount); err != nil {
				t.Error(err)
			}
			last = o.Input
		}
	})
}

func BenchmarkOutputs(b *testing.B) {
	var entries []byte
	o := Output{Value: make([]byte, 100)}
	const count = 1000
	for i := range count {
		o.Input = i
		entries = AppendOutput(entries, &o, false)
	}
	var c OutputChecker
	var it OutputIterator
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			c.Reset(count, 1)
			if err := c.Check(entries); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/record")
	})
	b.Run("walk", func(b *testing.B) {
		for b.Loop() {
			it.Reset(entries, nil, nil)
			for it.Next(&o) {
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/record")
	})
}
