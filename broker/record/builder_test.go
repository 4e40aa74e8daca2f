package record

import (
	"bytes"
	"testing"
)

// TestShortPathBuildsTheSame: where numbers get longer by a byte, and where the short path gives up, it writes what the other one does.
func TestShortPathBuildsTheSame(t *testing.T) {
	fields := [][]byte{nil, {}}
	for _, around := range []int{20, 50, 63, 64, 100, maxShortFields, shortLimit / 2} {
		for n := around - 12; n <= around+2; n++ {
			fields = append(fields, bytes.Repeat([]byte("x"), n))
		}
	}
	taken := 0
	for _, deltas := range [][2]int64{{0, 0}, {63, 63}, {64, 64}, {-64, 1}, {-65, 8191}, {8191, 8192}, {-8192, 2}, {8192, 3}, {1 << 40, 4}} {
		for _, value := range fields {
			for _, key := range [][]byte{nil, {}, []byte("key"), value} {
				var short, long Builder
				short.Reset(make([]byte, 0, 1<<16), None)
				long.Reset(nil, None)
				if !short.addShort(deltas[0], deltas[1], key, value) {
					if short.Count() != 0 || short.SizeBytes() != HeaderBytes {
						t.Fatalf("it gave up with %d records in %d bytes", short.Count(), short.SizeBytes())
					}
					continue
				}
				taken++
				long.add(deltas[0], deltas[1], key, value, nil, 0)
				if got, want := short.Finish(), long.Finish(); !bytes.Equal(got, want) {
					t.Fatalf("deltas %v, key of %d bytes, value of %d:\n got %x\nwant %x", deltas, len(key), len(value), got, want)
				}
			}
		}
	}
	if taken < 1000 {
		t.Errorf("only %d records went the short way", taken)
	}
}

// TestShortPathKeepsToItsRoom: it writes nothing into what the buffer does not have.
func TestShortPathKeepsToItsRoom(t *testing.T) {
	value := bytes.Repeat([]byte("x"), 100)
	for room := range maxShortBytes + len(value) + 2 {
		var w Builder
		w.Reset(make([]byte, 0, HeaderBytes+room), None)
		if got, want := w.addShort(0, 0, nil, value), room >= maxShortBytes+len(value); got != want {
			t.Fatalf("with room for %d bytes it says %v", room, got)
		}
	}
}
