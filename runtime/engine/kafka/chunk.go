package kafka

import (
	"cmp"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/broker/record"
)

// chunk is what one answer brought of a partition: its batches without those that hold no records for
// readers of committed records.
type chunk struct {
	batches []readBatch
	next    int64 // behind the chunk
}

// readBatch is a batch as it was read.
type readBatch struct {
	header record.Header
	bytes  []byte
}

func (c *chunk) bytes() int {
	n := 0
	for i := range c.batches {
		n += len(c.batches[i].bytes)
	}
	return n
}

// abortion is an aborted transaction that an answer overlaps with: where its records begin.
type abortion struct{ producer, first int64 }

func abortedOf(p *kmsg.FetchResponseTopicPartition) []abortion {
	if len(p.AbortedTransactions) == 0 {
		return nil
	}
	list := make([]abortion, len(p.AbortedTransactions))
	for i, a := range p.AbortedTransactions {
		list[i] = abortion{a.ProducerID, a.FirstOffset}
	}
	slices.SortFunc(list, func(a, b abortion) int { return cmp.Compare(a.first, b.first) })
	return list
}

// split takes the batches in raw apart, from offset on. A last batch that is cut short belongs to the next
// answer. Behind an error the chunk holds what came before it.
func split(raw []byte, from int64, aborted []abortion) (chunk, error) {
	c := chunk{next: from}
	var open map[int64]bool // producers in the midst of an aborted transaction
	for rest := raw; len(rest) > 0; {
		h, err := record.ParseHeader(rest)
		if errors.Is(err, record.ErrTruncated) && len(rest) < len(raw) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		bytes := rest[:h.Size()]
		rest = rest[h.Size():]
		for len(aborted) > 0 && aborted[0].first <= h.LastOffset() {
			if open == nil {
				open = map[int64]bool{}
			}
			open[aborted[0].producer] = true
			aborted = aborted[1:]
		}
		switch {
		case h.Control():
			marker, ends, err := record.ParseMarker(bytes)
			if err != nil {
				return c, err
			}
			if ends && !marker.Commit {
				delete(open, h.ProducerID)
			}
		case h.Transactional() && open[h.ProducerID]:
		case h.Count > 0 && h.LastOffset() >= from:
			c.batches = append(c.batches, readBatch{h, bytes})
		}
		c.next = max(c.next, h.LastOffset()+1)
	}
	return c, nil
}
