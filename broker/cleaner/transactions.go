package cleaner

import (
	"sort"

	"github.com/millstream-io/millstream/broker/record"
)

// transactions are those that a compaction meets. A key written in one counts
// only once the marker says that it was committed; what was aborted is
// dropped. A marker stays until nothing of its transaction is left, and then
// as long as a tombstone.
type transactions struct {
	open    map[int64]*openTransaction // by producer id
	over    map[int64][]span           // the aborted ones, by producer id, in order
	pending int                        // keys of open ones
	met     bool                       // there are some

	// Known while the log is rewritten, in order.
	kept         map[int64]bool // producer ids of which a batch stays behind their last marker
	abortMarkers []int64        // offsets of those that stay
}

type openTransaction struct {
	first int64
	keys  map[keyHash]int64
}

// span is the offsets from the first record of a transaction to its marker.
type span struct{ first, marker int64 }

func newTransactions() transactions {
	return transactions{open: map[int64]*openTransaction{}, over: map[int64][]span{}, kept: map[int64]bool{}}
}

// keys returns the keys of the transaction that a batch belongs to; the first batch begins it.
func (t *transactions) keys(h *record.Header) map[keyHash]int64 {
	t.met = true
	x := t.open[h.ProducerID]
	if x == nil {
		x = &openTransaction{first: h.BaseOffset, keys: map[keyHash]int64{}}
		t.open[h.ProducerID] = x
	}
	return x.keys
}

// end handles a control batch. The keys of a committed transaction are put into last.
func (t *transactions) end(h *record.Header, batch []byte, last map[keyHash]int64) error {
	m, ok, err := record.ParseMarker(batch)
	if err != nil || !ok {
		return err
	}
	t.met = true
	x := t.open[h.ProducerID]
	if x == nil {
		return nil
	}
	delete(t.open, h.ProducerID)
	t.pending -= len(x.keys)
	if !m.Commit {
		t.over[h.ProducerID] = append(t.over[h.ProducerID], span{x.first, h.BaseOffset})
		return nil
	}
	for key, offset := range x.keys {
		last[key] = max(last[key], offset)
	}
	return nil
}

// firstOpen returns the first offset of the open transactions, end if there is none.
func (t *transactions) firstOpen(end int64) int64 {
	for _, x := range t.open {
		end = min(end, x.first)
	}
	return end
}

// aborted reports whether the record of a producer at an offset belongs to an aborted transaction.
func (t *transactions) aborted(producerID, offset int64) bool {
	spans := t.over[producerID]
	i := sort.Search(len(spans), func(i int) bool { return spans[i].marker > offset })
	return i < len(spans) && spans[i].first <= offset
}
