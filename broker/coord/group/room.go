package group

import (
	"fmt"
	"sync/atomic"
)

// What things take in memory beside the bytes that clients give them, about:
// with the maps that they are in.
const (
	groupBytes     = 1 << 10
	memberBytes    = 512
	offsetBytes    = 160
	partitionBytes = 64 // of a member's assignment
)

const (
	// maxGroupIDBytes is the longest group id that a group is made for.
	maxGroupIDBytes = 1000
	// maxMembershipBytes bounds what the members of one group say and are told: the
	// leader of a classic group gets all of it in one response.
	maxMembershipBytes = 16 << 20
)

// room is what all groups of a broker hold in memory, by estimate, and how much
// that may be. It is asked before something is taken in and told afterwards; so
// requests side by side may go over the limit by what they bring.
type room struct {
	limit  int64
	groups int // at most
	used   atomic.Int64
}

// checkNew refuses a group too many, where there are so many.
func (r *room) checkNew(id string, there int) error {
	if len(id) > maxGroupIDBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrInvalidGroupID, len(id), maxGroupIDBytes)
	}
	if there >= r.groups {
		return fmt.Errorf("%w: there are %d; delete those that nobody needs, or wait until their offsets expire", ErrTooManyGroups, there)
	}
	return r.check(int64(groupBytes + len(id)))
}

// check refuses what there is no room for.
func (r *room) check(more int64) error {
	if r == nil || more <= 0 {
		return nil
	}
	if used := r.used.Load(); used+more > r.limit {
		return fmt.Errorf("%w: %d bytes more, %d of %d are in use; delete groups or offsets that nobody needs", ErrNoRoom, more, used, r.limit)
	}
	return nil
}

// charge takes room for a group, or gives some of it back.
func (l *ledger) charge(bytes int64) {
	l.bytes += bytes
	if l.room != nil {
		l.room.used.Add(bytes)
	}
}

// setOffset makes an offset the one that counts for a partition.
func (l *ledger) setOffset(tp TopicPartition, o Offset) {
	l.charge(l.offsetGrowth(tp, &o))
	l.offsets[tp] = o
}

// dropOffset forgets the offset of a partition.
func (l *ledger) dropOffset(tp TopicPartition) {
	if old, ok := l.offsets[tp]; ok {
		l.charge(-sizeOfOffset(tp, &old))
		delete(l.offsets, tp)
	}
}

// offsetGrowth is how much more room a group takes with an offset.
func (l *ledger) offsetGrowth(tp TopicPartition, o *Offset) int64 {
	if old, ok := l.offsets[tp]; ok {
		return int64(len(o.Metadata) - len(old.Metadata))
	}
	return sizeOfOffset(tp, o)
}

func sizeOfOffset(tp TopicPartition, o *Offset) int64 {
	return int64(offsetBytes + len(tp.Topic) + len(o.Metadata))
}

// roomForOffsets refuses offsets that there is no room for; those that are there already may always be committed anew.
func (l *ledger) roomForOffsets(entries []entry) error {
	var more int64
	for i := range entries {
		e := &entries[i]
		if !e.txn.transactional {
			more += l.offsetGrowth(e.partition, &e.offset)
		} else if _, ok := l.held[e.txn.producerID][e.partition]; !ok {
			more += sizeOfOffset(e.partition, &e.offset)
		}
	}
	return l.room.check(more)
}

// weigh takes or gives back room for what has changed among the members.
func (l *ledger) weigh(r *roster) {
	var now int64
	for id := range r.pending {
		now += int64(memberBytes + len(id))
	}
	for _, m := range r.members {
		now += m.weight() + int64(len(m.assignment))
	}
	for _, m := range l.consumerMembers() {
		now += m.weight()
	}
	l.charge(now - l.weight)
	l.weight = now
}

// roomForMember refuses a member, or what it says anew, when there is no room; was is what it took before.
func (l *ledger) roomForMember(is, was int64) error {
	more := is - was
	if more > 0 && l.weight+more > maxMembershipBytes {
		return fmt.Errorf("%w: the members of group %q take %d bytes, one more would take %d, at most %d are allowed",
			ErrMaxSizeReached, l.group, l.weight, more, maxMembershipBytes)
	}
	return l.room.check(more)
}

func (m *member) weight() int64 {
	n := memberBytes + len(m.id) + len(m.instanceID) + len(m.clientID) + len(m.clientHost)
	for i := range m.protocols {
		n += len(m.protocols[i].Name) + len(m.protocols[i].Metadata)
	}
	return int64(n)
}

func (m *consumerMember) weight() int64 {
	n := m.memberMetadata.weight() + int64(len(m.id))
	for _, p := range []Partitions{m.assigned, m.revoking, m.target} {
		for _, numbers := range p {
			n += int64(len(numbers)+1) * partitionBytes
		}
	}
	return n
}

func (m *memberMetadata) weight() int64 {
	n := memberBytes + len(m.instanceID) + len(m.rackID) + len(m.clientID) + len(m.clientHost) + len(m.regex) + m.classic.weight()
	for _, t := range m.topics {
		n += len(t) + 16
	}
	return int64(n)
}
