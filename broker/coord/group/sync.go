package group

import (
	"context"
	"fmt"
)

// Sync brings the assignment (from the leader) and blocks until it is there.
func (c *Coordinator) Sync(ctx context.Context, r SyncRequest) (SyncResponse, error) {
	if r.Group == "" {
		return SyncResponse{}, fmt.Errorf("%w: it is empty", ErrInvalidGroupID)
	}
	wait := make(chan syncAnswer, 1)
	err := c.with(r.Group, false, func(g *anyGroup) error {
		if len(r.Assignments) > 0 {
			defer g.weigh(&g.roster)
		}
		return g.sync(&r, wait)
	})
	if err != nil {
		return SyncResponse{}, err
	}
	select {
	case a := <-wait:
		return a.response, a.err
	case <-ctx.Done():
		return SyncResponse{}, ctx.Err()
	case <-c.ctx.Done():
		return SyncResponse{}, ErrClosed
	}
}

func (g *anyGroup) sync(r *SyncRequest, wait chan syncAnswer) error {
	if g.consumer != nil {
		response, err := mixedGroup{g.modern()}.syncClassic(r)
		wait <- syncAnswer{response, err}
		return nil
	}
	m, err := g.find(r.MemberID, r.InstanceID)
	if err != nil {
		return err
	}
	if err := g.checkGeneration(r.Generation); err != nil {
		return err
	}
	if r.ProtocolType != "" && r.ProtocolType != g.protocolType || r.Protocol != "" && r.Protocol != g.protocol {
		return fmt.Errorf("%w: %s/%s, generation %d of group %q uses %s/%s", ErrInconsistentGroup,
			r.ProtocolType, r.Protocol, g.generation, g.id, g.protocolType, g.protocol)
	}
	switch g.state {
	case StatePreparingRebalance:
		return fmt.Errorf("%w: group %q", ErrRebalanceInProgress, g.id)
	case StateCompletingRebalance:
		m.answerSync(SyncResponse{}, fmt.Errorf("%w: group %q: the member sent another sync", ErrRebalanceInProgress, g.id))
		m.syncing, m.synced = wait, true
		m.stopSession()
		if m.id == g.leader {
			return g.assign(r.Assignments)
		}
		return nil
	case StateStable:
		m.synced = true
		g.touch(m)
		wait <- syncAnswer{response: g.syncResponse(m)}
		g.stopTimerIfAllSynced()
		return nil
	default:
		return fmt.Errorf("%w: %q: group %q is %v", ErrUnknownMember, r.MemberID, g.id, g.state)
	}
}

// assign puts the leader's assignment in force. The generation goes on record with it.
func (g *anyGroup) assign(assignments map[string][]byte) error {
	err := g.room.check(g.assignmentGrowth(assignments))
	if err == nil {
		err = g.write(groupEntry(g.id, g.metadata()))
	}
	if err != nil {
		for _, m := range g.members {
			if m.syncing != nil {
				m.answerSync(SyncResponse{}, err)
				g.touch(m)
			}
		}
		g.prepareRebalance("the assignment could not be kept")
		return nil
	}
	g.state = StateStable
	for _, m := range g.members {
		m.assignment = assignments[m.id]
		if m.syncing != nil {
			m.answerSync(g.syncResponse(m), nil)
			g.touch(m)
		}
	}
	g.stopTimerIfAllSynced()
	g.c.wake(g.id)
	return nil
}

// stopTimerIfAllSynced ends the time that members of a new generation have to sync.
func (g *anyGroup) stopTimerIfAllSynced() {
	for _, m := range g.members {
		if !m.synced {
			return
		}
	}
	g.stopTimer()
}

// Heartbeat keeps a member's session alive. ErrRebalanceInProgress tells it to join again.
func (c *Coordinator) Heartbeat(_ context.Context, id Identity) error {
	return c.with(id.Group, false, func(g *anyGroup) error {
		if g.consumer != nil {
			return mixedGroup{g.modern()}.heartbeatClassic(id)
		}
		m, err := g.find(id.MemberID, id.InstanceID)
		if err != nil {
			return err
		}
		if err := g.checkGeneration(id.Generation); err != nil {
			return err
		}
		if m.joining == nil && m.syncing == nil {
			g.touch(m)
		}
		if g.state == StatePreparingRebalance {
			return fmt.Errorf("%w: group %q", ErrRebalanceInProgress, g.id)
		}
		return nil
	})
}

// Leave takes a member out of its group. With an instance id the member id may be
// empty: an operator removes a static member by its name.
func (c *Coordinator) Leave(_ context.Context, id Identity, reason string) error {
	return c.with(id.Group, false, func(g *anyGroup) error {
		defer g.buryIfUnused()
		if g.consumer != nil {
			return g.modern().evict(id)
		}
		defer g.weigh(&g.roster)
		if id.InstanceID == "" && g.dropPending(id.MemberID) {
			g.completeJoinIfAllHere()
			return nil
		}
		memberID := id.MemberID
		if memberID == "" && id.InstanceID != "" {
			memberID = g.instances[id.InstanceID]
		}
		m, err := g.find(memberID, id.InstanceID)
		if err != nil {
			return err
		}
		g.dropMember(m, fmt.Errorf("%w: %q left group %q", ErrUnknownMember, m.id, g.id))
		g.membersGone(fmt.Sprintf("member %s left: %s", m.id, reason))
		return nil
	})
}
