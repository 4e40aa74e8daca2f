package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millstream-io/millstream/broker/topic"
)

// id is the id of the n-th topic of a test.
func id(n int) topic.ID { return topic.ID{0: byte(n)} }

// groupOf makes the basis of members that read the topics listed for each.
func groupOf(sizes []int32, reads ...[]int) *basis {
	b := &basis{sizes: map[topic.ID]int32{}}
	for i, topics := range reads {
		s := subscriber{id: fmt.Sprintf("m%02d", i)}
		for _, n := range topics {
			s.topics = append(s.topics, id(n))
			b.sizes[id(n)] = sizes[n]
		}
		b.members = append(b.members, s)
	}
	return b
}

// settleOn makes an assignment what the members have, and returns how many partitions changed hands.
func (b *basis) settleOn(targets map[string]Partitions) (moved int) {
	for i := range b.members {
		m := &b.members[i]
		target := targets[m.id]
		m.target.overlaps(func(t topic.ID, p int32) bool {
			if !target.contains(t, p) {
				moved++
			}
			return false
		})
		m.target = target
	}
	return moved
}

// checkAssignment checks what holds for all assignors: each partition that is read
// has exactly one owner, who reads it; nothing else is assigned.
func checkAssignment(t *testing.T, b *basis, targets map[string]Partitions) {
	t.Helper()
	owners := map[heldPartition]string{}
	for i := range b.members {
		m := &b.members[i]
		targets[m.id].overlaps(func(topic topic.ID, p int32) bool {
			switch other, taken := owners[heldPartition{topic, p}]; {
			case taken:
				t.Fatalf("%x-%d belongs to %s and %s", topic[:1], p, other, m.id)
			case !slices.Contains(m.topics, topic):
				t.Fatalf("%s has %x-%d and does not read it", m.id, topic[:1], p)
			case p < 0 || p >= b.sizes[topic]:
				t.Fatalf("%s has %x-%d, which does not exist", m.id, topic[:1], p)
			}
			owners[heldPartition{topic, p}] = m.id
			return false
		})
	}
	total := 0
	for _, n := range b.sizes {
		total += int(n)
	}
	if len(owners) != total {
		t.Fatalf("%d of %d partitions are assigned", len(owners), total)
	}
}

// checkLevel checks that nobody could give a partition to a member with two less.
func checkLevel(t *testing.T, b *basis, targets map[string]Partitions) {
	t.Helper()
	for i := range b.members {
		for j := range b.members {
			from, to := &b.members[i], &b.members[j]
			if targets[from.id].count()-targets[to.id].count() < 2 {
				continue
			}
			for topic := range targets[from.id] {
				if slices.Contains(to.topics, topic) {
					t.Fatalf("%s has %d partitions and %s %d, which reads topic %x too", from.id, targets[from.id].count(), to.id, targets[to.id].count(), topic[:1])
				}
			}
		}
	}
}

func TestUniform(t *testing.T) {
	all := func(n int) (reads [][]int) {
		for range n {
			reads = append(reads, []int{0, 1})
		}
		return reads
	}
	tests := []struct {
		name  string
		sizes []int32
		reads [][]int
		loads []int
	}{
		{"nobody", nil, nil, nil},
		{"nothing to read", []int32{0}, [][]int{{}, {}}, []int{0, 0}},
		{"one", []int32{3, 4}, all(1), []int{7}},
		{"even", []int32{3, 3}, all(3), []int{2, 2, 2}},
		{"rest", []int32{3, 4}, all(3), []int{2, 2, 3}},
		{"more members than partitions", []int32{1, 1}, all(4), []int{0, 0, 1, 1}},
		{"one reads more", []int32{4, 4}, [][]int{{0}, {0, 1}}, []int{4, 4}},
		{"who has to take all", []int32{1, 9}, [][]int{{0}, {0, 1}}, []int{1, 9}},
		{"a chain of readers", []int32{6, 1, 0}, [][]int{{0}, {0, 1}, {1, 2}}, []int{1, 3, 3}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := groupOf(test.sizes, test.reads...)
			targets := assignUniform(b)
			checkAssignment(t, b, targets)
			var loads []int
			for _, p := range targets {
				loads = append(loads, p.count())
			}
			slices.Sort(loads)
			if !slices.Equal(loads, test.loads) {
				t.Errorf("loads are %v, want %v", loads, test.loads)
			}
		})
	}
}

// A partition that only an overloaded chain of members could pass on does get passed on.
func TestUniformPassesAlongChains(t *testing.T) {
	b := groupOf([]int32{4, 3, 1}, []int{0}, []int{0, 1}, []int{1, 2})
	b.members[0].target = Partitions{id(0): {0, 1, 2, 3}}
	b.members[1].target = Partitions{id(1): {0, 1, 2}}
	b.members[2].target = Partitions{id(2): {0}}
	targets := assignUniform(b)
	checkAssignment(t, b, targets)
	for _, m := range []string{"m00", "m01", "m02"} {
		if n := targets[m].count(); n < 2 || n > 3 {
			t.Errorf("%s has %d of 8 partitions", m, n)
		}
	}
}

// TestUniformAtRandom: whatever the group goes through, its assignment is complete and
// level, does not change when nothing changes, and with equal subscriptions moves as little as can be.
func TestUniformAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		alike := seed%2 == 0
		sizes := make([]int32, 1+r.IntN(5))
		for i := range sizes {
			sizes[i] = int32(r.IntN(12))
		}
		members := map[string]Partitions{}
		for range 12 {
			switch name := fmt.Sprintf("m%02d", r.IntN(8)); r.IntN(3) {
			case 0:
				delete(members, name)
			default:
				if members[name] == nil {
					members[name] = Partitions{}
				}
			}
			if r.IntN(4) == 0 {
				sizes[r.IntN(len(sizes))] = int32(r.IntN(12))
			}
			b := &basis{sizes: map[topic.ID]int32{}}
			for _, name := range slices.Sorted(maps.Keys(members)) {
				s := subscriber{id: name, target: members[name]}
				for n := range sizes {
					if alike || r.IntN(2) == 0 {
						s.topics = append(s.topics, id(n))
						b.sizes[id(n)] = sizes[n]
					}
				}
				b.members = append(b.members, s)
			}
			most := b.mustMove()
			targets := assignUniform(b)
			checkAssignment(t, b, targets)
			checkLevel(t, b, targets)
			moved := b.settleOn(targets)
			if alike && moved != most {
				t.Fatalf("seed %d: %d partitions moved, %d would do", seed, moved, most)
			}
			if again := b.settleOn(assignUniform(b)); again != 0 {
				t.Fatalf("seed %d: %d partitions moved without a reason", seed, again)
			}
			members = targets
		}
	}
}

// mustMove is how many partitions of members that all read the same cannot stay where they are.
func (b *basis) mustMove() (n int) {
	if len(b.members) == 0 {
		return 0
	}
	total := 0
	for _, size := range b.sizes {
		total += int(size)
	}
	share, extra := total/len(b.members), total%len(b.members)
	for i := range b.members {
		m := &b.members[i]
		stay, gone := m.target.split(func(t topic.ID, p int32) bool { return p < b.sizes[t] })
		n += gone.count()
		switch over := stay.count() - share; {
		case over > 0 && extra > 0:
			extra--
			n += over - 1
		case over > 0:
			n += over
		}
	}
	return n
}

func TestRange(t *testing.T) {
	b := groupOf([]int32{7, 7, 2}, []int{0, 1, 2}, []int{0, 1, 2}, []int{0, 1}, []int{})
	b.members[2].instanceID = "i" // static members come first
	targets := assignRange(b)
	checkAssignment(t, b, targets)
	want := map[string]Partitions{
		"m02": {id(0): {0, 1, 2}, id(1): {0, 1, 2}},
		"m00": {id(0): {3, 4}, id(1): {3, 4}, id(2): {0}},
		"m01": {id(0): {5, 6}, id(1): {5, 6}, id(2): {1}},
		"m03": {},
	}
	for name := range want {
		if !targets[name].equal(want[name]) {
			t.Errorf("%s has %v, want %v", name, targets[name], want[name])
		}
	}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		var reads [][]int
		for range r.IntN(9) {
			var topics []int
			for n := range 4 {
				if r.IntN(2) == 0 {
					topics = append(topics, n)
				}
			}
			reads = append(reads, topics)
		}
		b := groupOf([]int32{int32(r.IntN(20)), 1, 5, 16}, reads...)
		checkAssignment(t, b, assignRange(b))
	}
}

func BenchmarkUniform(b *testing.B) {
	for _, alike := range []bool{true, false} {
		b.Run(map[bool]string{true: "alike", false: "mixed"}[alike], func(b *testing.B) {
			sizes := make([]int32, 100)
			var topics []int
			for i := range sizes {
				sizes[i] = 100
				topics = append(topics, i)
			}
			reads := make([][]int, 500)
			for i := range reads {
				reads[i] = topics
				if !alike {
					reads[i] = topics[i%2*50 : 50+i%2*50]
				}
			}
			g := groupOf(sizes, reads...)
			g.settleOn(assignUniform(g))
			g.members = g.members[1:] // one is lost
			b.ResetTimer()
			for b.Loop() {
				assignUniform(g)
			}
		})
	}
}
