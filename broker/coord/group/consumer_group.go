package group

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The states of a consumer group as they are told; they follow from its epochs.
//
//	Empty        nobody is in it
//	Assigning    the group's epoch has gone on, its target assignment not yet
//	Reconciling  a member is not yet where the target assignment wants it
//	Stable       all are
const (
	consumerEmpty       = "Empty"
	consumerAssigning   = "Assigning"
	consumerReconciling = "Reconciling"
	consumerStable      = "Stable"
)

func (s *consumerState) state() string {
	switch {
	case len(s.members) == 0:
		return consumerEmpty
	case s.epoch != s.assignEp:
		return consumerAssigning
	}
	for _, m := range s.members {
		if m.state != memberStable || m.epoch != s.assignEp {
			return consumerReconciling
		}
	}
	return consumerStable
}

// consumerMembers are the members of a consumer group; a classic group has none of them.
func (l *ledger) consumerMembers() map[string]*consumerMember {
	if l.consumer == nil {
		return nil
	}
	return l.consumer.members
}

// vacant reports whether the group has no members of either kind.
func (g *anyGroup) vacant() bool {
	return g.state == StateEmpty && len(g.consumerMembers()) == 0
}

// occupied says why something that takes a vacant group cannot be done.
func (g modernGroup) occupied() error {
	l := g.listing()
	return fmt.Errorf("%w: group %q is %s with %d members", ErrNonEmptyGroup, g.id, l.State, len(g.members)+len(g.consumerMembers()))
}

func (g *anyGroup) listing() Listing {
	if g.consumer != nil {
		return Listing{Group: g.id, Type: TypeConsumer, ProtocolType: ConsumerProtocolType, State: g.consumer.state()}
	}
	return Listing{Group: g.id, Type: TypeClassic, ProtocolType: g.protocolType, State: g.state.String()}
}

// modernGroup is the state machine of KIP-848 over a group. Kafka has the name
// for groups whose assignments are made by the broker. Every method wants the
// group's lock.
type modernGroup struct{ *anyGroup }

func (g *anyGroup) modern() modernGroup { return modernGroup{g} }

// becomeClassic makes a vacant consumer group a classic one for the sake of a
// member that joins; its offsets stay. One that has members stays what it is.
func (g modernGroup) becomeClassic(r *JoinRequest) error {
	switch {
	case g.consumer == nil:
		return nil
	case !g.vacant():
		return nil
	case r.MemberID != "":
		return fmt.Errorf("%w: %q is not in group %q", ErrUnknownMember, r.MemberID, g.id)
	}
	return g.write(g.consumerTombstones()...)
}

// evict takes a member out of a consumer group at the request of an operator.
func (g modernGroup) evict(id Identity) error {
	memberID := id.MemberID
	if id.InstanceID != "" {
		owner, ok := g.consumer.instances[id.InstanceID]
		if ok && memberID != "" && memberID != owner {
			return fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, id.InstanceID, g.id, owner, memberID)
		}
		memberID = owner
	}
	m := g.consumer.members[memberID]
	if m == nil {
		return fmt.Errorf("%w: member %q, instance %q is not in group %q", ErrUnknownMember, id.MemberID, id.InstanceID, g.id)
	}
	return g.remove(m)
}

// checkEpoch says whether a member of a consumer group may commit or fetch offsets.
func (g modernGroup) checkEpoch(id Identity) error {
	m := g.consumer.members[id.MemberID]
	if m == nil {
		return fmt.Errorf("%w: %q is not in group %q", ErrUnknownMember, id.MemberID, g.id)
	}
	if id.Generation != m.epoch && m.classic != nil {
		return fmt.Errorf("%w: %d, member %q of group %q is at %d", ErrIllegalGeneration, id.Generation, m.id, g.id, m.epoch)
	}
	if id.Generation != m.epoch {
		return fmt.Errorf("%w: %d, member %q of group %q is at %d", ErrStaleEpoch, id.Generation, m.id, g.id, m.epoch)
	}
	return nil
}

// Check says whether a member of a consumer group that fetches offsets
// is who it says. Callers that say nothing may, and other groups do not ask.
func (a ConsumerGroups) Check(id Identity) error {
	c := a.c
	if id.MemberID == "" && id.Generation < 0 {
		return nil
	}
	g, err := c.lookup(id.Group, false)
	if err != nil || g == nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.consumer == nil {
		return nil
	}
	return g.modern().checkEpoch(id)
}

// readTopics returns what the members read; known is false if that cannot be told.
func (g modernGroup) readTopics() (topics map[string]bool, known bool) {
	if g.consumer == nil {
		return g.subscribedTopics()
	}
	topics = map[string]bool{}
	for _, m := range g.consumer.members {
		for _, t := range m.topics {
			topics[t] = true
		}
		if m.regex != "" {
			for _, info := range g.matching(m.regex) {
				topics[info.Name] = true
			}
		}
	}
	return topics, true
}

// restoreConsumer gives the members that the journal has a session to be heard of again.
func (g modernGroup) resume() {
	if g.consumer == nil {
		return
	}
	g.emptySince = time.Now()
	g.consumer.unsettled = true
	for _, m := range g.consumer.members {
		g.touchMember(m)
		g.watchRevocation(m, m.memberAssignment)
	}
}

// Describe tells the present state of a consumer group; ErrGroupNotFound if there is none.
func (a ConsumerGroups) Describe(group string) (ConsumerDescription, error) {
	g, err := a.c.lookup(group, false)
	if err != nil {
		return ConsumerDescription{}, err
	}
	if g == nil {
		return ConsumerDescription{}, fmt.Errorf("%w: %q", ErrGroupNotFound, group)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.consumer == nil {
		return ConsumerDescription{}, fmt.Errorf("%w: %q is not a consumer group", ErrGroupNotFound, group)
	}
	s := g.consumer
	d := ConsumerDescription{Group: g.id, State: s.state(), Assignor: g.modern().preferredAssignor(), Epoch: s.epoch, AssignmentEpoch: s.assignEp}
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		m := s.members[id]
		d.Members = append(d.Members, ConsumerMemberDescription{
			MemberID: m.id, InstanceID: m.instanceID, RackID: m.rackID, ClientID: m.clientID, ClientHost: m.clientHost,
			Epoch: m.epoch, Topics: slices.Clone(m.topics), Regex: m.regex, Assigned: m.assigned.clone(), Target: m.target.clone(),
			Classic: m.classic != nil,
		})
	}
	return d, nil
}
