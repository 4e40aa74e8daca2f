package group

import (
	"fmt"
	"log/slog"
	"time"
)

// prepareRebalance begins the join phase (or lets it go on).
func (g *anyGroup) prepareRebalance(reason string) {
	if g.state == StateCompletingRebalance {
		// Who waits for the old generation's assignment would wait for ever.
		for _, m := range g.members {
			m.assignment = nil
			if m.syncing != nil {
				m.answerSync(SyncResponse{}, fmt.Errorf("%w: group %q: %s", ErrRebalanceInProgress, g.id, reason))
				g.touch(m)
			}
		}
	}
	wasEmpty := g.state == StateEmpty
	g.state = StatePreparingRebalance
	g.c.log.Debug("group rebalances", slog.String("group", g.id), slog.Int("generation", int(g.generation)),
		slog.Int("members", len(g.members)), slog.String("reason", reason))
	g.c.wake(g.id)
	if delay := g.c.initialDelay; wasEmpty && delay > 0 {
		g.newcomers = false
		g.startInitialDelay(delay, g.rebalanceTimeout()-delay)
		return
	}
	g.startTimer(g.rebalanceTimeout(), g.completeJoin)
	g.completeJoinIfAllHere()
}

// startInitialDelay keeps a new group waiting for more members, again as long
// as some came, up to the rebalance timeout.
func (g *anyGroup) startInitialDelay(delay, remaining time.Duration) {
	g.waitingInitially = true
	g.startTimer(delay, func() {
		if !g.newcomers || remaining <= 0 {
			g.completeJoin()
			return
		}
		g.newcomers = false
		next := min(g.c.initialDelay, remaining)
		g.startInitialDelay(next, remaining-next)
	})
}

// completeJoinIfAllHere ends the join phase early when nobody is missing.
func (g *anyGroup) completeJoinIfAllHere() {
	if g.state != StatePreparingRebalance || g.waitingInitially || len(g.pending) > 0 {
		return
	}
	for _, m := range g.members {
		if m.joining == nil {
			return
		}
	}
	g.completeJoin()
}

// completeJoin ends the join phase: dynamic members that have not rejoined are
// out, static ones stay until their session ends, and the rest forms the next generation.
func (g *anyGroup) completeJoin() {
	defer g.weigh(&g.roster)
	g.waitingInitially = false
	g.stopTimer()
	present := 0
	for _, m := range g.byArrival() {
		switch {
		case m.joining != nil:
			present++
		case m.instanceID == "":
			g.dropMember(m, fmt.Errorf("%w: %q did not rejoin group %q in time", ErrUnknownMember, m.id, g.id))
		}
	}
	if len(g.members) == 0 {
		g.becomeEmpty()
		return
	}
	if present == 0 {
		// Only static members, all of them away: without a leader there is no generation.
		g.startTimer(g.rebalanceTimeout(), g.completeJoin)
		return
	}
	if leader := g.members[g.leader]; leader == nil || leader.joining == nil {
		for _, m := range g.byArrival() {
			if m.joining != nil {
				g.leader = m.id
				break
			}
		}
	}
	g.beginGeneration()
}

// beginGeneration answers everybody who joined and waits for the leader's assignment.
func (g *anyGroup) beginGeneration() {
	g.generation = nextGeneration(g.generation)
	g.protocol = g.vote()
	g.state = StateCompletingRebalance
	for _, m := range g.members {
		m.synced = false
		m.assignment = nil
	}
	for _, m := range g.byArrival() {
		m.answerJoin(g.joinResponse(m), nil)
		g.touch(m)
	}
	// Members that have joined but never ask for their assignment hold up nobody for long.
	g.startTimer(g.rebalanceTimeout(), g.dropUnsynced)
}

// nextGeneration counts up and starts again before it would become negative.
func nextGeneration(generation int32) int32 {
	if generation == 1<<31-1 {
		return 1
	}
	return generation + 1
}

// becomeEmpty records that the last member is gone; from now on offsets may expire.
func (g *anyGroup) becomeEmpty() {
	g.stopTimer()
	g.waitingInitially = false
	g.generation = nextGeneration(g.generation)
	g.protocol, g.leader = "", ""
	g.state, g.emptySince = StateEmpty, time.Now()
	g.weigh(&g.roster)
	if g.stored == nil && len(g.offsets) == 0 {
		g.buryIfUnused() // it never had an assignment
		return
	}
	if err := g.write(groupEntry(g.id, g.metadata())); err != nil {
		// The group is empty all the same; only the moment is not on record.
		g.c.log.Warn("group became empty", slog.String("group", g.id), slog.Any("error", err))
	}
}

// dropUnsynced removes who has joined the generation and has not asked for its assignment in time.
func (g *anyGroup) dropUnsynced() {
	dropped := 0
	for _, m := range g.byArrival() {
		if !m.synced {
			g.dropMember(m, fmt.Errorf("%w: %q did not sync with group %q in time", ErrUnknownMember, m.id, g.id))
			dropped++
		}
	}
	if dropped > 0 {
		g.weigh(&g.roster)
		g.membersGone("members did not ask for their assignment in time")
	}
}

// membersGone goes on after members were dropped.
func (g *anyGroup) membersGone(reason string) {
	switch g.state {
	case StateStable, StateCompletingRebalance:
		g.prepareRebalance(reason)
	case StatePreparingRebalance:
		g.completeJoinIfAllHere()
	}
}

func (g *anyGroup) buryIfUnused() {
	if g.unused() {
		g.bury()
	}
}
