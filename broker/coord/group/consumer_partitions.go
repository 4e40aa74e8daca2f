package group

import (
	"bytes"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/broker/topic"
)

// PartitionsOf brings lists of partitions into the form of Partitions.
func PartitionsOf(lists map[topic.ID][]int32) Partitions {
	p := make(Partitions, len(lists))
	for id, list := range lists {
		if list = slices.Clone(list); len(list) > 0 {
			slices.Sort(list)
			p[id] = slices.Compact(list)
		}
	}
	return p
}

// Topics returns the topics' ids, sorted.
func (p Partitions) Topics() []topic.ID {
	return slices.SortedFunc(maps.Keys(p), compareIDs)
}

func compareIDs(a, b topic.ID) int { return bytes.Compare(a[:], b[:]) }

func (p Partitions) equal(q Partitions) bool {
	return maps.EqualFunc(p, q, slices.Equal)
}

func (p Partitions) clone() Partitions {
	c := make(Partitions, len(p))
	for id, list := range p {
		c[id] = slices.Clone(list)
	}
	return c
}

func (p Partitions) contains(id topic.ID, partition int32) bool {
	_, found := slices.BinarySearch(p[id], partition)
	return found
}

// within reports whether all of p is in q too.
func (p Partitions) within(q Partitions) bool {
	return !p.overlaps(func(id topic.ID, partition int32) bool { return !q.contains(id, partition) })
}

// overlaps reports whether f holds for any of p.
func (p Partitions) overlaps(f func(topic.ID, int32) bool) bool {
	for id, list := range p {
		for _, partition := range list {
			if f(id, partition) {
				return true
			}
		}
	}
	return false
}

// split returns what of p f holds for, and the rest.
func (p Partitions) split(f func(topic.ID, int32) bool) (with, without Partitions) {
	with, without = Partitions{}, Partitions{}
	for id, list := range p {
		for _, partition := range list {
			if f(id, partition) {
				with[id] = append(with[id], partition)
			} else {
				without[id] = append(without[id], partition)
			}
		}
	}
	return with, without
}

// union returns p and q together.
func (p Partitions) union(q Partitions) Partitions {
	u := p.clone()
	for id, list := range q {
		merged := append(u[id], list...)
		slices.Sort(merged)
		u[id] = slices.Compact(merged)
	}
	return u
}

// count is the number of partitions.
func (p Partitions) count() int {
	n := 0
	for _, list := range p {
		n += len(list)
	}
	return n
}
