package group

import (
	"cmp"
	"slices"

	"github.com/millstream-io/millstream/broker/topic"
)

// assignor makes a target assignment: every partition that somebody reads
// goes to exactly one member that reads it.
type assignor func(b *basis) map[string]Partitions

// assignorOf returns the server-side assignor of a name, nil if there is none.
func assignorOf(name string) assignor {
	switch name {
	case AssignorUniform:
		return assignUniform
	case AssignorRange:
		return assignRange
	}
	return nil
}

// assignRange gives each member a run of neighbouring partitions of every
// topic it reads; equal partitions of equally read topics go to the same member.
// Static members come first, by instance id, so that the runs do not move when they come back.
func assignRange(b *basis) map[string]Partitions {
	members := slices.Clone(b.members)
	slices.SortFunc(members, func(x, y subscriber) int {
		if (x.instanceID == "") != (y.instanceID == "") {
			return cmp.Compare(y.instanceID, x.instanceID) // a dynamic one behind a static one
		}
		return cmp.Or(cmp.Compare(x.instanceID, y.instanceID), cmp.Compare(x.id, y.id))
	})
	targets := make(map[string]Partitions, len(members))
	readers := map[topic.ID][]string{}
	for _, m := range members {
		targets[m.id] = Partitions{}
		for _, t := range m.topics {
			readers[t] = append(readers[t], m.id)
		}
	}
	for t, ids := range readers {
		at, each, extra := int32(0), b.sizes[t]/int32(len(ids)), int(b.sizes[t])%len(ids)
		for i, id := range ids {
			end := at + each
			if i < extra {
				end++
			}
			for ; at < end; at++ {
				targets[id][t] = append(targets[id][t], at)
			}
		}
	}
	return targets
}

// assignUniform spreads the partitions evenly, and moves no more of them than
// that takes. With equal subscriptions no member has two more than another; else nobody
// could be given one more at the cost of somebody who has at least two more.
func assignUniform(b *basis) map[string]Partitions {
	d := newDeal(b)
	d.keep(b)
	if d.alike(b) {
		d.shed()
	}
	d.handOut()
	d.level()
	return d.targets(b)
}

// deal is a target assignment in the making. Members and topics go by their index.
type deal struct {
	topics  []topic.ID
	sizes   []int32
	owners  [][]int32 // topic → partition → member, -1 = none
	readers [][]int32 // topic → members that read it
	reads   [][]int32 // member → topics
	has     []map[int32][]int32
	load    []int
}

func newDeal(b *basis) *deal {
	d := &deal{has: make([]map[int32][]int32, len(b.members)), load: make([]int, len(b.members)), reads: make([][]int32, len(b.members))}
	index := map[topic.ID]int32{}
	for i := range b.members {
		d.has[i] = map[int32][]int32{}
		for _, id := range b.members[i].topics {
			t, ok := index[id]
			if !ok {
				t = int32(len(d.topics))
				index[id] = t
				d.topics = append(d.topics, id)
				d.sizes = append(d.sizes, b.sizes[id])
				d.readers = append(d.readers, nil)
				owners := make([]int32, b.sizes[id])
				for p := range owners {
					owners[p] = -1
				}
				d.owners = append(d.owners, owners)
			}
			d.readers[t] = append(d.readers[t], int32(i))
			d.reads[i] = append(d.reads[i], t)
		}
	}
	return d
}

func (d *deal) give(m, t, p int32) {
	d.owners[t][p] = m
	d.has[m][t] = append(d.has[m][t], p)
	d.load[m]++
}

// take takes the partition of a topic away that a member was given last.
func (d *deal) take(m, t int32) (p int32) {
	list := d.has[m][t]
	p = list[len(list)-1]
	d.has[m][t] = list[:len(list)-1]
	d.owners[t][p] = -1
	d.load[m]--
	return p
}

// keep lets members have what they were to have so far, if it exists and they still read it.
func (d *deal) keep(b *basis) {
	for m := range b.members {
		for _, t := range d.reads[m] {
			for _, p := range b.members[m].target[d.topics[t]] {
				if p < d.sizes[t] && d.owners[t][p] < 0 {
					d.give(int32(m), t, p)
				}
			}
		}
	}
}

// alike reports whether all members read the same topics.
func (d *deal) alike(b *basis) bool {
	for i := range b.members {
		if !slices.Equal(b.members[i].topics, b.members[0].topics) {
			return false
		}
	}
	return true
}

// shed takes from members that read the same what they have above an even share.
func (d *deal) shed() {
	total := 0
	for _, n := range d.sizes {
		total += int(n)
	}
	if len(d.load) == 0 {
		return
	}
	share, extra := total/len(d.load), total%len(d.load)
	for m := range d.load {
		quota := share
		if d.load[m] > share && extra > 0 {
			quota++
			extra--
		}
		for d.load[m] > quota {
			d.take(int32(m), d.fullest(int32(m)))
		}
	}
}

// fullest is the topic of which a member has most.
func (d *deal) fullest(m int32) int32 {
	best := int32(-1)
	for _, t := range d.reads[m] {
		if best < 0 || len(d.has[m][t]) > len(d.has[m][best]) {
			best = t
		}
	}
	return best
}

// handOut gives every partition without owner to the reader that has least; topics with few readers come first.
func (d *deal) handOut() {
	order := make([]int32, len(d.topics))
	for t := range order {
		order[t] = int32(t)
	}
	slices.SortStableFunc(order, func(x, y int32) int { return cmp.Compare(len(d.readers[x]), len(d.readers[y])) })
	for _, t := range order {
		for p, owner := range d.owners[t] {
			if owner >= 0 {
				continue
			}
			least := d.readers[t][0]
			for _, m := range d.readers[t] {
				if d.load[m] < d.load[least] {
					least = m
				}
			}
			d.give(least, t, int32(p))
		}
	}
}

// level moves partitions from members to others that have at least two less,
// also by way of third ones, until there are none.
func (d *deal) level() {
	for moved := true; moved; {
		moved = false
		for m := range d.load {
			for d.relieve(int32(m)) {
				moved = true
			}
		}
	}
}

// hop says from whom a member could get a partition, and of which topic.
type hop struct{ from, topic int32 }

// relieve takes one partition off a member if there is a chain of readers
// along which one can be passed on to a member that has at least two less.
func (d *deal) relieve(from int32) bool {
	if d.load[from]-slices.Min(d.load) < 2 {
		return false
	}
	reached := map[int32]hop{from: {from: -1}}
	passed := make([]bool, len(d.topics))
	for queue := []int32{from}; len(queue) > 0; queue = queue[1:] {
		m := queue[0]
		for _, t := range d.reads[m] {
			if passed[t] || len(d.has[m][t]) == 0 {
				continue
			}
			passed[t] = true
			for _, next := range d.readers[t] {
				if _, seen := reached[next]; seen {
					continue
				}
				reached[next] = hop{from: m, topic: t}
				if d.load[next] <= d.load[from]-2 {
					d.pass(reached, next)
					return true
				}
				queue = append(queue, next)
			}
		}
	}
	return false
}

// pass moves one partition along each hop that leads to the last member.
func (d *deal) pass(reached map[int32]hop, last int32) {
	for h := reached[last]; h.from >= 0; h = reached[last] {
		d.give(last, h.topic, d.take(h.from, h.topic))
		last = h.from
	}
}

func (d *deal) targets(b *basis) map[string]Partitions {
	targets := make(map[string]Partitions, len(b.members))
	for m := range b.members {
		lists := make(map[topic.ID][]int32, len(d.has[m]))
		for t, list := range d.has[m] {
			lists[d.topics[t]] = list
		}
		targets[b.members[m].id] = PartitionsOf(lists)
	}
	return targets
}
