package group

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// consumerGroup is one group. What the journal keeps of it (offsets and
// stored) is changed by apply alone; membership is memory only. Every method
// wants mu held unless it says otherwise, and none of them waits for anything
// but the journal's append.
type consumerGroup struct {
	c     *Coordinator
	id    string
	shard int

	mu sync.Mutex

	offsets  map[TopicPartition]Offset
	stored   *storedGroup // nil: no metadata record
	appended int64        // position of the shard behind the group's last entry

	state State
	// emptySince is when the last member went (or, if that is not on record, when
	// the broker started): offsets expire from then on.
	emptySince   time.Time
	generation   int32
	protocolType string
	protocol     string
	leader       string
	members      map[string]*member
	instances    map[string]string // member id by instance id
	// pending are ids that were handed out with ErrMemberIDRequired and have not joined yet.
	pending map[string]*time.Timer
	joins   int64

	// timer runs the phase the group is in: the join phase's end, or the time
	// members have to sync. round tells a timer that fired from one that was replaced.
	timer *time.Timer
	round int64
	// waitingInitially says that a new group waits for members that may come, and
	// newcomers that some came since the wait was last extended.
	waitingInitially bool
	newcomers        bool
}

func newConsumerGroup(c *Coordinator, id string, shard int) *consumerGroup {
	return &consumerGroup{
		c: c, id: id, shard: shard,
		offsets:   map[TopicPartition]Offset{},
		members:   map[string]*member{},
		instances: map[string]string{},
		pending:   map[string]*time.Timer{},
	}
}

// apply changes what is durable of a group, from an entry that is in the journal.
func (g *consumerGroup) apply(e entry) {
	switch {
	case e.isOffset && e.tombstone:
		delete(g.offsets, e.partition)
	case e.isOffset:
		g.offsets[e.partition] = e.offset
	case e.tombstone:
		g.stored = nil
	default:
		g.stored = &e.metadata
	}
}

// write appends the entries of one step and applies them.
func (g *consumerGroup) write(entries ...entry) error {
	if len(entries) == 0 {
		return nil
	}
	end, err := g.c.journal.append(g.c.ctx, g.shard, entries)
	if err != nil {
		return err
	}
	g.appended = end
	for i := range entries {
		g.apply(entries[i])
	}
	return nil
}

// restore sets the membership state of a group whose entries have been replayed: it has no members.
func (g *consumerGroup) restore() {
	if g.stored == nil {
		return
	}
	g.generation = g.stored.generation
	g.protocolType = g.stored.protocolType
	g.emptySince = g.stored.changed
	if g.stored.protocol != "" { // it had members when the broker stopped
		g.emptySince = time.Now()
	}
}

// metadata is what a metadata record says of the group now.
func (g *consumerGroup) metadata() storedGroup {
	return storedGroup{
		protocolType: g.protocolType,
		generation:   g.generation,
		protocol:     g.protocol,
		leader:       g.leader,
		changed:      time.Now(),
	}
}

// find returns the member a request speaks for.
func (g *consumerGroup) find(memberID, instanceID string) (*member, error) {
	if instanceID != "" {
		id, ok := g.instances[instanceID]
		if !ok {
			return nil, fmt.Errorf("%w: instance %q is not in group %q", ErrUnknownMember, instanceID, g.id)
		}
		if id != memberID {
			return nil, fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, instanceID, g.id, id, memberID)
		}
	}
	m, ok := g.members[memberID]
	if !ok {
		return nil, fmt.Errorf("%w: %q is not in group %q", ErrUnknownMember, memberID, g.id)
	}
	return m, nil
}

func (g *consumerGroup) checkGeneration(generation int32) error {
	if generation != g.generation {
		return fmt.Errorf("%w: %d, group %q is at %d", ErrIllegalGeneration, generation, g.id, g.generation)
	}
	return nil
}

// byArrival returns the members, first come first.
func (g *consumerGroup) byArrival() []*member {
	all := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *member) int { return int(a.joined - b.joined) })
	return all
}

func (g *consumerGroup) addMember(m *member) {
	g.joins++
	m.joined = g.joins
	if len(g.members) == 0 {
		g.protocolType = m.protocolType
	}
	g.members[m.id] = m
	if m.instanceID != "" {
		g.instances[m.instanceID] = m.id
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.newcomers = true
}

// dropMember forgets a member; the caller sees to the rebalance. err answers what it still waits for.
func (g *consumerGroup) dropMember(m *member, err error) {
	m.stopSession()
	m.answerJoin(JoinResponse{MemberID: m.id}, err)
	m.answerSync(SyncResponse{}, err)
	delete(g.members, m.id)
	if m.instanceID != "" && g.instances[m.instanceID] == m.id {
		delete(g.instances, m.instanceID)
	}
	if g.leader == m.id {
		g.leader = ""
		if rest := g.byArrival(); len(rest) > 0 {
			g.leader = rest[0].id
		}
	}
}

// accepts reports whether a member with these protocols can be in the group together with the others.
func (g *consumerGroup) accepts(protocolType string, protocols []Protocol) bool {
	if protocolType == "" || len(protocols) == 0 {
		return false
	}
	if len(g.members) == 0 {
		return true
	}
	if protocolType != g.protocolType {
		return false
	}
	return slices.ContainsFunc(protocols, func(p Protocol) bool { return g.offeredByAll(p.Name) })
}

func (g *consumerGroup) offeredByAll(protocol string) bool {
	for _, m := range g.members {
		if _, ok := m.offers(protocol); !ok {
			return false
		}
	}
	return true
}

// vote selects the protocol: each member votes for the first of its own that all
// offer; most votes win, and of equals the one the earliest member prefers.
func (g *consumerGroup) vote() string {
	votes := map[string]int{}
	best := ""
	for _, m := range g.byArrival() {
		for i := range m.protocols {
			name := m.protocols[i].Name
			if !g.offeredByAll(name) {
				continue
			}
			if _, seen := votes[name]; !seen && best == "" {
				best = name
			}
			votes[name]++
			break
		}
	}
	for _, m := range g.byArrival() {
		for i := range m.protocols {
			if name := m.protocols[i].Name; votes[name] > votes[best] {
				best = name
			}
		}
	}
	return best
}

// touch starts a member's session anew.
func (g *consumerGroup) touch(m *member) {
	m.stopSession()
	round := m.sessionRound
	m.session = time.AfterFunc(m.sessionTimeout, func() { g.c.sessionOver(g, m, round) })
}

// unused reports whether nothing of the group is worth remembering.
func (g *consumerGroup) unused() bool {
	return g.state == StateEmpty && len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0 && g.stored == nil
}

// bury makes the group Dead and forgets it; whoever still holds it looks again.
func (g *consumerGroup) bury() {
	g.state = StateDead
	g.stopTimer()
	for _, t := range g.pending {
		t.Stop()
	}
	clear(g.pending)
	g.c.forget(g)
}

func (g *consumerGroup) stopTimer() {
	g.round++
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

// startTimer runs f, with the lock held, unless the phase ends before.
func (g *consumerGroup) startTimer(d time.Duration, f func()) {
	g.stopTimer()
	round := g.round
	g.timer = time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.round == round && g.state != StateDead {
			f()
		}
	})
}
