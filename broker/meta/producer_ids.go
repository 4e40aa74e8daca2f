package meta

import (
	"context"
	"encoding/json"
)

// producerIDBlock is how many ids one durable record reserves. What is left
// of a block at a restart is lost, which 63 bits can bear.
const producerIDBlock = 1000

type producerIDs struct {
	next, limit int64 // ids of the block in use
	reserved    int64 // first id that no block holds
}

// NewProducerID returns a producer id that no producer had before.
func (s *Store) NewProducerID(ctx context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.producers.next == s.producers.limit {
		first := s.producers.reserved
		value, err := json.Marshal(producerIDsRecord{Next: first + producerIDBlock})
		if err != nil {
			return 0, err
		}
		if err := s.change(ctx, now(), producerIDsKey, value); err != nil {
			return 0, err
		}
		s.producers.next, s.producers.limit = first, first+producerIDBlock
	}
	id := s.producers.next
	s.producers.next++
	return id, nil
}
