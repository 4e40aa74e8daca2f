package embedded

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/millstream-io/millstream/broker/coord/group"
)

// reader is a subscriber of topics with what it owns, "t-0" style written as pairs.
func reader(id string, generation int32, topics []string, owned ...group.TopicPartition) subscriber {
	s := subscriber{id: id, order: id, topics: map[string]bool{}, owned: owned, generation: generation}
	for _, t := range topics {
		s.topics[t] = true
	}
	return s
}

func tp(topic string, partitions ...int32) []group.TopicPartition {
	var list []group.TopicPartition
	for _, p := range partitions {
		list = append(list, group.TopicPartition{Topic: topic, Partition: p})
	}
	return list
}

func TestAssignRange(t *testing.T) {
	tests := []struct {
		name    string
		readers []subscriber
		counts  map[string]int
		want    assignment
	}{
		{"one", []subscriber{reader("a", 0, []string{"t"})}, map[string]int{"t": 2}, assignment{"a": tp("t", 0, 1)}},
		{"uneven", []subscriber{reader("a", 0, []string{"t"}), reader("b", 0, []string{"t"})}, map[string]int{"t": 3},
			assignment{"a": tp("t", 0, 1), "b": tp("t", 2)}},
		{"each topic by itself", []subscriber{reader("a", 0, []string{"t", "u"}), reader("b", 0, []string{"t", "u"})}, map[string]int{"t": 1, "u": 1},
			assignment{"a": append(tp("t", 0), tp("u", 0)...), "b": nil}},
		{"other subscriptions", []subscriber{reader("a", 0, []string{"t"}), reader("b", 0, []string{"u"})}, map[string]int{"t": 1, "u": 2},
			assignment{"a": tp("t", 0), "b": tp("u", 0, 1)}},
		{"more members than partitions", []subscriber{reader("a", 0, []string{"t"}), reader("b", 0, []string{"t"})}, map[string]int{"t": 1},
			assignment{"a": tp("t", 0), "b": nil}},
		{"missing topic", []subscriber{reader("a", 0, []string{"t"})}, nil, assignment{"a": nil}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := assignRange(test.readers, test.counts); !reflect.DeepEqual(got, test.want) {
				t.Errorf("assigned %v, want %v", got, test.want)
			}
		})
	}
}

func TestAssignCooperative(t *testing.T) {
	topic := []string{"t"}
	tests := []struct {
		name    string
		readers []subscriber
		count   int
		want    assignment
	}{
		{"new group", []subscriber{reader("a", -1, topic), reader("b", -1, topic)}, 4, assignment{"a": tp("t", 0, 2), "b": tp("t", 1, 3)}},
		{"a newcomer waits for what is to be let go", []subscriber{reader("a", 1, topic, tp("t", 0, 1, 2, 3)...), reader("b", -1, topic)}, 4,
			assignment{"a": tp("t", 0, 1), "b": {}}},
		{"and then has it", []subscriber{reader("a", 2, topic, tp("t", 0, 1)...), reader("b", 2, topic)}, 4,
			assignment{"a": tp("t", 0, 1), "b": tp("t", 2, 3)}},
		{"everybody keeps what fits", []subscriber{reader("a", 2, topic, tp("t", 3, 1)...), reader("b", 2, topic, tp("t", 0, 2)...)}, 4,
			assignment{"a": tp("t", 1, 3), "b": tp("t", 0, 2)}},
		{"a later claim counts", []subscriber{reader("a", 1, topic, tp("t", 0)...), reader("b", 2, topic, tp("t", 0)...)}, 1,
			assignment{"a": {}, "b": tp("t", 0)}},
		{"what does not exist is not kept", []subscriber{reader("a", 2, topic, tp("t", 0, 9)...)}, 1, assignment{"a": tp("t", 0)}},
		{"what is no longer read is let go", []subscriber{reader("a", 2, []string{"u"}, tp("t", 0)...), reader("b", 2, topic)}, 1,
			assignment{"a": {}, "b": {}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := assignCooperative(test.readers, map[string]int{"t": test.count})
			for id := range got {
				slices.SortFunc(got[id], byPartition)
			}
			for id := range test.want {
				if len(got[id]) != len(test.want[id]) || len(got[id]) > 0 && !reflect.DeepEqual(got[id], test.want[id]) {
					t.Errorf("%s is assigned %v, want %v", id, got[id], test.want[id])
				}
			}
		})
	}
}

func byPartition(a, b group.TopicPartition) int {
	if a.Topic != b.Topic {
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	}
	return int(a.Partition - b.Partition)
}

// TestCooperativeConverges lets random groups change and rebalance until nobody
// has to let go: partitions then have exactly one reader, loads differ by at most
// one, and on the way no partition is given to one while another has it.
func TestCooperativeConverges(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		counts := map[string]int{"t": 1 + rng.IntN(9), "u": rng.IntN(5)}
		owned := map[string][]group.TopicPartition{}
		generation := int32(0)
		for change := range 6 {
			members := []string{}
			for m := range 1 + rng.IntN(5) {
				members = append(members, fmt.Sprint("m", (m+change*rng.IntN(2))%7))
			}
			slices.Sort(members)
			members = slices.Compact(members)
			for id := range owned {
				if !slices.Contains(members, id) {
					delete(owned, id)
				}
			}
			rounds := converge(t, members, counts, owned, &generation)
			if rounds > 2 {
				t.Errorf("seed %d: %d rebalances for one change", seed, rounds)
			}
			checkBalance(t, members, counts, owned)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func converge(t *testing.T, members []string, counts map[string]int, owned map[string][]group.TopicPartition, generation *int32) (rounds int) {
	t.Helper()
	for {
		rounds++
		var readers []subscriber
		for _, id := range members {
			readers = append(readers, reader(id, *generation, []string{"t", "u"}, owned[id]...))
		}
		result := assignCooperative(readers, counts)
		*generation++
		again := false
		for _, id := range members {
			for _, tp := range result[id] {
				for other, theirs := range owned {
					if other != id && slices.Contains(theirs, tp) {
						t.Errorf("%v was given to %s while %s has it", tp, id, other)
					}
				}
			}
			again = again || slices.ContainsFunc(owned[id], func(tp group.TopicPartition) bool { return !slices.Contains(result[id], tp) })
		}
		for _, id := range members {
			owned[id] = result[id]
		}
		if !again || rounds > 10 {
			return rounds
		}
	}
}

func checkBalance(t *testing.T, members []string, counts map[string]int, owned map[string][]group.TopicPartition) {
	t.Helper()
	readers := map[group.TopicPartition]int{}
	least, most := 1<<30, 0
	for _, id := range members {
		least, most = min(least, len(owned[id])), max(most, len(owned[id]))
		for _, tp := range owned[id] {
			readers[tp]++
		}
	}
	total := 0
	for topic, n := range counts {
		total += n
		for p := range int32(n) {
			if c := readers[group.TopicPartition{Topic: topic, Partition: p}]; c != 1 {
				t.Errorf("%s-%d has %d readers", topic, p, c)
			}
		}
	}
	if len(readers) != total || most-least > 1 {
		t.Errorf("%d partitions of %d are read, loads from %d to %d", len(readers), total, least, most)
	}
}
