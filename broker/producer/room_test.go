package producer

import (
	"testing"
	"time"
)

func TestRoomIsShared(t *testing.T) {
	r := NewRoom(3 * keptProducers)
	states := []*State{{}, {}, {}, {}}
	write := func(s *State, id int64) {
		h := header(id, 0, 0, 1)
		h.BaseOffset = s.End()
		s.Appended(h, time.UnixMilli(s.End()))
	}
	states[0].Enter(r)
	for id := range int64(10 * keptProducers) {
		write(states[0], id)
	}
	if n := states[0].Len(); n > 3*keptProducers {
		t.Errorf("%d producers where there is room for %d", n, 3*keptProducers)
	}
	if _, dup, _ := states[0].Check(header(10*keptProducers-1, 0, 0, 1)); !dup {
		t.Error("the newest producer was forgotten")
	}
	for _, s := range states[1:] {
		s.Enter(r)
		for id := range int64(2 * keptProducers) {
			write(s, id)
		}
		if n := s.Len(); n != keptProducers {
			t.Errorf("without room a state remembers %d producers, want %d", n, keptProducers)
		}
	}
	all := 0
	for _, s := range states {
		all += s.Len()
	}
	if r.Len() != all {
		t.Errorf("the room counts %d, there are %d", r.Len(), all)
	}
	states[0].Expire(time.Now())
	for _, s := range states {
		s.Leave()
	}
	if r.Len() != 0 {
		t.Errorf("%d are left in an empty room", r.Len())
	}
}

// A state that was read from disk may be larger than the room it enters.
func TestEnteringForgets(t *testing.T) {
	s := &State{}
	for id := range int64(5 * keptProducers) {
		h := header(id, 0, 0, 1)
		h.BaseOffset = id
		s.Appended(h, time.UnixMilli(id))
	}
	r := NewRoom(2 * keptProducers)
	s.Enter(r)
	if s.Len() >= 2*keptProducers || s.Len() < keptProducers-5 || r.Len() != s.Len() {
		t.Errorf("%d producers are remembered, the room counts %d", s.Len(), r.Len())
	}
}
