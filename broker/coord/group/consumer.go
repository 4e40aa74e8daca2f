package group

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// Epochs with a meaning of their own in a ConsumerHeartbeat (KIP-848).
const (
	JoinEpoch        = 0  // becomes a member, or begins anew as one
	LeaveEpoch       = -1 // leaves for good
	LeaveStaticEpoch = -2 // a static member leaves and will be back; its partitions wait for it
)

// The names of the server-side assignors.
const (
	AssignorUniform = "uniform"
	AssignorRange   = "range"
)

// The types of groups, as ListGroups names them.
const (
	TypeClassic  = "classic"
	TypeConsumer = "consumer"
)

// Errors that a member of a consumer group can get; package kafka maps them to Kafka's codes.
var (
	ErrFencedEpoch        = errors.New("fenced member epoch")
	ErrStaleEpoch         = errors.New("stale member epoch")
	ErrUnreleasedInstance = errors.New("instance id is not released")
	ErrUnknownAssignor    = errors.New("unsupported assignor")
	ErrInvalidRegex       = errors.New("invalid regular expression")
)

// Partitions are partitions by topic id. Lists are sorted and never empty.
type Partitions map[topic.ID][]int32

// ConsumerHeartbeat is all that a member of a consumer group says (KIP-848):
// who it is, what it reads and what it holds. What is nil (or a negative
// RebalanceTimeout) is as it was.
type ConsumerHeartbeat struct {
	Group, MemberID, InstanceID, RackID string
	ClientID, ClientHost                string
	Epoch                               int32
	RebalanceTimeout                    time.Duration
	Topics                              []string
	Regex                               *string // RE2; "" = none. It has to match a topic's whole name
	Assignor                            *string // "" = the broker's choice
	Owned                               Partitions
}

// ConsumerAnswer is all that the coordinator says to a member.
type ConsumerAnswer struct {
	MemberID string
	Epoch    int32
	Interval time.Duration // when to heartbeat again
	// Assigned is what the member may hold from now on; nil = as before.
	Assigned Partitions
}

// ConsumerDescription is what ConsumerGroupDescribe tells.
type ConsumerDescription struct {
	Group, State, Assignor string
	Epoch, AssignmentEpoch int32
	Members                []ConsumerMemberDescription
}

// ConsumerMemberDescription is one member of a ConsumerDescription.
type ConsumerMemberDescription struct {
	MemberID, InstanceID, RackID, ClientID, ClientHost string
	Epoch                                              int32
	Topics                                             []string
	Regex                                              string
	Assigned, Target                                   Partitions
	Classic                                            bool // it speaks the classic protocol
}

// ConsumerGroups are the coordinator's groups that use the protocol of KIP-848.
type ConsumerGroups struct{ c *Coordinator }

// Consumers are the groups that use the protocol of KIP-848.
func (c *Coordinator) Consumers() ConsumerGroups { return ConsumerGroups{c} }

// Heartbeat makes the caller a member of a consumer group, keeps it one,
// moves it towards the group's target assignment, or takes it out of the group. What
// the answer tells is durable.
func (a ConsumerGroups) Heartbeat(ctx context.Context, r ConsumerHeartbeat) (ConsumerAnswer, error) {
	c := a.c
	if r.Group == "" {
		return ConsumerAnswer{}, fmt.Errorf("%w: it is empty", ErrInvalidGroupID)
	}
	if r.Assignor != nil && *r.Assignor != "" && assignorOf(*r.Assignor) == nil {
		return ConsumerAnswer{}, fmt.Errorf("%w: %q, there are %q and %q", ErrUnknownAssignor, *r.Assignor, AssignorUniform, AssignorRange)
	}
	if r.Regex != nil {
		if _, err := compileRegex(*r.Regex); err != nil {
			return ConsumerAnswer{}, err
		}
	}
	if r.MemberID == "" && r.Epoch == JoinEpoch { // ConsumerGroupHeartbeat v0 lets the broker name the member
		r.MemberID = newConsumerMemberID()
	}
	var answer ConsumerAnswer
	var shard int
	var end int64
	err := c.with(r.Group, r.Epoch == JoinEpoch, func(g *anyGroup) (err error) {
		defer g.buryIfUnused()
		before := g.appended
		answer, err = g.modern().heartbeat(&r)
		shard, end = g.shard, g.appended
		if end != before {
			g.weigh(&g.roster)
		}
		return err
	})
	if err != nil {
		return ConsumerAnswer{}, a.missing(r.Group, err)
	}
	answer.Interval = a.timingOf(r.Group).interval
	return answer, c.journal.waitDurable(ctx, shard, end)
}

// missing tells a group that does not exist from a member that does not.
func (a ConsumerGroups) missing(group string, err error) error {
	if errors.Is(err, ErrUnknownMember) {
		if g, lookupErr := a.c.lookup(group, false); lookupErr == nil && g == nil {
			return fmt.Errorf("%w: %q", ErrGroupNotFound, group)
		}
	}
	return err
}

func (g modernGroup) heartbeat(r *ConsumerHeartbeat) (ConsumerAnswer, error) {
	if g.consumer == nil && r.Epoch != JoinEpoch {
		return ConsumerAnswer{}, fmt.Errorf("%w: %q is not a consumer group", ErrGroupNotFound, g.id)
	}
	if g.consumer == nil && g.state != StateEmpty {
		if err := (mixedGroup{g}).upgrade(); err != nil {
			return ConsumerAnswer{}, err
		}
	}
	if r.Epoch == LeaveEpoch || r.Epoch == LeaveStaticEpoch {
		return g.leave(r)
	}
	if err := g.admit(r); err != nil {
		return ConsumerAnswer{}, err
	}
	m := g.consumer.members[r.MemberID]
	before := m.memberAssignment
	err := g.settle()
	if err == nil {
		err = g.retarget()
	}
	if err == nil {
		err = g.reconcile(m, r.Owned)
	}
	if err != nil {
		return ConsumerAnswer{}, err
	}
	g.touchMember(m)
	g.watchRevocation(m, before)
	answer := ConsumerAnswer{MemberID: m.id, Epoch: m.epoch}
	full := r.Epoch == JoinEpoch || r.RebalanceTimeout >= 0 && (r.Topics != nil || r.Regex != nil) && r.Owned != nil
	if full || !m.assigned.equal(before.assigned) {
		answer.Assigned = m.assigned.clone()
	}
	return answer, nil
}

// admit makes sure that the caller is a member, at the epoch it says, and takes over what it says of itself.
func (g modernGroup) admit(r *ConsumerHeartbeat) error {
	var entries []entry
	var metadata memberMetadata
	m, err := g.memberOf(r)
	switch {
	case err != nil:
		return err
	case m != nil:
		metadata = m.memberMetadata
		if m.id != r.MemberID {
			entries = g.replaced(m, r.MemberID)
		}
	default:
		if len(g.consumerMembers()) >= g.c.maxGroupSize {
			return fmt.Errorf("%w: group %q has %d members", ErrMaxSizeReached, g.id, len(g.consumer.members))
		}
		if g.stored != nil { // the group was a classic one and is empty
			entries = append(entries, groupTombstone(g.id))
		}
	}
	said := metadata.updated(r)
	was := int64(0)
	if m != nil {
		was = metadata.weight()
	}
	if err := g.roomForMember(said.weight(), was); err != nil {
		return err
	}
	if m == nil || m.id != r.MemberID || !said.equal(&metadata) {
		entries = append(entries, memberEntry(g.id, r.MemberID, said))
	}
	if g.consumer == nil {
		for id := range g.pending {
			g.dropPending(id)
		}
	}
	if err := g.write(entries...); err != nil {
		return err
	}
	if m != nil && m.id != r.MemberID {
		m.stopTimers()
	}
	g.holdBack(g.consumer.members[r.MemberID], said.regex != metadata.regex)
	return nil
}

// holdBack decides for the heartbeat at hand whether a member gets by its names only.
func (g modernGroup) holdBack(m *consumerMember, newRegex bool) {
	namesOnly := newRegex && m.regex != "" && len(m.topics) > 0
	if m.namesOnly != namesOnly {
		m.namesOnly = namesOnly
		g.consumer.unsettled = true
	}
}

// memberOf returns the member that a heartbeat speaks for: nil if it is to
// become one, a member of another id if that is a static member who has left and now comes back.
func (g modernGroup) memberOf(r *ConsumerHeartbeat) (*consumerMember, error) {
	members := g.consumerMembers()
	m := members[r.MemberID]
	if r.InstanceID != "" && g.consumer != nil {
		owner := members[g.consumer.instances[r.InstanceID]]
		switch {
		case owner == nil && r.Epoch != JoinEpoch:
			return nil, fmt.Errorf("%w: instance %q is not in group %q", ErrUnknownMember, r.InstanceID, g.id)
		case owner == nil || owner.id == r.MemberID:
		case r.Epoch != JoinEpoch:
			return nil, fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, r.InstanceID, g.id, owner.id, r.MemberID)
		case owner.epoch != LeaveStaticEpoch && owner.classic == nil:
			return nil, fmt.Errorf("%w: instance %q of group %q is member %q, which has not left", ErrUnreleasedInstance, r.InstanceID, g.id, owner.id)
		default:
			m = owner
		}
	}
	if r.Epoch == JoinEpoch {
		return m, nil
	}
	if m == nil {
		return nil, fmt.Errorf("%w: %q is not in group %q", ErrUnknownMember, r.MemberID, g.id)
	}
	if r.Epoch == m.epoch {
		return m, nil
	}
	// The answer with the newer epoch may have been lost.
	if r.Epoch > 0 && r.Epoch == m.previousEpoch && m.epoch > r.Epoch && r.Owned != nil && r.Owned.within(m.assigned) {
		return m, nil
	}
	return nil, fmt.Errorf("%w: %d, member %q of group %q is at %d", ErrFencedEpoch, r.Epoch, m.id, g.id, m.epoch)
}

// replaceConsumer gives a static member that comes back a new id, with all that the old one had.
func (g modernGroup) replaced(old *consumerMember, id string) []entry {
	return append(g.memberTombstones(old),
		targetEntry(g.id, id, old.target), currentEntry(g.id, id, memberAssignment{assigned: old.assigned}))
}

func (g modernGroup) leave(r *ConsumerHeartbeat) (ConsumerAnswer, error) {
	m := g.consumer.members[r.MemberID]
	if r.InstanceID != "" {
		owner, ok := g.consumer.instances[r.InstanceID]
		if !ok {
			return ConsumerAnswer{}, fmt.Errorf("%w: instance %q is not in group %q", ErrUnknownMember, r.InstanceID, g.id)
		}
		if owner != r.MemberID {
			return ConsumerAnswer{}, fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, r.InstanceID, g.id, owner, r.MemberID)
		}
	}
	if m == nil {
		return ConsumerAnswer{}, fmt.Errorf("%w: %q is not in group %q", ErrUnknownMember, r.MemberID, g.id)
	}
	if r.Epoch == LeaveStaticEpoch && m.instanceID != "" {
		// What it was to give up is free, what it held waits for it until its session is over.
		away := memberAssignment{epoch: LeaveStaticEpoch, previousEpoch: m.epoch, assigned: m.assigned}
		if err := g.write(currentEntry(g.id, m.id, away)); err != nil {
			return ConsumerAnswer{}, err
		}
		m.revocation.stop()
		return ConsumerAnswer{MemberID: m.id, Epoch: LeaveStaticEpoch}, nil
	}
	if err := g.remove(m); err != nil {
		return ConsumerAnswer{}, err
	}
	return ConsumerAnswer{MemberID: r.MemberID, Epoch: LeaveEpoch}, nil
}

// removeConsumer takes a member out of the group; the next heartbeat of another hands its partitions on.
func (g modernGroup) remove(m *consumerMember) error {
	if err := g.write(g.memberTombstones(m)...); err != nil {
		return err
	}
	defer g.weigh(&g.roster)
	m.stopTimers()
	if len(g.consumer.members) == 0 {
		g.emptySince = time.Now()
	}
	if err := (mixedGroup{g}).downgradeIfClassic("the last member of the consumer protocol has left"); err != nil || g.consumer == nil {
		return err
	}
	return g.settle()
}

// nextEpoch counts up and starts again before it would become negative.
func nextEpoch(epoch int32) int32 {
	if epoch == math.MaxInt32 {
		return 1
	}
	return epoch + 1
}
