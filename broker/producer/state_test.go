package producer

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// log plays the part of the log: it gives offsets.
type log struct {
	t     *testing.T
	state *State
	end   int64
}

func header(id int64, epoch int16, sequence, count int32) *record.Header {
	return &record.Header{ProducerID: id, ProducerEpoch: epoch, BaseSequence: sequence, LastOffsetDelta: count - 1, Count: count}
}

// send does what an append does and returns the batch's offset.
func (l *log) send(h *record.Header) (offset int64, duplicate bool, err error) {
	at, duplicate, err := l.state.Check(h)
	if err != nil || duplicate {
		return at.BaseOffset, duplicate, err
	}
	h.BaseOffset = l.end
	l.state.Appended(h, time.UnixMilli(l.end))
	l.end = h.LastOffset() + 1
	return h.BaseOffset, false, nil
}

type step struct {
	id        int64
	epoch     int16
	sequence  int32
	count     int32
	offset    int64
	duplicate bool
	err       error
}

func (l *log) run(steps ...step) {
	l.t.Helper()
	for i, s := range steps {
		offset, duplicate, err := l.send(header(s.id, s.epoch, s.sequence, s.count))
		if !errors.Is(err, s.err) || duplicate != s.duplicate || (err == nil && offset != s.offset) {
			l.t.Errorf("step %d %+v: offset %d, duplicate %v, %v", i, s, offset, duplicate, err)
		}
	}
}

func TestSequences(t *testing.T) {
	for name, steps := range map[string][]step{
		"in order":                    {{1, 0, 0, 3, 0, false, nil}, {1, 0, 3, 1, 3, false, nil}, {1, 0, 4, 2, 4, false, nil}},
		"gap":                         {{1, 0, 0, 3, 0, false, nil}, {1, 0, 4, 1, 0, false, ErrOutOfOrder}, {1, 0, 3, 1, 3, false, nil}},
		"again":                       {{1, 0, 0, 3, 0, false, nil}, {1, 0, 0, 3, 0, true, nil}, {1, 0, 3, 1, 3, false, nil}, {1, 0, 0, 3, 0, true, nil}},
		"again with another count":    {{1, 0, 0, 3, 0, false, nil}, {1, 0, 0, 2, 0, false, ErrDuplicate}},
		"empty log wants 0":           {{1, 0, 5, 1, 0, false, ErrOutOfOrder}, {1, 0, 0, 1, 0, false, nil}},
		"unknown id in a written log": {{1, 0, 0, 1, 0, false, nil}, {2, 0, 7, 1, 1, false, nil}, {2, 0, 8, 1, 2, false, nil}},
		"two producers":               {{1, 0, 0, 1, 0, false, nil}, {2, 0, 0, 1, 1, false, nil}, {1, 0, 1, 1, 2, false, nil}, {2, 0, 0, 1, 1, true, nil}},
		"new epoch starts at 0":       {{1, 0, 0, 1, 0, false, nil}, {1, 1, 1, 1, 0, false, ErrOutOfOrder}, {1, 1, 0, 1, 1, false, nil}, {1, 0, 1, 1, 0, false, ErrFenced}},
		"no producer id":              {{-1, -1, -1, 1, 0, false, nil}, {-1, -1, -1, 1, 1, false, nil}},
		"wrap": {{1, 0, 0, 1, 0, false, nil}, {2, 0, math.MaxInt32 - 1, 2, 1, false, nil}, {2, 0, 0, 1, 3, false, nil},
			{2, 0, math.MaxInt32 - 1, 2, 1, true, nil}, {2, 0, math.MaxInt32, 1, 0, false, ErrDuplicate}, {2, 0, 2, 1, 0, false, ErrOutOfOrder}},
		"a batch over the wrap": {{1, 0, 0, 1, 0, false, nil}, {2, 0, math.MaxInt32 - 1, 4, 1, false, nil}, {2, 0, 2, 1, 5, false, nil}},
		"window of five": {{1, 0, 0, 1, 0, false, nil}, {1, 0, 1, 1, 1, false, nil}, {1, 0, 2, 1, 2, false, nil}, {1, 0, 3, 1, 3, false, nil}, {1, 0, 4, 1, 4, false, nil},
			{1, 0, 0, 1, 0, true, nil}, {1, 0, 5, 1, 5, false, nil}, {1, 0, 0, 1, 0, false, ErrDuplicate}, {1, 0, 1, 1, 1, true, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &log{t: t, state: &State{}}
			l.run(steps...)
			// The state that a snapshot brings back decides as the one before.
			back, err := ReadSnapshot(l.state.AppendSnapshot([]byte("prefix"))[len("prefix"):])
			if err != nil {
				t.Fatal(err)
			}
			if back.End() != l.end || back.Len() != l.state.Len() {
				t.Fatalf("end %d with %d producers, want %d with %d", back.End(), back.Len(), l.end, l.state.Len())
			}
			for _, s := range steps {
				if s.err == nil && s.id >= 0 {
					_, dup1, err1 := l.state.Check(header(s.id, s.epoch, s.sequence, s.count))
					_, dup2, err2 := back.Check(header(s.id, s.epoch, s.sequence, s.count))
					if dup1 != dup2 || (err1 == nil) != (err2 == nil) {
						t.Errorf("%+v: %v %v, from the snapshot %v %v", s, dup1, err1, dup2, err2)
					}
				}
			}
		})
	}
}

func TestExpire(t *testing.T) {
	l := &log{t: t, state: &State{}}
	l.run(step{id: 1, count: 10}, step{id: 2, count: 1, offset: 10}) // at 0 ms and 10 ms
	if n := l.state.Expire(time.UnixMilli(5)); n != 1 || l.state.Len() != 1 {
		t.Errorf("%d expired, %d left", n, l.state.Len())
	}
	l.run(step{id: 2, sequence: 1, count: 1, offset: 11})
}

func TestBound(t *testing.T) {
	s := &State{}
	for id := range int64(MaxProducers + 10) {
		h := header(id, 0, 0, 1)
		h.BaseOffset = id
		s.Appended(h, time.UnixMilli(id))
	}
	if s.Len() > MaxProducers {
		t.Errorf("%d producers, at most %d", s.Len(), MaxProducers)
	}
	if _, dup, _ := s.Check(header(MaxProducers+9, 0, 0, 1)); !dup {
		t.Error("the newest producer was forgotten")
	}
}

func FuzzReadSnapshot(f *testing.F) {
	l := &log{state: &State{}}
	for i := range int32(7) {
		if _, _, err := l.send(header(int64(i%2), 0, i/2, 1)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(l.state.AppendSnapshot(nil))
	f.Add(run("1 2 a2 3 a3 . c1 4").AppendSnapshot(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSnapshot(b)
		if err != nil {
			return
		}
		if _, err := ReadSnapshot(s.AppendSnapshot(nil)); err != nil {
			t.Error(err)
		}
	})
}
