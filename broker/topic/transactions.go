package topic

import (
	"sync/atomic"

	"github.com/millstream-io/millstream/broker/producer"
	"github.com/millstream-io/millstream/broker/record"
)

// transactions is what readers need of the transactions of a partition. It is
// published under Partition.appending and read without a lock.
type transactions struct {
	// open is one more than the offset at which the oldest open transaction began; 0: none is open.
	open    atomic.Int64
	aborted atomic.Pointer[[]producer.Aborted]
}

// hold keeps the last stable offset from passing end, before a batch of a
// transaction that may begin there can be read.
func (t *transactions) hold(end int64) { t.open.CompareAndSwap(0, end+1) }

// publish shows the transactions of a state. What was aborted comes first: a
// reader who finds the last stable offset moved must find out why.
func (t *transactions) publish(s *producer.State) {
	aborted := s.Aborted()
	t.aborted.Store(&aborted)
	open := int64(0)
	if first, ok := s.FirstOpen(); ok {
		open = first + 1
	}
	t.open.Store(open)
}

// AbortedTransaction is a transaction whose records a reader of committed
// records has to pass over: those of its producer from its first offset to its
// marker's.
type AbortedTransaction struct {
	ProducerID, FirstOffset, LastOffset int64
}

// Has reports whether a batch is of the transaction.
func (a AbortedTransaction) Has(h *record.Header) bool {
	return h.ProducerID == a.ProducerID && h.Transactional() && h.BaseOffset >= a.FirstOffset && h.BaseOffset <= a.LastOffset
}

// Aborted lists the aborted transactions that have records in batches, which
// were read with ReadOptions.Committed. Compaction may have removed a
// transaction with its marker: it is not listed then, for the reader would
// wait for the marker and pass over records of later transactions.
func (p *Partition) Aborted(batches []byte) []AbortedTransaction {
	list := p.transactions.aborted.Load()
	if list == nil || len(*list) == 0 || len(batches) == 0 {
		return nil
	}
	from, to := int64(-1), int64(-1)
	markers := make(map[int64]struct{})
	for rest := batches; len(rest) > 0; {
		h, err := record.ParseHeader(rest)
		if err != nil {
			break // whole batches come from the log
		}
		if from < 0 {
			from = h.BaseOffset
		}
		if h.Control() {
			markers[h.LastOffset()] = struct{}{}
		}
		to, rest = h.LastOffset()+1, rest[h.Size():]
	}
	var out []AbortedTransaction
	for _, a := range producer.Overlapping(*list, from, to) {
		if _, found := markers[a.Last]; found || a.Last >= to {
			out = append(out, AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.First, LastOffset: a.Last})
		}
	}
	return out
}

// OpenTransaction tells the epoch of a producer's open transaction and where in
// the partition it began; ok is false if it has none.
func (p *Partition) OpenTransaction(producerID int64) (epoch int16, first int64, ok bool) {
	p.appending.Lock()
	defer p.appending.Unlock()
	return p.producers.state.Open(producerID)
}

// Producers lists what is known of the producers that write to the partition, by id.
func (p *Partition) Producers() []producer.Info {
	p.appending.Lock()
	defer p.appending.Unlock()
	return p.producers.state.Producers()
}

// Partitions returns every partition of every topic that is not offline.
func (t *Topics) Partitions() []*Partition { return t.allPartitions() }

// OpenTransactions lists the producers that have an open transaction in the partition.
func (p *Partition) OpenTransactions() []producer.Info {
	p.appending.Lock()
	defer p.appending.Unlock()
	return p.producers.state.OpenTransactions()
}
