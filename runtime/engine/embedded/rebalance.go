package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// rebalance joins once and takes what it is given. settled is false when
// the member has let partitions go and has to join again for others to get them.
func (m *member) rebalance() (settled bool, err error) {
	m.dropStale()
	if m.eager {
		m.release(m.owned())
	}
	joined, err := m.join()
	if err != nil {
		return false, err
	}
	m.update(func() { m.id.MemberID, m.id.Generation = joined.MemberID, joined.Generation })
	m.eager = joined.Protocol != strategyCooperative
	if m.eager {
		// The group came down to a protocol that knows no keeping of partitions.
		m.drop(m.owned())
	}
	m.leading = joined.Leader == joined.MemberID && !joined.SkipAssign
	id, _ := m.identity()
	request := group.SyncRequest{
		Group: m.g.Name, MemberID: id.MemberID, Generation: id.Generation,
		ProtocolType: joined.ProtocolType, Protocol: joined.Protocol,
	}
	if m.leading {
		request.Assignments = m.assign(joined)
	}
	synced, err := m.e.groups.Sync(m.ctx, request)
	if err != nil {
		return false, err
	}
	m.update(func() {}) // commits that waited for the generation go on
	partitions, err := group.DecodeAssignment(synced.Assignment)
	if err != nil {
		return false, fmt.Errorf("assignment from member %q: %w", joined.Leader, err)
	}
	return m.take(partitions)
}

// join takes part in the next generation. A new member first learns its id (KIP-394): one that is to leave while
// the others are waited for can do so only by that.
func (m *member) join() (group.JoinResponse, error) {
	for {
		m.mu.Lock()
		subscription := group.Subscription{Topics: slices.Clone(m.g.Inputs), Generation: m.id.Generation}
		id := m.id.MemberID
		for _, s := range m.sortedSessions() {
			subscription.Owned = append(subscription.Owned, group.TopicPartition(s.Partition()))
		}
		m.mu.Unlock()
		slices.Sort(subscription.Topics)
		subscription.Topics = slices.Compact(subscription.Topics)
		cooperative := subscription
		cooperative.UserData = generationData(subscription.Generation)
		joined, err := m.e.groups.Join(m.ctx, group.JoinRequest{
			Group: m.g.Name, MemberID: id, RequireMemberID: true,
			ClientID: m.g.Client, ClientHost: inProcess,
			SessionTimeout: m.e.session, RebalanceTimeout: m.e.rejoin,
			ProtocolType: group.ConsumerProtocolType,
			Protocols: []group.Protocol{
				{Name: strategyCooperative, Metadata: cooperative.Encode()},
				{Name: strategyRange, Metadata: subscription.Encode()},
			},
			Reason: "assignment needed",
		})
		if !errors.Is(err, group.ErrMemberIDRequired) {
			return joined, err
		}
		m.update(func() { m.id.MemberID = joined.MemberID })
	}
}

// generationData is where leaders of before version 2 of the format look for the generation.
func generationData(generation int32) []byte {
	return []byte{byte(generation >> 24), byte(generation >> 16), byte(generation >> 8), byte(generation)}
}

// assign makes the assignment of all members and remembers the topics it was made from.
func (m *member) assign(joined group.JoinResponse) map[string][]byte {
	subscribers := subscribersOf(joined.Members)
	m.assigned, m.counts = map[string]topic.ID{}, map[string]int{}
	for _, name := range topicsOf(subscribers) {
		info, _ := m.e.topics.Lookup(name)
		m.assigned[name], m.counts[name] = info.ID, info.Partitions
	}
	result := assignRange
	if joined.Protocol == strategyCooperative {
		result = assignCooperative
	}
	encoded := map[string][]byte{}
	for id, partitions := range result(subscribers, m.counts) {
		encoded[id] = group.EncodeAssignment(partitions)
	}
	return encoded
}

// dropStale fences sessions whose topic is not the one they were opened on.
func (m *member) dropStale() {
	stale := slices.DeleteFunc(m.owned(), func(s *session) bool {
		info, ok := m.e.topics.Lookup(s.tp.Topic)
		return ok && info.ID == s.partition.TopicID()
	})
	m.drop(stale)
}

// take makes the sessions those of an assignment.
func (m *member) take(partitions []group.TopicPartition) (settled bool, err error) {
	wanted := map[engine.TopicPartition]bool{}
	for _, tp := range partitions {
		wanted[engine.TopicPartition(tp)] = true
	}
	lost := slices.DeleteFunc(m.owned(), func(s *session) bool { return wanted[s.tp] })
	var fresh []engine.TopicPartition
	m.mu.Lock()
	for tp := range wanted {
		if m.sessions[tp] == nil {
			fresh = append(fresh, tp)
		}
	}
	m.mu.Unlock()
	opened, err := m.openSessions(fresh)
	if err != nil {
		return false, err
	}
	if first := m.version == 0; len(opened) > 0 || first {
		m.update(func() {
			for _, s := range opened {
				m.sessions[s.tp] = s
			}
			m.version++
		})
	}
	m.e.log.Debug("member has its assignment", slog.String("group", m.g.Name), slog.Int("partitions", len(wanted)),
		slog.Int("new", len(opened)), slog.Int("given_up", len(lost)))
	m.release(lost)
	// What was given up is free for others only in the next generation.
	return len(lost) == 0 || m.eager, nil
}
