package group

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// consumerState is what the journal keeps of a consumer group. Only apply changes it.
type consumerState struct {
	stored    bool  // there is a metadata record
	epoch     int32 // counts what the target assignment depends on
	basis     int64 // digest of what it depends on, as of epoch
	assigned  bool  // there is a record of the target assignment's epoch
	assignEp  int32 // the epoch the target assignment was made for
	members   map[string]*consumerMember
	instances map[string]string // member id by instance id
	owners    map[heldPartition]string

	// unsettled says that members have changed since basis was last compared,
	// and seen which state of the topics it was compared with. They are not durable.
	unsettled bool
	seen      int64
}

// heldPartition is a partition that a member holds or has yet to give up.
type heldPartition struct {
	topic     topic.ID
	partition int32
}

// memberMetadata is what a member says of itself.
type memberMetadata struct {
	instanceID, rackID   string
	clientID, clientHost string
	topics               []string // sorted
	regex                string
	rebalanceTimeout     time.Duration // whole milliseconds
	assignor             string
	classic              *classicPart // nil: it speaks the consumer protocol. Never changed, only replaced
}

// memberState says what a member is waiting for; the numbers are those of Kafka's journal.
type memberState int8

const (
	memberStable     memberState = 0 // holds what the target assignment of its epoch gives it
	memberUnrevoked  memberState = 1 // has partitions to give up
	memberUnreleased memberState = 2 // waits for partitions that others have to give up
)

// memberAssignment is where a member is on its way to the target assignment.
type memberAssignment struct {
	epoch, previousEpoch int32
	state                memberState
	assigned             Partitions
	revoking             Partitions // told to give up, not confirmed yet
}

// consumerMember is one member of a consumer group. It is guarded by its group's lock.
type consumerMember struct {
	id string
	memberMetadata
	memberAssignment
	target Partitions

	// namesOnly holds a regular expression back until the next heartbeat: a member
	// that brings one together with names gets the named topics first, as from
	// Kafka, which clients count on. It is not durable.
	namesOnly bool

	session    deadline
	revocation deadline
	turn       deadline // of a member of the classic protocol: to join, then to ask for its assignment
}

func (m *memberMetadata) equal(o *memberMetadata) bool {
	return m.instanceID == o.instanceID && m.rackID == o.rackID && m.clientID == o.clientID && m.clientHost == o.clientHost &&
		slices.Equal(m.topics, o.topics) && m.regex == o.regex && m.rebalanceTimeout == o.rebalanceTimeout && m.assignor == o.assignor &&
		m.classic.equal(o.classic)
}

// updated returns the metadata with what a heartbeat says.
func (m memberMetadata) updated(r *ConsumerHeartbeat) memberMetadata {
	m.clientID, m.clientHost, m.classic = r.ClientID, r.ClientHost, nil
	if r.InstanceID != "" {
		m.instanceID = r.InstanceID
	}
	if r.RackID != "" {
		m.rackID = r.RackID
	}
	if r.RebalanceTimeout >= 0 {
		m.rebalanceTimeout = r.RebalanceTimeout.Truncate(time.Millisecond)
	}
	if r.Topics != nil {
		m.topics = slices.Clone(r.Topics)
		slices.Sort(m.topics)
		m.topics = slices.Compact(m.topics)
	}
	if r.Regex != nil {
		m.regex = *r.Regex
	}
	if r.Assignor != nil {
		m.assignor = *r.Assignor
	}
	return m
}

// newConsumerMemberID makes an id as Kafka writes them: a random UUID in base64.
func newConsumerMemberID() string {
	var u [16]byte
	rand.Read(u[:]) // never fails, see package crypto/rand
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return base64.RawURLEncoding.EncodeToString(u[:])
}

// applyConsumer changes what is durable of a consumer group. In a compacted journal
// a member's records come in any order, so each of them makes the member, and the
// tombstone of its metadata, which is written last, ends it.
func (l *ledger) applyConsumer(r *consumerRecord, tombstone bool) {
	if l.consumer == nil {
		if tombstone {
			return
		}
		l.consumer = &consumerState{members: map[string]*consumerMember{}, instances: map[string]string{}, owners: map[heldPartition]string{}}
	}
	s := l.consumer
	switch r.kind {
	case recordGroup:
		s.stored, s.epoch, s.basis = !tombstone, r.epoch, r.basis
	case recordTarget:
		s.assigned, s.assignEp = !tombstone, r.epoch
	default:
		s.applyMember(r, tombstone)
	}
	if !s.stored && !s.assigned && len(s.members) == 0 {
		l.consumer = nil
	}
}

func (s *consumerState) applyMember(r *consumerRecord, tombstone bool) {
	m := s.members[r.member]
	if m == nil {
		if tombstone {
			return
		}
		m = &consumerMember{id: r.member}
		s.members[m.id] = m
	}
	switch r.kind {
	case recordMember:
		if s.instances[m.instanceID] == m.id {
			delete(s.instances, m.instanceID)
		}
		s.unsettled = true
		if tombstone {
			s.hold(m, memberAssignment{})
			delete(s.members, m.id)
			return
		}
		m.memberMetadata = r.metadata
		if m.instanceID != "" {
			s.instances[m.instanceID] = m.id
		}
	case recordTargetMember:
		m.target = r.target
	case recordCurrent:
		s.hold(m, r.current)
	}
}

// hold sets a member's assignment and keeps the books of who holds what.
func (s *consumerState) hold(m *consumerMember, a memberAssignment) {
	for _, p := range []Partitions{m.assigned, m.revoking} {
		p.overlaps(func(id topic.ID, partition int32) bool {
			if held := (heldPartition{id, partition}); s.owners[held] == m.id {
				delete(s.owners, held)
			}
			return false
		})
	}
	m.memberAssignment = a
	for _, p := range []Partitions{m.assigned, m.revoking} {
		p.overlaps(func(id topic.ID, partition int32) bool {
			s.owners[heldPartition{id, partition}] = m.id
			return false
		})
	}
}

// memberTombstones remove a member; its metadata goes last.
func (g modernGroup) memberTombstones(m *consumerMember) []entry {
	return []entry{
		consumerTombstone(g.id, consumerRecord{kind: recordCurrent, member: m.id}),
		consumerTombstone(g.id, consumerRecord{kind: recordTargetMember, member: m.id}),
		consumerTombstone(g.id, consumerRecord{kind: recordMember, member: m.id}),
	}
}

// consumerTombstones are the entries that remove a consumer group without members.
func (l *ledger) consumerTombstones() []entry {
	if l.consumer == nil {
		return nil
	}
	return []entry{
		consumerTombstone(l.group, consumerRecord{kind: recordTarget}),
		consumerTombstone(l.group, consumerRecord{kind: recordGroup}),
	}
}
