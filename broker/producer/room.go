package producer

import "sync/atomic"

// keptProducers is how many producers each State may remember however full a Room is.
const keptProducers = 100

// Room bounds how many producers several States remember together. When there
// are so many, a State that learns of a new one forgets the one of its own that has
// been silent for longest, unless it has few. Room is safe for concurrent use.
type Room struct {
	limit int64
	used  atomic.Int64
}

// NewRoom returns a room for so many producers.
func NewRoom(limit int) *Room { return &Room{limit: int64(limit)} }

// Len is the number of producers remembered.
func (r *Room) Len() int { return int(r.used.Load()) }

func (r *Room) full() bool { return r != nil && r.used.Load() >= r.limit }

func (r *Room) add(n int) {
	if r != nil {
		r.used.Add(int64(n))
	}
}

// Enter makes the state share a room with others; it has not been in one before. It forgets what is too much.
func (s *State) Enter(r *Room) {
	s.room = r
	r.add(len(s.producers))
	for before := -1; r.full() && len(s.producers) > keptProducers && before != len(s.producers); {
		before = len(s.producers)
		s.forgetOldest()
	}
}

// Leave gives up the state's place in its room: the state is used no more.
func (s *State) Leave() {
	s.room.add(-len(s.producers))
	s.room = nil
}
