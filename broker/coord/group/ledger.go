package group

import "math"

// ledger is what the journal keeps of a group. Only apply changes it, with
// entries that are in the journal.
type ledger struct {
	journal journal
	group   string
	shard   int

	offsets  map[TopicPartition]Offset
	held     heldOffsets    // of open transactions
	stored   *storedGroup   // nil: no metadata record
	consumer *consumerState // nil: not a consumer group of KIP-848
	appended int64          // position of the shard behind the group's last entry
	room     *room          // of all groups
	bytes    int64          // taken of it by this one
	weight   int64          // those that are for its members, see weigh
}

// apply changes what is durable of a group, from an entry that is in the journal.
func (l *ledger) apply(e entry) {
	if e.isOffset && e.txn.transactional {
		l.hold(&e)
		return
	}
	if e.isOffset {
		l.supersede(e.partition, math.MaxInt64)
	}
	switch {
	case e.consumer != nil:
		l.applyConsumer(e.consumer, e.tombstone)
	case e.isOffset && e.tombstone:
		l.dropOffset(e.partition)
	case e.isOffset:
		l.setOffset(e.partition, e.offset)
	case e.tombstone:
		l.stored = nil
	default:
		l.stored = &e.metadata
	}
}

// write appends the entries of one step and applies them.
func (l *ledger) write(entries ...entry) error {
	if len(entries) == 0 {
		return nil
	}
	end, err := l.journal.append(l.shard, entries)
	if err != nil {
		return err
	}
	l.appended = end
	for i := range entries {
		l.apply(entries[i])
	}
	return nil
}

// tombstones are the entries that remove all that the journal has of the group.
func (l *ledger) tombstones() []entry {
	entries := make([]entry, 0, len(l.offsets)+1)
	for tp := range l.offsets {
		entries = append(entries, offsetTombstone(l.group, tp))
	}
	for tp := range l.held.partitions() {
		if _, ok := l.offsets[tp]; !ok {
			entries = append(entries, offsetTombstone(l.group, tp))
		}
	}
	if l.stored != nil {
		entries = append(entries, groupTombstone(l.group))
	}
	return append(entries, l.consumerTombstones()...)
}
