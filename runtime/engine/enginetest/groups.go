package enginetest

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// setOffsets: a group that nobody is in takes them and begins there; one with members keeps its own.
func setOffsets(e *env) {
	e.topic("in", 2)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 5))
	zero := engine.TopicPartition{Topic: "in"}
	e.must(e.Engine.SetOffsets(e.ctx, "g", map[engine.TopicPartition]int64{zero: 3})) // the group does not exist yet
	if at := e.committed(0); at != 3 {
		e.Errorf("committed offset is %d, want 3", at)
	}
	if at := e.committed(1); at != -1 {
		e.Errorf("the other partition has the committed offset %d", at)
	}
	m := e.join(e.group())
	for _, s := range e.sessions(m, 2) {
		if s.Partition() == zero {
			e.wantValues(e.pollValues(s, 2), valuesOf("v", 3, 2)...)
		}
	}
	if err := e.Engine.SetOffsets(e.ctx, "g", map[engine.TopicPartition]int64{zero: 0}); !errors.Is(err, engine.ErrGroupActive) {
		e.Errorf("the group has members: %v", err)
	}
	if at := e.committed(0); at != 3 {
		e.Errorf("committed offset is %d, want the 3 of before", at)
	}
	e.must(m.Leave(e.ctx))
	e.must(e.Engine.SetOffsets(e.ctx, "g", map[engine.TopicPartition]int64{zero: 1}))
	for _, s := range e.sessions(e.join(e.group()), 2) {
		if s.Partition() == zero {
			e.wantValues(e.pollValues(s, 4), valuesOf("v", 1, 4)...)
		}
	}
}

func offsetsAt(e *env) {
	e.topic("in", 2)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 5)) // timestamps 1000 to 1004
	for name, c := range map[string]struct {
		start engine.Start
		want  int64
	}{
		"earliest":               {engine.Start{Kind: engine.StartEarliest}, 0},
		"latest":                 {engine.Start{Kind: engine.StartLatest}, 5},
		"offset":                 {engine.Start{Kind: engine.StartOffset, Offset: 2}, 2},
		"offset behind the end":  {engine.Start{Kind: engine.StartOffset, Offset: 99}, 5},
		"time":                   {engine.Start{Kind: engine.StartTimestamp, Timestamp: time.UnixMilli(1003)}, 3},
		"time after all records": {engine.Start{Kind: engine.StartTimestamp, Timestamp: time.UnixMilli(9999)}, 5},
	} {
		got, err := e.Engine.OffsetsAt(e.ctx, []string{"in", "nothing"}, c.start)
		e.must(err)
		want := map[engine.TopicPartition]int64{{Topic: "in"}: c.want, {Topic: "in", Partition: 1}: 0}
		if !maps.Equal(got, want) {
			e.Errorf("%s: offsets are %v, want %v", name, got, want)
		}
	}
}

func groupMembers(e *env) {
	e.topic("in", 2)
	e.topic("out", 1)
	none, err := e.Engine.Members(e.ctx, "g")
	e.must(err)
	if len(none) != 0 {
		e.Errorf("a group that does not exist has the members %v", none)
	}
	m := e.join(e.group())
	e.sessions(m, 2)
	members, err := e.Engine.Members(e.ctx, "g")
	e.must(err)
	want := []engine.TopicPartition{{Topic: "in"}, {Topic: "in", Partition: 1}}
	if len(members) != 1 || members[0].Client != "test" || !slices.Equal(members[0].Partitions, want) {
		e.Errorf("members are %+v, want one with %v", members, want)
	}
	e.must(m.Leave(e.ctx))
	members, err = e.Engine.Members(e.ctx, "g")
	e.must(err)
	if len(members) != 0 {
		e.Errorf("members are %v after they left", members)
	}
}
