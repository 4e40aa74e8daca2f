package dlq

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestMarksRememberExactlyWhatWasAdded compares with a plain set, over offsets of which some never have a letter.
func TestMarksRememberExactlyWhatWasAdded(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		const topic, offsets = "d.dlq", 64
		letter := make([]bool, offsets)
		for i := range letter {
			letter[i] = r.IntN(3) > 0
		}
		m := &marks{partitions: map[int32]*progress{}}
		added := map[int64]bool{}
		for range 40 {
			at := r.Int64N(offsets)
			if !letter[at] {
				from := at
				for from > 0 && !letter[from-1] {
					from--
				}
				m.gap(0, from, at+1)
				continue
			}
			m.add(0, at)
			added[at] = true
			out, err := m.offsets(topic)
			if err != nil {
				t.Fatal(err)
			}
			o, _ := out.Lookup(topic, 0)
			ranges, err := decodeRanges(o.At, o.Metadata)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			m = &marks{partitions: map[int32]*progress{0: {before: o.At, ranges: ranges}}}
			for i := range int64(offsets) {
				if letter[i] && m.has(0, i) != added[i] {
					t.Fatalf("seed %d: offset %d is done: %t, want %t (%+v)", seed, i, m.has(0, i), added[i], m.partitions[0])
				}
			}
		}
	}
}

func TestMarksOfEverythingAreOneOffset(t *testing.T) {
	m := &marks{partitions: map[int32]*progress{}}
	for _, at := range []int64{7, 3, 5} {
		m.add(0, at)
	}
	m.gap(0, 0, 3)
	m.gap(0, 4, 5)
	m.gap(0, 6, 7)
	m.gap(0, 8, 20)
	if got := *m.partitions[0]; got.before != 20 || len(got.ranges) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestTooManyMarksAreRefusedNotCut(t *testing.T) {
	m := &marks{partitions: map[int32]*progress{}}
	for at := int64(1); at < 20_000; at += 2 {
		m.add(0, at)
	}
	if _, err := m.offsets("d.dlq"); err == nil {
		t.Error("10,000 ranges fit into the metadata of an offset")
	}
}

func FuzzDecodeRanges(f *testing.F) {
	f.Add(int64(5), encodeRanges(5, []span{{7, 9}, {12, 13}}))
	f.Add(int64(0), "retried:1:////////////")
	f.Add(int64(0), "rubbish")
	f.Fuzz(func(t *testing.T, before int64, metadata string) {
		if before < 0 {
			return
		}
		ranges, err := decodeRanges(before, metadata)
		if err != nil {
			return
		}
		at := before
		for _, s := range ranges {
			if s.from <= at || s.to <= s.from {
				t.Fatalf("ranges %v behind %d", ranges, before)
			}
			at = s.to
		}
		again, err := decodeRanges(before, encodeRanges(before, ranges))
		if err != nil || !reflect.DeepEqual(again, ranges) {
			t.Fatalf("%v became %v: %v", ranges, again, err)
		}
	})
}
