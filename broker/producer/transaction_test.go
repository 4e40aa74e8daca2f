package producer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// run lets a story happen, one step for each offset: "1" is a batch in a transaction
// of producer 1, "c1" and "a1" are its markers, "." is a batch without a producer.
func run(story string) *State {
	s, sequences := &State{}, map[int64]int32{}
	offset := int64(0)
	for step := range strings.FieldsSeq(story) {
		h := record.Header{BaseOffset: offset, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, Count: 1}
		if step != "." {
			h.ProducerID, h.ProducerEpoch, h.Attributes = int64(step[len(step)-1]-'0'), 0, 1<<4
		}
		if len(step) == 2 {
			h.Attributes |= 1 << 5
			s.Ended(&h, record.Marker{Commit: step[0] == 'c'}, time.UnixMilli(offset))
		} else {
			if h.ProducerID >= 0 {
				h.BaseSequence = sequences[h.ProducerID]
				sequences[h.ProducerID]++
			}
			s.Appended(&h, time.UnixMilli(offset))
		}
		offset++
	}
	return s
}

// told is the last stable offset (- if all is), then the aborted transactions between two offsets as producer:first-last.
func told(s *State, from, to int64) string {
	out := "-"
	if first, ok := s.FirstOpen(); ok {
		out = fmt.Sprint(first)
	}
	for _, a := range Overlapping(s.Aborted(), from, to) {
		out += fmt.Sprintf(" %d:%d-%d", a.ProducerID, a.First, a.Last)
	}
	return out
}

func TestTransactionsOfAState(t *testing.T) {
	for _, c := range []struct {
		story    string
		from, to int64
		want     string
	}{
		{"", 0, 10, "-"},
		{". .", 0, 10, "-"},
		{". 1 1", 0, 10, "1"},
		{"1 . a1", 0, 10, "- 1:0-2"},
		{"1 . a1 .", 3, 10, "-"},
		{"1 . c1", 0, 10, "-"},
		{"1 2 a2", 0, 10, "0 2:1-2"},
		{"1 2 a2 a1", 0, 10, "- 2:1-2 1:0-3"},
		{"1 2 a2 a1", 3, 10, "- 1:0-3"},
		{"1 2 a2 a1", 0, 1, "- 1:0-3"},
		{"1 a1 1 a1 1 a1", 2, 4, "- 1:2-3"},
		{"1 a1 1 a1 2 1 a1", 1, 3, "4 1:0-1 1:2-3"},
		{"3 1 a1 2 a2 a3", 1, 3, "- 1:1-2 3:0-5"},
		{"a1 c2", 0, 10, "-"},
	} {
		s := run(c.story)
		back, err := ReadSnapshot(s.AppendSnapshot(nil))
		if err != nil {
			t.Fatalf("%s: %v", c.story, err)
		}
		for how, s := range map[string]*State{"": s, ", from the snapshot": back} {
			if got := told(s, c.from, c.to); got != c.want {
				t.Errorf("%s%s, %d to %d: %s, want %s", c.story, how, c.from, c.to, got, c.want)
			}
		}
		if !slices.Equal(back.Producers(), s.Producers()) || !slices.Equal(back.OpenTransactions(), s.OpenTransactions()) {
			t.Errorf("%s: the snapshot has producers %+v, not %+v", c.story, back.Producers(), s.Producers())
		}
	}
}

func TestForget(t *testing.T) {
	s := run("1 a1 2 a2 3 a3 4")
	kept := s.Aborted()
	s.Forget(4)
	if got := told(s, 0, 10); got != "6 3:4-5" {
		t.Errorf("left: %s", got)
	}
	if len(kept) != 3 || kept[0].ProducerID != 1 {
		t.Errorf("the list that was kept has changed: %+v", kept)
	}
}

// What compaction has removed is forgotten; what it has kept and what lies behind it is not.
func TestRetain(t *testing.T) {
	s := run("1 a1 2 a2 3 a3 4 a4") // markers at 1, 3, 5, 7
	kept := s.Aborted()
	if s.Retain(6, []int64{1, 3, 5}) {
		t.Error("all markers are there, yet something is forgotten")
	}
	if !s.Retain(6, []int64{3}) {
		t.Error("nothing is forgotten")
	}
	var left []int64
	for _, a := range s.Aborted() {
		left = append(left, a.ProducerID)
	}
	if !slices.Equal(left, []int64{2, 4}) {
		t.Errorf("left: %v", left)
	}
	if len(kept) != 4 || kept[0].ProducerID != 1 {
		t.Errorf("the list that was kept has changed: %+v", kept)
	}
}

// More producers than are remembered do not drive out an open transaction.
func TestBoundSparesOpenTransactions(t *testing.T) {
	s := run("1")
	for id := range int64(MaxProducers + 10) {
		h := record.Header{BaseOffset: 1 + id, ProducerID: 100 + id, Count: 1}
		s.Appended(&h, time.UnixMilli(1+id))
	}
	if _, first, ok := s.Open(1); !ok || first != 0 || s.Len() > MaxProducers+1 {
		t.Errorf("open %v at %d, %d producers", ok, first, s.Len())
	}
}
