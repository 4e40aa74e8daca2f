package sim

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// group is a consumer group at its coordinator. Partitions are handed out in turn; one that moves
// stays with its owner until that lets it go, or is silent for too long.
type group struct {
	c          *cluster
	generation int
	joined     int
	order      []string
	members    map[string]*membership
	owners     map[engine.TopicPartition]string
	committed  map[engine.TopicPartition]int64
}

type membership struct{ seen time.Time }

func (g *group) partitions() []engine.TopicPartition {
	all := make([]engine.TopicPartition, len(g.c.topics["in"]))
	for i := range all {
		all[i] = engine.TopicPartition{Topic: "in", Partition: int32(i)}
	}
	return all
}

func (g *group) join(id string) {
	g.members[id] = &membership{seen: time.Now()}
	g.order = append(g.order, id)
	g.generation++
	g.joined++
}

func (g *group) leave(id string) {
	if g.members[id] == nil {
		return
	}
	delete(g.members, id)
	g.order = slices.DeleteFunc(g.order, func(o string) bool { return o == id })
	for tp, owner := range g.owners {
		if owner == id {
			delete(g.owners, tp)
		}
	}
	g.generation++
}

// turn rotates who gets what, as a coordinator may decide at any time.
func (g *group) turn() {
	if len(g.order) > 1 {
		g.order = append(g.order[1:], g.order[0])
		g.generation++
	}
}

// heartbeat takes what a member has let go and tells what it has, and what of that it must let go.
func (g *group) heartbeat(id string, released []engine.TopicPartition) (generation int, has, revoked []engine.TopicPartition, err error) {
	for other, m := range g.members {
		if other != id && time.Since(m.seen) > sessionTimeout {
			g.leave(other)
		}
	}
	m := g.members[id]
	if m == nil {
		return 0, nil, nil, errUnknown
	}
	m.seen = time.Now()
	for _, tp := range released {
		if g.owners[tp] == id {
			delete(g.owners, tp)
			g.generation++
		}
	}
	for i, tp := range g.partitions() {
		target, owner := g.order[i%len(g.order)], g.owners[tp]
		if owner == "" && target == id {
			g.owners[tp] = id
			owner = id
		}
		switch {
		case owner == id && target == id:
			has = append(has, tp)
		case owner == id:
			revoked = append(revoked, tp)
		}
	}
	return g.generation, has, revoked, nil
}

func (g *group) mayCommit(id string, generation int, tp engine.TopicPartition) error {
	switch {
	case g.members[id] == nil || g.owners[tp] != id:
		return errUnknown
	case generation != g.generation:
		return errStale
	}
	return nil
}
