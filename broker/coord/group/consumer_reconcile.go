package group

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// reconcile moves a member one step towards the target assignment: it is told
// to give up what it must first, and gets what nobody else holds any more.
// owned is what it says it holds; nil = nothing said.
func (g modernGroup) reconcile(m *consumerMember, owned Partitions) error {
	next := m.next(g.consumer.assignEp, owned, func(id topic.ID, partition int32) bool {
		owner, held := g.consumer.owners[heldPartition{id, partition}]
		return !held || owner == m.id
	})
	if next.equal(&m.memberAssignment) {
		return nil
	}
	return g.write(currentEntry(g.id, m.id, next))
}

func (a *memberAssignment) equal(o *memberAssignment) bool {
	return a.epoch == o.epoch && a.previousEpoch == o.previousEpoch && a.state == o.state &&
		a.assigned.equal(o.assigned) && a.revoking.equal(o.revoking)
}

// next is the step itself, as Kafka takes it. free tells whether the member may take a partition.
func (m *consumerMember) next(targetEpoch int32, owned Partitions, free func(topic.ID, int32) bool) memberAssignment {
	switch m.state {
	case memberStable:
		if m.epoch == targetEpoch {
			return m.memberAssignment
		}
	case memberUnrevoked:
		if m.holdsOn(owned, m.revoking) {
			return m.memberAssignment
		}
	}
	keep, revoke := m.assigned.split(m.target.contains)
	if len(revoke) > 0 && m.holdsOn(owned, revoke) {
		// The epoch goes on only when the partitions are given up.
		a := m.at(m.epoch)
		if m.state == memberUnrevoked {
			a = m.at(m.epoch + 1)
		}
		a.state, a.assigned, a.revoking = memberUnrevoked, keep, revoke
		return a
	}
	missing, _ := m.target.split(func(id topic.ID, p int32) bool { return !keep.contains(id, p) })
	gain, others := missing.split(free)
	a := m.at(targetEpoch)
	a.state, a.assigned, a.revoking = memberStable, keep.union(gain), nil
	if len(others) > 0 {
		a.state = memberUnreleased
	}
	return a
}

// at is the member's assignment at another epoch.
func (m *consumerMember) at(epoch int32) memberAssignment {
	a := m.memberAssignment
	if epoch != m.epoch {
		a.epoch, a.previousEpoch = epoch, m.epoch
	}
	return a
}

// holdsOn reports whether a member that says what it holds has not given all of p up. Silence gives nothing up.
func (m *consumerMember) holdsOn(owned, p Partitions) bool {
	return owned == nil || owned.overlaps(p.contains)
}

// deadline is a timer that can be told from the one it replaces.
type deadline struct {
	timer *time.Timer
	round int64
}

func (d *deadline) stop() {
	d.round++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (m *consumerMember) stopTimers() {
	m.session.stop()
	m.revocation.stop()
	m.turn.stop()
}

// alarm removes a member when the time is over, unless the deadline is replaced or stopped before.
func (g modernGroup) alarm(m *consumerMember, d *deadline, after time.Duration, reason string) {
	d.stop()
	round := d.round
	d.timer = time.AfterFunc(after, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if d.round != round || g.state == StateDead || g.consumerMembers()[m.id] != m {
			return
		}
		g.c.log.Info("member is removed", slog.String("group", g.id), slog.String("member", m.id),
			slog.String("reason", fmt.Sprintf("%s: %v", reason, after)))
		if err := g.remove(m); err != nil {
			g.c.log.Warn("member could not be removed", slog.String("group", g.id), slog.String("member", m.id), slog.Any("error", err))
			g.alarm(m, d, after, reason)
		}
	})
}

// touchConsumer starts a member's session anew.
func (g modernGroup) touchMember(m *consumerMember) {
	g.alarm(m, &m.session, g.sessionTimeout(m), "not heard of for the session timeout")
}

// watchRevocation gives a member that has partitions to give up the rebalance timeout, counted from when it was told.
func (g modernGroup) watchRevocation(m *consumerMember, before memberAssignment) {
	switch {
	case m.state != memberUnrevoked:
		m.revocation.stop()
	case m.revocation.timer == nil || !before.equal(&m.memberAssignment):
		g.alarm(m, &m.revocation, m.rebalanceTimeout, "partitions not given up within the rebalance timeout")
	}
}
