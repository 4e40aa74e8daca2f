package group

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Join makes the caller a member, or lets it remain one, and blocks until the
// group's join phase is over, ctx ends or the member is fenced. When ctx ends
// the member stays, as after a lost connection, until its session runs out.
// With ErrMemberIDRequired the response carries the new member id.
func (c *Coordinator) Join(ctx context.Context, r JoinRequest) (JoinResponse, error) {
	if err := c.checkJoin(&r); err != nil {
		return JoinResponse{MemberID: r.MemberID}, err
	}
	wait := make(chan joinAnswer, 1)
	var shard int
	var end int64 // of what has to be durable before the answer
	err := c.with(r.Group, r.MemberID == "", func(g *anyGroup) error {
		defer g.buryIfUnused()
		defer g.weigh(&g.roster)
		if err := g.modern().becomeClassic(&r); err != nil {
			return err
		}
		if g.consumer != nil {
			response, err := mixedGroup{g.modern()}.joinClassic(&r)
			shard, end = g.shard, g.appended
			wait <- joinAnswer{response, err}
			return nil
		}
		if r.MemberID == "" {
			return g.joinNew(&r, wait)
		}
		return g.joinKnown(&r, wait)
	})
	if err == nil && end > 0 {
		err = c.journal.waitDurable(ctx, shard, end)
	}
	if err != nil {
		return JoinResponse{MemberID: r.MemberID}, err
	}
	select {
	case a := <-wait:
		return a.response, a.err
	case <-ctx.Done():
		select {
		case a := <-wait: // a member whose id nobody learns cannot leave
			return a.response, a.err
		default:
		}
		return JoinResponse{MemberID: r.MemberID}, ctx.Err()
	case <-c.ctx.Done():
		return JoinResponse{MemberID: r.MemberID}, ErrClosed
	}
}

func (c *Coordinator) checkJoin(r *JoinRequest) error {
	if r.Group == "" {
		return fmt.Errorf("%w: it is empty", ErrInvalidGroupID)
	}
	if r.SessionTimeout < c.minSession || r.SessionTimeout > c.maxSession {
		return fmt.Errorf("%w: %v, allowed are %v to %v", ErrInvalidSession, r.SessionTimeout, c.minSession, c.maxSession)
	}
	if r.RebalanceTimeout <= 0 { // JoinGroup v0 has none
		r.RebalanceTimeout = r.SessionTimeout
	}
	return nil
}

// joinNew takes a caller without a member id: a stranger, or a static member that comes back.
func (g *anyGroup) joinNew(r *JoinRequest, wait chan joinAnswer) error {
	if !g.accepts(r.ProtocolType, r.Protocols) {
		return g.inconsistent(r)
	}
	if r.InstanceID != "" {
		id := newMemberID(r.InstanceID)
		if old, ok := g.instances[r.InstanceID]; ok {
			m := g.members[old]
			if err := g.roomForMember(r.weight(id), m.weight()); err != nil {
				return err
			}
			g.replaceStatic(m, id, r, wait)
			return nil
		}
		return g.addAndRebalance(id, r, wait)
	}
	id := newMemberID(r.ClientID)
	if !r.RequireMemberID {
		return g.addAndRebalance(id, r, wait)
	}
	if err := g.checkRoom(g.c.maxGroupSize); err != nil {
		return err
	}
	if err := g.room.check(int64(memberBytes + len(id))); err != nil {
		return err
	}
	g.addPending(id, r.SessionTimeout)
	wait <- joinAnswer{JoinResponse{MemberID: id}, fmt.Errorf("%w: join group %q again as %q", ErrMemberIDRequired, g.id, id)}
	return nil
}

// addPending expects the caller to join with the id it is given; the join phase
// waits for it, but not longer than a session.
func (g *anyGroup) addPending(id string, d time.Duration) {
	g.pending[id] = time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if _, ok := g.pending[id]; !ok || g.state == StateDead {
			return
		}
		delete(g.pending, id)
		g.weigh(&g.roster)
		g.completeJoinIfAllHere()
		g.buryIfUnused()
	})
}

// joinKnown takes a caller with a member id.
func (g *anyGroup) joinKnown(r *JoinRequest, wait chan joinAnswer) error {
	if !g.accepts(r.ProtocolType, r.Protocols) {
		return g.inconsistent(r)
	}
	if r.InstanceID == "" && g.dropPending(r.MemberID) {
		return g.addAndRebalance(r.MemberID, r, wait)
	}
	m, err := g.find(r.MemberID, r.InstanceID)
	if err == nil {
		err = g.roomForMember(r.weight(m.id), m.weight())
	}
	if err != nil {
		return err
	}
	switch g.state {
	case StatePreparingRebalance:
		g.rejoin(m, r, wait)
		g.completeJoinIfAllHere()
	case StateCompletingRebalance:
		if m.sameProtocols(r.Protocols) {
			g.answerUnchanged(m, wait, g.joinResponse(m)) // its last answer was lost
			return nil
		}
		g.rejoin(m, r, wait)
		g.prepareRebalance(fmt.Sprintf("member %s changed its protocols", m.id))
	case StateStable:
		if m.id != g.leader && m.sameProtocols(r.Protocols) {
			g.answerUnchanged(m, wait, g.joinResponse(m))
			return nil
		}
		// A leader that rejoins has seen something that changes the assignment.
		reason := fmt.Sprintf("member %s rejoined: %s", m.id, r.Reason)
		g.rejoin(m, r, wait)
		g.prepareRebalance(reason)
	default:
		return fmt.Errorf("%w: %q: group %q is %v", ErrUnknownMember, r.MemberID, g.id, g.state)
	}
	return nil
}

func (g *anyGroup) answerUnchanged(m *member, wait chan joinAnswer, r JoinResponse) {
	g.touch(m)
	wait <- joinAnswer{response: r}
}

func (g *anyGroup) addAndRebalance(id string, r *JoinRequest, wait chan joinAnswer) error {
	if err := g.checkRoom(g.c.maxGroupSize); err != nil {
		return err
	}
	if err := g.roomForMember(r.weight(id), 0); err != nil {
		return err
	}
	m := &member{id: id, instanceID: r.InstanceID}
	m.update(r)
	m.joining = wait
	g.addMember(m)
	if g.state == StatePreparingRebalance {
		g.completeJoinIfAllHere()
		return nil
	}
	g.prepareRebalance(fmt.Sprintf("member %s joined: %s", id, r.Reason))
	return nil
}

// weight is what the member of a request takes.
func (r *JoinRequest) weight(id string) int64 {
	m := member{id: id, instanceID: r.InstanceID}
	m.update(r)
	return m.weight()
}

func (m *member) update(r *JoinRequest) {
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.sessionTimeout, m.rebalanceTimeout = r.SessionTimeout, r.RebalanceTimeout
	m.protocolType, m.protocols = r.ProtocolType, r.Protocols
}

// replaceStatic gives a static member that came back a new id and fences the
// old one. If the group would choose the same protocol as before, the
// generation and all assignments stand.
func (g *anyGroup) replaceStatic(m *member, id string, r *JoinRequest, wait chan joinAnswer) {
	old, oldLeader := m.id, g.leader
	fenced := fmt.Errorf("%w: instance %q of group %q is member %q now, not %q", ErrFencedInstance, m.instanceID, g.id, id, old)
	m.stopSession()
	m.answerJoin(JoinResponse{MemberID: old}, fenced)
	m.answerSync(SyncResponse{}, fenced)
	delete(g.members, old)
	m.id = id
	g.members[id] = m
	g.instances[m.instanceID] = id
	if g.leader == old {
		g.leader = id
	}
	m.update(r)
	g.c.log.Info("static member is back", slog.String("group", g.id), slog.String("instance", m.instanceID),
		slog.String("member", id), slog.String("replaces", old))
	switch {
	case g.state == StateStable && g.vote() == g.protocol:
		g.answerUnchanged(m, wait, g.staticResponse(m, oldLeader, r.CanSkipAssign))
	case g.state == StatePreparingRebalance:
		m.joining = wait
		g.completeJoinIfAllHere()
	default:
		m.joining = wait
		g.prepareRebalance(fmt.Sprintf("static member %s came back as %s", m.instanceID, id))
	}
}

// sessionOver drops a member that has not been heard of for its session timeout.
func (c *Coordinator) sessionOver(g *anyGroup, m *member, round int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == StateDead || m.sessionRound != round || g.members[m.id] != m {
		return
	}
	c.log.Info("member's session is over", slog.String("group", g.id), slog.String("member", m.id),
		slog.Duration("session_timeout", m.sessionTimeout))
	g.dropMember(m, fmt.Errorf("%w: %q was not heard of for %v", ErrUnknownMember, m.id, m.sessionTimeout))
	g.membersGone(fmt.Sprintf("session of member %s is over", m.id))
	g.weigh(&g.roster)
}
