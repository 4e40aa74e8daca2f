package embedded

import (
	"cmp"
	"slices"

	"github.com/millstream-io/millstream/broker/coord/group"
)

// The assignment strategies that members offer, by the names under which every
// Kafka client knows them.
const (
	// strategyCooperative moves as few partitions as it can, and members keep what
	// they have while a rebalance runs (KIP-429).
	strategyCooperative = "cooperative-sticky"
	// strategyRange gives each member a run of each topic's partitions; members give everything up first.
	strategyRange = "range"
)

// subscriber is a member as its leader sees it.
type subscriber struct {
	id         string
	order      string // by which members are sorted: static members keep their place
	topics     map[string]bool
	owned      []group.TopicPartition
	generation int32
}

// subscribersOf decodes the members of a generation. One whose metadata is not
// in the consumer protocol's format reads nothing and is given nothing.
func subscribersOf(members []group.JoinMember) []subscriber {
	subscribers := make([]subscriber, 0, len(members))
	for i := range members {
		s := subscriber{id: members[i].MemberID, order: cmp.Or(members[i].InstanceID, members[i].MemberID), topics: map[string]bool{}}
		if metadata, err := group.DecodeSubscription(members[i].Metadata); err == nil {
			for _, t := range metadata.Topics {
				s.topics[t] = true
			}
			s.owned, s.generation = metadata.Owned, metadata.Generation
		}
		subscribers = append(subscribers, s)
	}
	slices.SortFunc(subscribers, func(a, b subscriber) int { return cmp.Compare(a.order, b.order) })
	return subscribers
}

// topicsOf returns all topics that are subscribed to, sorted.
func topicsOf(subscribers []subscriber) []string {
	seen := map[string]bool{}
	for _, s := range subscribers {
		for t := range s.topics {
			seen[t] = true
		}
	}
	topics := make([]string, 0, len(seen))
	for t := range seen {
		topics = append(topics, t)
	}
	slices.Sort(topics)
	return topics
}

// assignment maps member ids to partitions; every member has an entry.
type assignment map[string][]group.TopicPartition

// assignRange is Kafka's RangeAssignor.
func assignRange(subscribers []subscriber, counts map[string]int) assignment {
	result := make(assignment, len(subscribers))
	for _, s := range subscribers {
		result[s.id] = nil
	}
	for _, t := range topicsOf(subscribers) {
		var readers []string
		for _, s := range subscribers {
			if s.topics[t] {
				readers = append(readers, s.id)
			}
		}
		each, extra, next := counts[t]/len(readers), counts[t]%len(readers), 0
		for i, id := range readers {
			n := each
			if i < extra {
				n++
			}
			for range n {
				result[id] = append(result[id], group.TopicPartition{Topic: t, Partition: int32(next)})
				next++
			}
		}
	}
	return result
}

// assignCooperative balances with as few moves as possible. A partition that
// moves is given to nobody while its owner still has it; the owner joins again once
// it has let go, and then the new one gets it.
func assignCooperative(subscribers []subscriber, counts map[string]int) assignment {
	b := balance{subscribers: subscribers, result: make(assignment, len(subscribers)), topics: map[string]map[string]bool{}}
	for _, s := range subscribers {
		b.result[s.id] = nil
		b.topics[s.id] = s.topics
	}
	owners := ownersOf(subscribers, counts)
	for _, t := range topicsOf(subscribers) {
		for p := range counts[t] {
			tp := group.TopicPartition{Topic: t, Partition: int32(p)}
			if owner, ok := owners[tp]; ok && b.topics[owner][t] {
				b.result[owner] = append(b.result[owner], tp)
			} else {
				b.unassigned = append(b.unassigned, tp)
			}
		}
	}
	for _, tp := range b.unassigned {
		if id, ok := b.least(tp.Topic); ok {
			b.result[id] = append(b.result[id], tp)
		}
	}
	b.level()
	for id, partitions := range b.result {
		b.result[id] = slices.DeleteFunc(partitions, func(tp group.TopicPartition) bool {
			owner, ok := owners[tp]
			return ok && owner != id
		})
	}
	return b.result
}

// ownersOf tells who has which partition. Of two that claim the same one, the
// claim from the later generation counts; of equal claims neither does.
func ownersOf(subscribers []subscriber, counts map[string]int) map[group.TopicPartition]string {
	owners := map[group.TopicPartition]string{}
	claims := map[group.TopicPartition]int32{}
	for _, s := range subscribers {
		for _, tp := range s.owned {
			if int(tp.Partition) >= counts[tp.Topic] || tp.Partition < 0 {
				continue
			}
			claim, claimed := claims[tp]
			switch {
			case !claimed || s.generation > claim:
				owners[tp], claims[tp] = s.id, s.generation
			case s.generation == claim:
				delete(owners, tp)
			}
		}
	}
	return owners
}

// balance is an assignment on its way.
type balance struct {
	subscribers []subscriber
	topics      map[string]map[string]bool // by member id
	result      assignment
	unassigned  []group.TopicPartition
}

// least returns the reader of a topic with the fewest partitions.
func (b *balance) least(topic string) (id string, ok bool) {
	for _, s := range b.subscribers {
		if s.topics[topic] && (!ok || len(b.result[s.id]) < len(b.result[id])) {
			id, ok = s.id, true
		}
	}
	return id, ok
}

// level moves partitions from who has most to who has least until no move helps.
func (b *balance) level() {
	for moved := true; moved; {
		moved = false
		for _, from := range b.subscribers {
			for i := len(b.result[from.id]) - 1; i >= 0; i-- {
				tp := b.result[from.id][i]
				to, ok := b.least(tp.Topic)
				if !ok || len(b.result[from.id])-len(b.result[to]) < 2 {
					continue
				}
				b.result[from.id] = slices.Delete(b.result[from.id], i, i+1)
				b.result[to] = append(b.result[to], tp)
				moved = true
			}
		}
	}
}
