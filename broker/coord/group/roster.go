package group

import (
	"fmt"
	"slices"
	"time"
)

// roster is who is in a group, and what its present generation has agreed upon. It lives in memory only.
type roster struct {
	id           string
	generation   int32
	protocolType string
	protocol     string
	leader       string
	members      map[string]*member
	instances    map[string]string // member id by instance id
	// pending are ids that were handed out with ErrMemberIDRequired and have not joined yet.
	pending map[string]*time.Timer
	joins   int64
	// newcomers says that members joined since an initial delay was last extended.
	newcomers bool
}

// find returns the member a request speaks for.
func (g *roster) find(memberID, instanceID string) (*member, error) {
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

func (g *roster) checkGeneration(generation int32) error {
	if generation != g.generation {
		return fmt.Errorf("%w: %d, group %q is at %d", ErrIllegalGeneration, generation, g.id, g.generation)
	}
	return nil
}

// byArrival returns the members, first come first.
func (g *roster) byArrival() []*member {
	all := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *member) int { return int(a.joined - b.joined) })
	return all
}

func (g *roster) addMember(m *member) {
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
func (g *roster) dropMember(m *member, err error) {
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

func (g *roster) dropPending(id string) bool {
	t, ok := g.pending[id]
	if ok {
		t.Stop()
		delete(g.pending, id)
	}
	return ok
}

// checkRoom refuses a member too many. Ids that were handed out count, so
// that asking for ids is bounded as well.
func (g *roster) checkRoom(most int) error {
	if len(g.members)+len(g.pending) >= most {
		return fmt.Errorf("%w: group %q has %d members", ErrMaxSizeReached, g.id, len(g.members))
	}
	return nil
}

// rejoin lets a member wait for the next generation.
func (g *roster) rejoin(m *member, r *JoinRequest, wait chan joinAnswer) {
	m.update(r)
	m.stopSession()
	m.answerJoin(JoinResponse{MemberID: m.id}, fmt.Errorf("%w: group %q: the member sent another join", ErrRebalanceInProgress, g.id))
	m.joining = wait
}

// accepts reports whether a member with these protocols can be in the group together with the others.
func (g *roster) accepts(protocolType string, protocols []Protocol) bool {
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

func (g *roster) offeredByAll(protocol string) bool {
	for _, m := range g.members {
		if _, ok := m.offers(protocol); !ok {
			return false
		}
	}
	return true
}

// vote selects the protocol: each member votes for the first of its own that all
// offer; most votes win, and of equals the one the earliest member prefers.
func (g *roster) vote() string {
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

func (g *roster) inconsistent(r *JoinRequest) error {
	names := make([]string, 0, len(r.Protocols))
	for i := range r.Protocols {
		names = append(names, r.Protocols[i].Name)
	}
	return fmt.Errorf("%w: type %q with protocols %q does not fit group %q of type %q", ErrInconsistentGroup,
		r.ProtocolType, names, g.id, g.protocolType)
}

// rebalanceTimeout is the longest any member asks for.
func (g *roster) rebalanceTimeout() time.Duration {
	var most time.Duration
	for _, m := range g.members {
		most = max(most, m.rebalanceTimeout)
	}
	return most
}

// joinResponse tells a member of the present generation.
func (g *roster) joinResponse(m *member) JoinResponse {
	r := JoinResponse{
		Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol,
		Leader: g.leader, MemberID: m.id,
	}
	if m.id == g.leader {
		r.Members = g.joinMembers()
	}
	return r
}

// joinMembers is the leader's view of the members.
func (g *roster) joinMembers() []JoinMember {
	all := g.byArrival()
	members := make([]JoinMember, 0, len(all))
	for _, m := range all {
		metadata, _ := m.offers(g.protocol)
		members = append(members, JoinMember{MemberID: m.id, InstanceID: m.instanceID, Metadata: metadata})
	}
	return members
}

// staticResponse answers a static member whose group goes on as it is. A leader
// that cannot be told to skip the assignment is told the old leader's id
// instead, so that it does not take itself for the leader (KIP-345, KIP-814).
func (g *roster) staticResponse(m *member, oldLeader string, canSkip bool) JoinResponse {
	r := g.joinResponse(m)
	if m.id != g.leader {
		return r
	}
	if canSkip {
		r.SkipAssign = true
		return r
	}
	r.Leader, r.Members = oldLeader, nil
	return r
}

func (g *roster) syncResponse(m *member) SyncResponse {
	return SyncResponse{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
}

// subscribedTopics returns what the members read; known is false if that cannot be told.
func (g *roster) subscribedTopics() (topics map[string]bool, known bool) {
	if len(g.members) == 0 {
		return nil, true
	}
	if g.protocolType != ConsumerProtocolType {
		return nil, false
	}
	topics = map[string]bool{}
	for _, m := range g.members {
		for i := range m.protocols {
			s, err := DecodeSubscription(m.protocols[i].Metadata)
			if err != nil {
				return nil, false
			}
			for _, t := range s.Topics {
				topics[t] = true
			}
		}
	}
	return topics, true
}

// metadata is what a metadata record says of the group now.
func (g *roster) metadata() storedGroup {
	return storedGroup{
		protocolType: g.protocolType,
		generation:   g.generation,
		protocol:     g.protocol,
		leader:       g.leader,
		changed:      time.Now(),
	}
}

// assignmentGrowth is how much larger an assignment is than the one in force.
func (g *roster) assignmentGrowth(assignments map[string][]byte) (bytes int64) {
	for _, m := range g.members {
		bytes += int64(len(assignments[m.id]) - len(m.assignment))
	}
	return bytes
}
