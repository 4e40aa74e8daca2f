package group

import (
	"sync"
	"time"
)

// anyGroup is one group, whichever protocol its members use: the ledger, which is durable, the roster, which
// is not, and the state that drives both. Every method wants mu held, and none
// of them waits for anything but the journal's append.
type anyGroup struct {
	ledger
	roster
	c *Coordinator

	mu    sync.Mutex
	state State
	// emptySince is when the last member went (or, if that is not on record, when
	// the broker started): offsets expire from then on.
	emptySince time.Time

	// timer runs the phase the group is in: the join phase's end, or the time
	// members have to sync. round tells a timer that fired from one that was replaced.
	timer *time.Timer
	round int64
	// waitingInitially says that a new group waits for members that may come.
	waitingInitially bool
}

func newGroup(c *Coordinator, id string, shard int) *anyGroup {
	g := &anyGroup{
		c:      c,
		ledger: ledger{group: id, shard: shard, offsets: map[TopicPartition]Offset{}},
		roster: roster{
			id: id, members: map[string]*member{}, instances: map[string]string{}, pending: map[string]*time.Timer{},
		},
	}
	if c != nil {
		g.ledger.journal = c.journal
		g.ledger.room = &c.room
	}
	g.charge(int64(groupBytes + len(id)))
	return g
}

// restore sets the membership state of a group whose entries have been replayed: it has no members.
func (g *anyGroup) restore() {
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

// touch starts a member's session anew.
func (g *anyGroup) touch(m *member) {
	m.stopSession()
	round := m.sessionRound
	m.session = time.AfterFunc(m.sessionTimeout, func() { g.c.sessionOver(g, m, round) })
}

// unused reports whether nothing of the group is worth remembering.
func (g *anyGroup) unused() bool {
	return g.state == StateEmpty && len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0 && len(g.held) == 0 && g.stored == nil && g.consumer == nil
}

// bury makes the group Dead and forgets it; whoever still holds it looks again.
func (g *anyGroup) bury() {
	g.state = StateDead
	g.stopTimer()
	for _, t := range g.pending {
		t.Stop()
	}
	clear(g.pending)
	for _, m := range g.consumerMembers() {
		m.stopTimers()
	}
	g.charge(-g.bytes)
	g.weight = 0
	g.c.forget(g)
}

func (g *anyGroup) stopTimer() {
	g.round++
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

// startTimer runs f, with the lock held, unless the phase ends before.
func (g *anyGroup) startTimer(d time.Duration, f func()) {
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
