package crashtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/group"
)

// modernGroup is a group whose assignments the broker makes (KIP-848): its members are durable.
const (
	modernGroup = "modern"
	mostMembers = 4
)

// reader is a member of the group as it knows itself.
type reader struct {
	id    string
	epoch int32
	owned group.Partitions
}

// beat is something a member said; what it was answered is durable.
type beat struct {
	begun, done int
	member      string
	joins, gone bool
	epoch       int32
	owned       group.Partitions
}

func (o *oracle) beating(member string, joins, gone bool) *beat {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := &beat{begun: o.now(), done: never, member: member, joins: joins, gone: gone}
	o.beats = append(o.beats, b)
	return b
}

// beats lets a member join, heartbeat or leave.
func (w *world) beats() error {
	switch n := len(w.readers); {
	case n == 0 || n < mostMembers && w.rng.IntN(4) == 0:
		w.members++
		r := &reader{id: fmt.Sprint("member", w.members), owned: group.Partitions{}}
		return w.say(r, group.JoinEpoch)
	case w.rng.IntN(6) == 0:
		return w.say(w.readers[w.rng.IntN(n)], group.LeaveEpoch)
	default:
		r := w.readers[w.rng.IntN(n)]
		return w.say(r, r.epoch)
	}
}

// beatAll keeps the sessions of all members from running out.
func (w *world) beatAll() error {
	for _, r := range slices.Clone(w.readers) {
		if err := w.say(r, r.epoch); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) say(r *reader, epoch int32) error {
	h := group.ConsumerHeartbeat{Group: modernGroup, MemberID: r.id, ClientID: "c", Epoch: epoch, RebalanceTimeout: -1, Owned: r.owned}
	if epoch == group.JoinEpoch {
		h.RebalanceTimeout, h.Topics = 30*time.Minute, []string{"plain", "keyed"}
	}
	b := w.oracle.beating(r.id, epoch == group.JoinEpoch, epoch == group.LeaveEpoch)
	w.readers = slices.DeleteFunc(w.readers, func(other *reader) bool { return other == r })
	answer, err := w.b.Groups().Consumers().Heartbeat(w.ctx, h)
	if err != nil {
		// Nobody speaks for it any more: its session will be over some time.
		w.oracle.beating(r.id, false, true)
		return w.goOn(err)
	}
	r.epoch = answer.Epoch
	if answer.Assigned != nil {
		r.owned = answer.Assigned
	}
	if !b.gone {
		w.readers = append(w.readers, r)
	}
	w.oracle.mark(func(now int) { b.done, b.epoch, b.owned = now, r.epoch, r.owned })
	return nil
}

// memberExpectation is what must and may be known of a member.
type memberExpectation struct {
	sure  *beat   // the last that was answered
	maybe []*beat // begun since, and not answered
}

func (e *expectation) members() map[string]*memberExpectation {
	all := map[string]*memberExpectation{}
	for _, b := range e.beats {
		if b.begun > e.at {
			continue
		}
		m := all[b.member]
		if m == nil {
			m = &memberExpectation{}
			all[b.member] = m
		}
		if b.done <= e.acks {
			m.sure, m.maybe = b, nil
		} else {
			m.maybe = append(m.maybe, b)
		}
	}
	return all
}

// judgeMembers compares the members of the group with what they were told, and lets them go on.
func (e *expectation) judgeMembers(ctx context.Context, b *broker.Broker) error {
	consumers := b.Groups().Consumers()
	d, err := consumers.Describe(modernGroup)
	if err != nil && !errors.Is(err, group.ErrGroupNotFound) {
		return err
	}
	found, owners := map[string]*group.ConsumerMemberDescription{}, map[string]string{}
	for i := range d.Members {
		m := &d.Members[i]
		found[m.MemberID] = m
		for id, numbers := range m.Assigned {
			for _, n := range numbers {
				place := fmt.Sprintf("%x-%d", id, n)
				if other := owners[place]; other != "" {
					return fmt.Errorf("partition %s belongs to %s and to %s", place, other, m.MemberID)
				}
				owners[place] = m.MemberID
			}
		}
	}
	expected := e.members()
	for id := range found {
		if expected[id] == nil {
			return fmt.Errorf("%s is a member and never asked to be one", id)
		}
	}
	for id, m := range expected {
		if !m.allows(found[id]) {
			return fmt.Errorf("member %s is %+v, it was told %+v last, and said since: %v", id, found[id], m.sure, m.maybe)
		}
	}
	for id, m := range expected {
		if m.sure == nil || m.sure.gone || len(m.maybe) > 0 {
			continue
		}
		_, err := consumers.Heartbeat(ctx, group.ConsumerHeartbeat{Group: modernGroup, MemberID: id, Epoch: m.sure.epoch, RebalanceTimeout: -1, Owned: m.sure.owned})
		if err != nil {
			return fmt.Errorf("member %s cannot go on: %w", id, err)
		}
	}
	return nil
}

// allows reports whether a member may be as it was found; nil: it is not there.
func (m *memberExpectation) allows(found *group.ConsumerMemberDescription) bool {
	if found == nil && (m.sure == nil || m.sure.gone) {
		return true
	}
	if found != nil && m.sure != nil && m.sure.tells(found) {
		return true
	}
	for _, b := range m.maybe {
		switch {
		case found == nil:
			if b.gone {
				return true
			}
		case b.done == never && !b.gone: // its answer is not known
			return true
		case b.joins && found.Epoch == 0 && len(found.Assigned) == 0: // half of it
			return true
		case b.tells(found):
			return true
		}
	}
	return false
}

func (b *beat) tells(found *group.ConsumerMemberDescription) bool {
	return !b.gone && b.epoch == found.Epoch && maps.EqualFunc(b.owned, found.Assigned, slices.Equal[[]int32])
}
