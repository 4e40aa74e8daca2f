package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Versions of Produce in which the answers about transactions changed.
const (
	produceAbortable = 11 // TRANSACTION_ABORTABLE is known
	produceImplicit  = 12 // writing adds the partition to the transaction
)

// producedTransaction is what a Produce request has to do with a transaction.
type producedTransaction struct {
	id      string // "" if nothing
	version int16
	ticket  txn.Ticket
	err     error // why its batches cannot be taken
}

// joinTransaction makes the partitions of a request part of its transaction
// where the request's version says so, all of them in one step.
func (s *Service) joinTransaction(req *kmsg.ProduceRequest) producedTransaction {
	x := producedTransaction{id: text(req.TransactionID), version: req.Version}
	if x.id == "" || req.Version < produceImplicit {
		return x
	}
	p := txn.NoProducer
	var partitions []txn.Partition
	for i := range req.Topics {
		rt := &req.Topics[i]
		name, err := s.producedTopic(req.Version, rt)
		if err != nil {
			continue
		}
		for j := range rt.Partitions {
			owner, ok := transactionOf(rt.Partitions[j].Records)
			if part, err := s.Topics.Partition(name, rt.Partitions[j].Partition); ok && err == nil {
				p = owner // another one among them is refused when its batch is appended
				partitions = append(partitions, txn.Partition{Topic: part.Topic(), Partition: part.Index()})
			}
		}
	}
	if len(partitions) > 0 {
		x.ticket, x.err = s.Transactions.Add(x.id, p, txn.V2, partitions...)
	}
	return x
}

// transactionOf returns the producer of a transactional batch; ok is false if it is none.
func transactionOf(batch []byte) (p txn.Producer, ok bool) {
	h, err := record.ParsePrefix(batch)
	if err != nil || !h.Transactional() {
		return txn.NoProducer, false
	}
	return txn.Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch}, true
}

// appendTo appends a client's batch to a partition, within its transaction if it is of one.
func (x *producedTransaction) appendTo(ctx context.Context, s *Service, p *topic.Partition, batch []byte) (at topic.Appended, err error) {
	owner, transactional := transactionOf(batch)
	switch {
	case !transactional || x.id == "":
		return p.Append(ctx, batch, topic.FromClient)
	case x.err != nil:
		return at, abortable(x.err, x.version, produceAbortable, produceImplicit)
	}
	tp := txn.Partition{Topic: p.Topic(), Partition: p.Index()}
	err = s.Transactions.Within(x.id, owner, tp, func() (err error) {
		at, err = p.Append(ctx, batch, topic.FromTransaction)
		return err
	})
	return at, abortable(err, x.version, produceAbortable, produceImplicit)
}

// waitDurable waits until it is on record which partitions are part of the transaction.
func (x *producedTransaction) waitDurable(ctx context.Context) error {
	if err := x.ticket.Durable(ctx); err != nil {
		return fmt.Errorf("add partitions to transaction %q: %w", x.id, err)
	}
	return nil
}
