package embedded

import (
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine/batch"
)

// fetch is a run of records as views on the batches they were read in. It is
// used again for each Poll, with all its buffers.
type fetch struct {
	batch.Fetch
	raw     []byte                     // batches as read
	aborted []topic.AbortedTransaction // in raw
}

// load decodes the batches in f.raw from offset on, but for markers and what
// was aborted. Batches behind one that is damaged are left out; if the damaged
// one is the first, that is the error. limitBytes is about how much may be decompressed.
func (f *fetch) load(offset int64, limitBytes int) error {
	f.Begin(offset)
	compressedBytes := 0
	for rest := f.raw; len(rest) > 0; {
		if f.Bytes()-compressedBytes > limitBytes && f.Len() > 0 {
			break
		}
		h, err := record.ParseHeader(rest)
		if err != nil {
			err = fmt.Errorf("batch at offset %d: %w", f.next(), err)
		} else {
			b := rest[:h.Size()]
			rest = rest[h.Size():]
			compressedBytes += len(b) // as much was asked for; what counts is what comes on top
			if h.Control() || f.isAborted(&h) {
				f.End(h.LastOffset() + 1)
				continue
			}
			err = f.Append(b, &h)
		}
		if err != nil {
			if f.Len() > 0 {
				return nil
			}
			return err
		}
	}
	return nil
}

// next is the position behind the fetch.
func (f *fetch) next() int64 { return f.NextOffset(f.Len() - 1) }

func (f *fetch) isAborted(h *record.Header) bool {
	return slices.ContainsFunc(f.aborted, func(a topic.AbortedTransaction) bool { return a.Has(h) })
}
