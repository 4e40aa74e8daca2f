package enginetest

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// pollTests are about what is read and how it is handed to a guest.
func pollTests() []test {
	return []test{
		{name: "poll/waits for data", run: pollWaits},
		{name: "poll/ends with its context", run: pollEndsWithContext},
		{name: "poll/compressed inputs", run: compressedInputs, outside: true},
		{name: "poll/about as much as asked for", run: pollIsBounded},
		{name: "poll/whether there is more", run: moreToRead},
		{name: "fetch/null is not empty", run: nullIsNotEmpty},
		{name: "fetch/encode in parts", run: encodeInParts},
		{name: "fetch/encode into too little", run: encodeIntoTooLittle},
	}
}

func pollWaits(e *env) {
	s := e.single()
	wait := background(func() (string, error) {
		f, err := s.Poll(e.ctx, pollBytes)
		if err != nil {
			return "", err
		}
		return string(f.Record(0).Value), nil
	})
	e.Produce(e, "in", 0, "none", numbered("v", 0, 1))
	got, err := wait()
	e.must(err)
	e.wantValues([]string{got}, "v-0")
}

func pollEndsWithContext(e *env) {
	s := e.single()
	ctx, cancel := contextWithCancel(e)
	wait := background(func() (engine.Fetch, error) { return s.Poll(ctx, pollBytes) })
	cancel()
	if _, err := wait(); err == nil {
		e.Error("a poll without data came back without an error")
	}
	e.Produce(e, "in", 0, "none", numbered("v", 0, 1))
	e.wantValues(e.pollValues(s, 1), "v-0") // the session lives on
}

func compressedInputs(e *env) {
	s := e.single()
	var want []string
	for _, codec := range []string{"gzip", "snappy", "lz4", "zstd", "none", "gzip"} {
		e.Produce(e, "in", 0, codec, numbered(codec, 0, 50))
		want = append(want, valuesOf(codec, 0, 50)...)
	}
	e.wantValues(e.pollValues(s, len(want)), want...)
	s.SeekTo(75) // in the middle of a compressed batch
	e.wantValues(e.pollValues(s, len(want)-75), want[75:]...)
}

func pollIsBounded(e *env) {
	s := e.single()
	for i := range 8 {
		e.Produce(e, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: bytes.Repeat([]byte{byte('a' + i)}, 1000)}})
	}
	f, err := s.Poll(e.ctx, 2500)
	e.must(err)
	if f.Len() < 1 || f.Len() > 3 {
		e.Errorf("%d records of 1,000 bytes for 2,500 bytes asked for", f.Len())
	}
	s.SeekTo(0)
	f, err = s.Poll(e.ctx, 10) // less than one record: one comes all the same
	e.must(err)
	if f.Len() != 1 {
		e.Errorf("%d records, want 1", f.Len())
	}
}

func moreToRead(e *env) {
	s := e.single()
	if s.Ready() || s.Position() != 0 {
		e.Errorf("nothing is written: ready is %t, the position %d", s.Ready(), s.Position())
	}
	for i := range 4 {
		e.Produce(e, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: bytes.Repeat([]byte{byte('a' + i)}, 1000)}})
	}
	e.pollValues(s, 4)
	if s.Ready() || s.Position() != 4 {
		e.Errorf("behind the last of four records: ready is %t, the position %d", s.Ready(), s.Position())
	}
	s.SeekTo(0) // who asks from here on is told of all four, whenever their producers were answered
	f, err := s.Poll(e.ctx, 10)
	e.must(err)
	if !s.Ready() || s.Position() != f.NextOffset(f.Len()-1) {
		e.Errorf("behind the first of four records: ready is %t, the position %d", s.Ready(), s.Position())
	}
	for s.Position() < 4 {
		_, err = s.Poll(e.ctx, pollBytes)
		e.must(err)
	}
	if s.Ready() {
		e.Errorf("everything is read once more: ready is true, the position %d", s.Position())
	}
}

// odd are records that differ in what is null, empty and there.
var odd = []engine.Record{
	{Timestamp: 5},
	{Timestamp: 4, Key: []byte{}, Value: []byte{}},
	{Timestamp: 9, Key: []byte("k"), Value: nil},
	{Timestamp: 8, Key: nil, Value: []byte("v"), Headers: []engine.Header{{Name: "a", Value: []byte("1")}, {Name: "", Value: nil}, {Name: "a", Value: []byte{}}}},
}

func nullIsNotEmpty(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", odd)
	f := e.poll(s)
	if f.Len() != len(odd) {
		e.Fatalf("%d records, want %d", f.Len(), len(odd))
	}
	if f.MaxTimestamp() != 9 {
		e.Errorf("the newest timestamp is %d, want 9", f.MaxTimestamp())
	}
	for i, want := range odd {
		want.Offset = int64(i)
		if got := f.Record(i); !reflect.DeepEqual(got, want) {
			e.Errorf("record %d is %#v, want %#v", i, got, want)
		}
		if f.Timestamps()[i] != want.Timestamp || f.NextOffset(i) != int64(i+1) {
			e.Errorf("record %d: timestamp %d, next offset %d", i, f.Timestamps()[i], f.NextOffset(i))
		}
	}
	for i, got := range decodeFlat(e, f, 1<<20, 0, f.Len()) {
		if got.Offset = int64(i); !reflect.DeepEqual(got, f.Record(i)) {
			e.Errorf("record %d in the flat form is %#v, want %#v", i, got, f.Record(i))
		}
	}
}

// decodeFlat encodes and decodes records of a fetch.
func decodeFlat(e *env, f engine.Fetch, room, first, most int) []engine.Record {
	e.Helper()
	dst := bytes.Repeat([]byte{0xee}, room)
	size, n, need := f.Encode(dst, first, most)
	if need != 0 {
		e.Fatalf("Encode(%d bytes) wants %d", room, need)
	}
	var records []engine.Record
	for rest := dst[:size]; len(rest) > 0; {
		var r abi.Record
		used, err := abi.ReadRecord(rest, &r)
		e.must(err)
		rest = rest[used:]
		out := engine.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
		for left := r.Headers; len(left) > 0; {
			name, value, tail, _ := abi.NextHeader(left)
			out.Headers = append(out.Headers, engine.Header{Name: string(name), Value: value})
			left = tail
		}
		records = append(records, out)
	}
	if len(records) != n {
		e.Errorf("Encode says %d records and wrote %d", n, len(records))
	}
	if len(bytes.Trim(dst[size:], "\xee")) != 0 {
		e.Errorf("Encode wrote behind its %d bytes", size)
	}
	return records
}

func encodeInParts(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 30))
	e.Produce(e, "in", 0, "gzip", numbered("v", 30, 30))
	e.pollValues(s, 60)
	s.SeekTo(0)
	var got []string
	for len(got) < 60 {
		f := e.poll(s)
		for first := 0; first < f.Len(); {
			part := decodeFlat(e, f, 256, first, 4)
			if len(part) == 0 || len(part) > 4 {
				e.Fatalf("%d records, at most 4 were asked for and more than none fit", len(part))
			}
			for i, r := range part {
				got = append(got, string(r.Value))
				if r.Offset != f.Record(first+i).Offset || r.Timestamp != f.Timestamps()[first+i] {
					e.Errorf("record %d: offset %d, timestamp %d", first+i, r.Offset, r.Timestamp)
				}
			}
			first += len(part)
		}
	}
	e.wantValues(got, valuesOf("v", 0, 60)...)
}

func encodeIntoTooLittle(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", []engine.Record{
		{Timestamp: 1, Value: []byte("small")},
		{Timestamp: 1, Value: bytes.Repeat([]byte("x"), 500), Headers: []engine.Header{{Name: "h", Value: []byte("v")}}},
	})
	f := e.poll(s)
	dst := make([]byte, 100)
	if size, n, need := f.Encode(dst, 0, 10); n != 1 || need != 0 || size != abi.RecordHeaderBytes+5 {
		e.Errorf("Encode says %d bytes, %d records, need %d: the first record fits", size, n, need)
	}
	want := abi.RecordHeaderBytes + 500 + abi.RecordHeaderEntryBytes + 2
	if size, n, need := f.Encode(dst, 1, 10); size != 0 || n != 0 || need != want {
		e.Errorf("Encode says %d bytes, %d records, need %d; the second record needs %d", size, n, need, want)
	}
	if _, n, _ := f.Encode(make([]byte, want), 1, 10); n != 1 {
		e.Error("the record does not fit into what it needs")
	}
	if size, n, need := f.Encode(dst, 2, 10); size != 0 || n != 0 || need != 0 {
		e.Error("something was encoded behind the end:", fmt.Sprint(size, n, need))
	}
}
