package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// heldOffset is an offset that counts once its transaction is committed.
type heldOffset struct {
	Offset
	position int64
}

// heldOffsets are a group's offsets in open transactions, by producer. Of two
// entries for a partition the later one counts, whichever transaction ends first.
type heldOffsets map[int64]map[TopicPartition]heldOffset

// hold takes an entry of a transaction up.
func (l *ledger) hold(e *entry) {
	if l.held == nil {
		l.held = heldOffsets{}
	}
	offsets := l.held[e.txn.producerID]
	if offsets == nil {
		offsets = map[TopicPartition]heldOffset{}
		l.held[e.txn.producerID] = offsets
	}
	if old, ok := offsets[e.partition]; ok {
		l.charge(-sizeOfOffset(e.partition, &old.Offset))
	}
	l.charge(sizeOfOffset(e.partition, &e.offset))
	offsets[e.partition] = heldOffset{e.offset, e.txn.position}
}

// supersede drops what was held for a partition before a position.
func (l *ledger) supersede(tp TopicPartition, position int64) {
	for producerID, offsets := range l.held {
		if o, ok := offsets[tp]; ok && o.position < position {
			l.charge(-sizeOfOffset(tp, &o.Offset))
			if delete(offsets, tp); len(offsets) == 0 {
				delete(l.held, producerID)
			}
		}
	}
}

// has reports whether something is held for a partition.
func (h heldOffsets) has(tp TopicPartition) bool {
	for _, offsets := range h {
		if _, ok := offsets[tp]; ok {
			return true
		}
	}
	return false
}

// partitions are those that something is held for.
func (h heldOffsets) partitions() map[TopicPartition]bool {
	all := make(map[TopicPartition]bool)
	for _, offsets := range h {
		for tp := range offsets {
			all[tp] = true
		}
	}
	return all
}

// endTransaction makes what a producer's transaction holds count, or drops it.
func (l *ledger) endTransaction(producerID int64, commit bool) {
	offsets := l.held[producerID]
	delete(l.held, producerID)
	for tp, o := range offsets {
		l.charge(-sizeOfOffset(tp, &o.Offset))
		if commit {
			l.setOffset(tp, o.Offset)
			l.supersede(tp, o.position)
		}
	}
}

// transaction names a producer's transaction in a shard of the journal.
type transaction struct {
	shard      int
	producerID int64
}

// transactions are the groups that have offsets in open transactions.
type transactions struct {
	mu     sync.Mutex
	groups map[transaction]map[string]struct{}
}

func (t *transactions) add(tx transaction, group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.groups == nil {
		t.groups = map[transaction]map[string]struct{}{}
	}
	if t.groups[tx] == nil {
		t.groups[tx] = map[string]struct{}{}
	}
	t.groups[tx][group] = struct{}{}
}

// take returns the groups of a transaction and forgets them.
func (t *transactions) take(tx transaction) map[string]struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	groups := t.groups[tx]
	delete(t.groups, tx)
	return groups
}

// replayed takes up what an entry has to do with transactions; done says that this is all there is to it.
func (t *transactions) replayed(groups map[string]*anyGroup, shard int, e *entry) (done bool) {
	tx := transaction{shard, e.txn.producerID}
	switch {
	case e.txn.marker != nil:
		for id := range t.take(tx) {
			if g := groups[id]; g != nil {
				g.endTransaction(tx.producerID, e.txn.marker.Commit)
			}
		}
		return true
	case e.txn.transactional:
		t.add(tx, e.group)
	}
	return false
}

// TransactionPartition is the partition of OffsetsTopic that a group's offsets are in.
func (c *Coordinator) TransactionPartition(group string) TopicPartition {
	return TopicPartition{Topic: OffsetsTopic, Partition: int32(shardOf(group, c.journal.shards()))}
}

// CommitInTransaction stores offsets that count once the producer's transaction
// is committed. The caller sees to it that the transaction is open and has the
// group's partition. wait returns once the offsets are durable.
func (c *Coordinator) CommitInTransaction(id Identity, producerID int64, epoch int16, offsets map[TopicPartition]Offset) (wait func(context.Context) error, err error) {
	journal, ok := c.journal.(transactionJournal)
	if !ok {
		return nil, fmt.Errorf("%w: it takes no transactions", ErrJournal)
	}
	if id.Group == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalidGroupID)
	}
	entries := make([]entry, 0, len(offsets))
	now := time.Now()
	for tp, o := range offsets {
		if len(o.Metadata) > MaxMetadataBytes {
			return nil, fmt.Errorf("%w: %d bytes for %s-%d, at most %d are allowed", ErrMetadataTooLarge,
				len(o.Metadata), tp.Topic, tp.Partition, MaxMetadataBytes)
		}
		o.CommitTime = now
		e := offsetEntry(id.Group, tp, o)
		e.txn = txnEntry{transactional: true, producerID: producerID}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return func(context.Context) error { return nil }, nil
	}
	var shard int
	var end int64
	plain := id.Generation < 0 && id.MemberID == "" && id.InstanceID == ""
	err = c.with(id.Group, plain, func(g *anyGroup) error {
		defer g.buryIfUnused()
		if err := g.checkTransactionalCommit(id, plain); err != nil {
			return err
		}
		if err := g.roomForOffsets(entries); err != nil {
			return err
		}
		c.transactions.add(transaction{g.shard, producerID}, id.Group) // first: who ends the transaction behind the append finds the group
		first, last, err := journal.appendTransactional(g.shard, producerID, epoch, entries)
		if err != nil {
			return err
		}
		for i := range entries {
			entries[i].txn.position = first + int64(i)
			g.apply(entries[i])
		}
		g.appended = last
		shard, end = g.shard, last
		return nil
	})
	if errors.Is(err, ErrUnknownMember) && id.Generation >= 0 {
		if g, lookupErr := c.lookup(id.Group, false); lookupErr == nil && g == nil {
			err = fmt.Errorf("%w: %d: group %q does not exist", ErrIllegalGeneration, id.Generation, id.Group)
		}
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.journal.waitDurable(ctx, shard, end) }, nil
}

// checkTransactionalCommit says whether the caller may commit now. Producers that
// do not say of which member they are (before KIP-447) always may: their
// transactional id fences them. Members may while others rejoin.
func (g *anyGroup) checkTransactionalCommit(id Identity, plain bool) error {
	if plain || id.Generation < 0 && g.vacant() {
		return nil
	}
	if g.consumer != nil {
		return g.modern().checkEpoch(id)
	}
	m, err := g.find(id.MemberID, id.InstanceID)
	if err != nil {
		return err
	}
	if err := g.checkGeneration(id.Generation); err != nil {
		return err
	}
	if m.joining == nil && m.syncing == nil {
		g.touch(m)
	}
	return nil
}

// EndTransaction commits or drops what a producer's transaction holds in a
// partition of OffsetsTopic. It may be repeated. What it says survives a power cut when the partition is durable up to end.
func (c *Coordinator) EndTransaction(partition int32, producerID int64, epoch int16, m record.Marker) (end int64, err error) {
	journal, ok := c.journal.(transactionJournal)
	if !ok || partition < 0 || int(partition) >= c.journal.shards() {
		return 0, fmt.Errorf("%w: %s-%d takes no transactions", ErrJournal, OffsetsTopic, partition)
	}
	shard := int(partition)
	if end, err = journal.appendMarker(shard, producerID, epoch, m); err != nil {
		return 0, err
	}
	for id := range c.transactions.take(transaction{shard, producerID}) {
		err := c.with(id, false, func(g *anyGroup) error {
			g.endTransaction(producerID, m.Commit)
			g.appended = max(g.appended, end)
			g.buryIfUnused()
			return nil
		})
		if err != nil && !errors.Is(err, ErrUnknownMember) && !errors.Is(err, ErrClosed) { // deleted, or replayed at the next start
			return 0, err
		}
	}
	return end, nil
}

// Unstable returns the partitions of a group for which an open transaction
// holds offsets (KIP-447). Who wants stable offsets asks for this first and
// for the offsets then: what is committed in between is found there.
func (c *Coordinator) Unstable(group string) (map[TopicPartition]bool, error) {
	g, err := c.lookup(group, false)
	if err != nil || g == nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held.partitions(), nil
}
