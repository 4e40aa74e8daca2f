package group

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// A consumer group may have members that still speak the classic protocol, so
// that the members of an application can be replaced one by one (KIP-848,
// "online migration"). To them the group's epoch is the generation, the broker
// is the leader, and a heartbeat says when to join again. This file is their
// side of a consumer group; migrate.go turns groups of one kind into the other.

// mixedGroup is a consumer group as its members of the classic protocol use it.
// Every method wants the group's lock.
type mixedGroup struct{ modernGroup }

// classicPart is what a member of a consumer group has if it speaks the classic protocol.
type classicPart struct {
	session   time.Duration // whole milliseconds
	protocols []Protocol    // as it offered them, best first
}

func (p *classicPart) equal(o *classicPart) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.session == o.session && slices.EqualFunc(p.protocols, o.protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

func (p *classicPart) weight() (n int) {
	if p != nil {
		for i := range p.protocols {
			n += len(p.protocols[i].Name) + len(p.protocols[i].Metadata)
		}
	}
	return n
}

// offers reports whether the member knows an assignment protocol.
func (p *classicPart) offers(name string) bool {
	return slices.ContainsFunc(p.protocols, func(o Protocol) bool { return o.Name == name })
}

// classicMetadata is what a JoinGroup says of a member, and which partitions it says it holds.
func classicMetadata(m memberMetadata, r *JoinRequest) (memberMetadata, []TopicPartition, error) {
	s, err := DecodeSubscription(r.Protocols[0].Metadata)
	if err != nil {
		return m, nil, fmt.Errorf("%w: %w", ErrInconsistentGroup, err)
	}
	m.clientID, m.clientHost, m.instanceID = r.ClientID, r.ClientHost, r.InstanceID
	m.topics, m.regex, m.assignor = slices.Clone(s.Topics), "", ""
	slices.Sort(m.topics)
	m.topics = slices.Compact(m.topics)
	m.rebalanceTimeout = r.RebalanceTimeout.Truncate(time.Millisecond)
	m.classic = &classicPart{session: r.SessionTimeout.Truncate(time.Millisecond)}
	for _, p := range r.Protocols {
		m.classic.protocols = append(m.classic.protocols, Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
	}
	return m, s.Owned, nil
}

// joinClassic makes a member that speaks the classic protocol one of a consumer
// group, or moves it on, as a heartbeat does with the others.
func (g mixedGroup) joinClassic(r *JoinRequest) (JoinResponse, error) {
	if !g.acceptsClassic(r) {
		return JoinResponse{}, fmt.Errorf("%w: type %q does not fit consumer group %q, or none of %d protocols is known to all members",
			ErrInconsistentGroup, r.ProtocolType, g.id, len(r.Protocols))
	}
	old, id, err := g.classicMember(r)
	if err != nil {
		return JoinResponse{MemberID: id}, err
	}
	m, owned, err := g.admitClassic(old, id, r)
	if err != nil {
		return JoinResponse{}, err
	}
	before := m.memberAssignment
	if err := g.settle(); err != nil {
		return JoinResponse{}, err
	}
	if err := g.retarget(); err != nil {
		return JoinResponse{}, err
	}
	if err := g.reconcile(m, owned); err != nil {
		return JoinResponse{}, err
	}
	g.touchMember(m)
	g.watchRevocation(m, before)
	g.alarm(m, &m.turn, m.rebalanceTimeout, "assignment not asked for within the rebalance timeout")
	response := JoinResponse{Generation: m.epoch, ProtocolType: ConsumerProtocolType, Protocol: m.classic.protocols[0].Name, MemberID: m.id}
	return response, g.downgradeIfClassic("the last member of the consumer protocol was replaced")
}

// acceptsClassic reports whether a member can be in the group together with those that speak the classic protocol already.
func (g mixedGroup) acceptsClassic(r *JoinRequest) bool {
	if r.ProtocolType != ConsumerProtocolType || len(r.Protocols) == 0 {
		return false
	}
	return slices.ContainsFunc(r.Protocols, func(p Protocol) bool {
		for _, m := range g.consumer.members {
			if m.classic != nil && m.id != r.MemberID && !m.classic.offers(p.Name) {
				return false
			}
		}
		return true
	})
}

// classicMember returns the member that a JoinGroup speaks for, nil if it is to
// become one, and the id that it is to have. A static member is replaced when it
// comes without an id, whatever protocol it spoke.
func (g mixedGroup) classicMember(r *JoinRequest) (*consumerMember, string, error) {
	members := g.consumer.members
	if r.InstanceID == "" {
		if r.MemberID != "" {
			return members[r.MemberID], r.MemberID, nil
		}
		id := newMemberID(r.ClientID)
		if r.RequireMemberID {
			return nil, id, fmt.Errorf("%w: join group %q again as %q", ErrMemberIDRequired, g.id, id)
		}
		return nil, id, nil
	}
	owner := members[g.consumer.instances[r.InstanceID]]
	if r.MemberID == "" {
		return owner, newMemberID(r.InstanceID), nil
	}
	if owner != nil && owner.id != r.MemberID {
		return nil, r.MemberID, fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, r.InstanceID, g.id, owner.id, r.MemberID)
	}
	return owner, r.MemberID, nil
}

// admitClassic takes over what a JoinGroup says of a member, and returns what the member says it holds.
func (g mixedGroup) admitClassic(old *consumerMember, id string, r *JoinRequest) (*consumerMember, Partitions, error) {
	var was memberMetadata
	var entries []entry
	weight := int64(0)
	if old != nil {
		was = old.memberMetadata
		weight = was.weight()
	} else if len(g.consumer.members) >= g.c.maxGroupSize {
		return nil, nil, fmt.Errorf("%w: group %q has %d members", ErrMaxSizeReached, g.id, len(g.consumer.members))
	}
	said, owned, err := classicMetadata(was, r)
	if err == nil {
		err = g.roomForMember(said.weight(), weight)
	}
	if err != nil {
		return nil, nil, err
	}
	if old != nil && old.id != id {
		entries = g.replaced(old, id)
	}
	if old == nil || old.id != id || !said.equal(&was) {
		entries = append(entries, memberEntry(g.id, id, said))
	}
	if err := g.write(entries...); err != nil {
		return nil, nil, err
	}
	if old != nil && old.id != id {
		old.stopTimers()
	}
	return g.consumer.members[id], g.partitionsOf(owned), nil
}

// partitionsOf finds the topics of partitions; those of topics that are not there any more are left out.
func (g modernGroup) partitionsOf(list []TopicPartition) Partitions {
	lists := map[topic.ID][]int32{}
	for _, tp := range list {
		if info, ok := g.c.topics.Lookup(tp.Topic); ok {
			lists[info.ID] = append(lists[info.ID], tp.Partition)
		}
	}
	return PartitionsOf(lists)
}

// findClassic returns the member of a consumer group that a request of the classic protocol speaks for.
func (g mixedGroup) findClassic(memberID, instanceID string, generation int32) (*consumerMember, error) {
	if instanceID != "" {
		owner, ok := g.consumer.instances[instanceID]
		if ok && owner != memberID {
			return nil, fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, instanceID, g.id, owner, memberID)
		}
	}
	m := g.consumer.members[memberID]
	if m == nil || m.classic == nil || m.instanceID != cmp.Or(instanceID, m.instanceID) {
		return nil, fmt.Errorf("%w: %q is not in group %q, or does not use the classic protocol", ErrUnknownMember, memberID, g.id)
	}
	if generation != m.epoch {
		return nil, fmt.Errorf("%w: %d, member %q of group %q is at %d", ErrIllegalGeneration, generation, memberID, g.id, m.epoch)
	}
	return m, nil
}

// syncClassic tells a member its assignment.
func (g mixedGroup) syncClassic(r *SyncRequest) (SyncResponse, error) {
	m, err := g.findClassic(r.MemberID, r.InstanceID, r.Generation)
	if err != nil {
		return SyncResponse{}, err
	}
	protocol := m.classic.protocols[0].Name
	if cmp.Or(r.ProtocolType, ConsumerProtocolType) != ConsumerProtocolType || cmp.Or(r.Protocol, protocol) != protocol {
		return SyncResponse{}, fmt.Errorf("%w: %s/%s, member %q of group %q has joined with %s/%s", ErrInconsistentGroup,
			r.ProtocolType, r.Protocol, m.id, g.id, ConsumerProtocolType, protocol)
	}
	// A member that has partitions to give up has joined already; it is to know what it keeps.
	if m.epoch != g.consumer.epoch && m.state != memberUnrevoked {
		return SyncResponse{}, g.callBack(m)
	}
	m.turn.stop()
	g.touchMember(m)
	return SyncResponse{ProtocolType: ConsumerProtocolType, Protocol: protocol, Assignment: g.classicAssignment(m)}, nil
}

// classicAssignment is what a member holds, in the form of the classic protocol.
func (g mixedGroup) classicAssignment(m *consumerMember) []byte {
	var list []TopicPartition
	for _, name := range m.topics {
		if info, ok := g.c.topics.Lookup(name); ok {
			for _, p := range m.assigned[info.ID] {
				list = append(list, TopicPartition{Topic: name, Partition: p})
			}
		}
	}
	return EncodeAssignment(list)
}

// heartbeatClassic keeps a member alive and calls it back when its assignment is to change.
func (g mixedGroup) heartbeatClassic(id Identity) error {
	m, err := g.findClassic(id.MemberID, id.InstanceID, id.Generation)
	if err != nil {
		return err
	}
	g.touchMember(m)
	if err := g.settle(); err != nil {
		return err
	}
	if m.epoch != g.consumer.epoch || m.state == memberUnrevoked || m.state == memberUnreleased && g.released(m) {
		return g.callBack(m)
	}
	return nil
}

// callBack asks a member to join again within its rebalance timeout.
func (g mixedGroup) callBack(m *consumerMember) error {
	if m.turn.timer == nil {
		g.alarm(m, &m.turn, m.rebalanceTimeout, "not joined again within the rebalance timeout")
	}
	return fmt.Errorf("%w: group %q is at epoch %d", ErrRebalanceInProgress, g.id, g.consumer.epoch)
}

// released reports whether all that a member waits for can be had.
func (g mixedGroup) released(m *consumerMember) bool {
	return !m.target.overlaps(func(id topic.ID, partition int32) bool {
		owner, held := g.consumer.owners[heldPartition{id, partition}]
		return held && owner != m.id
	})
}

// sessionTimeout is how long a member may not be heard of.
func (g modernGroup) sessionTimeout(m *consumerMember) time.Duration {
	if m.classic != nil {
		return m.classic.session
	}
	return g.c.Consumers().timingOf(g.id).session
}

// lacksModern reports whether the group has members, and all of them speak the classic protocol.
func (g mixedGroup) lacksModern() bool {
	for _, m := range g.consumerMembers() {
		if m.classic == nil {
			return false
		}
	}
	return len(g.consumerMembers()) > 0
}

func (g mixedGroup) logMigration(what string, members int) {
	g.c.log.Info(what, slog.String("group", g.id), slog.Int("members", members))
}
