package enginetest

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// startsAreKept: a group begins where its start was when somebody looked, whatever came between; partitions that came
// since are read from their beginning.
func startsAreKept(e *env) {
	e.topic("in", 2)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 3))
	latest := engine.Start{Kind: engine.StartLatest}
	starts, err := e.Engine.Starts(e.ctx, []string{"in", "nothing"}, latest)
	e.must(err)
	if len(starts) != 1 || !slices.Equal(starts["in"].Offsets, []int64{3, 0}) {
		e.Fatalf("the starts are %v", starts)
	}
	e.Produce(e, "in", 0, "none", numbered("v", 3, 2))
	e.Produce(e, "in", 1, "none", numbered("w", 0, 1))
	e.Grow(e, "in", 3)
	e.Produce(e, "in", 2, "none", numbered("grown", 0, 1))
	g := e.group()
	g.Start, g.Starts = latest, starts
	sessions := e.sessions(e.join(g), 3)
	e.wantValues(e.pollValues(sessions[0], 2), "v-3", "v-4")
	e.wantValues(e.pollValues(sessions[1], 1), "w-0")
	e.wantValues(e.pollValues(sessions[2], 1), "grown-0")
}

// startsOfARemadeTopic: what was found of another topic of the name says nothing about this one. All of it is new, unless
// the start is a time, which is looked for again.
func startsOfARemadeTopic(e *env) {
	e.topic("out", 1)
	for name, c := range map[string]struct {
		start engine.Start
		first string
	}{
		"latest":   {engine.Start{Kind: engine.StartLatest}, "new-0"},
		"offset":   {engine.Start{Kind: engine.StartOffset, Offset: 2}, "new-0"},
		"earliest": {engine.Start{Kind: engine.StartEarliest}, "new-0"},
		"time":     {engine.Start{Kind: engine.StartTimestamp, Timestamp: time.UnixMilli(1001)}, "new-1"},
	} {
		g := e.group()
		g.Name, g.Inputs, g.Start = "g-"+name, []string{"in-" + name}, c.start
		e.topic(g.Inputs[0], 1)
		e.Produce(e, g.Inputs[0], 0, "none", numbered("old", 0, 3))
		var err error
		g.Starts, err = e.Engine.Starts(e.ctx, g.Inputs, g.Start)
		e.must(err)
		e.Remake(e, g.Inputs[0], 1)
		e.Produce(e, g.Inputs[0], 0, "none", numbered("new", 0, 5))
		told := make(chan engine.TopicPartition, 1)
		g.Remade = func(tp engine.TopicPartition) { told <- tp }
		s, m := e.session(g)
		if tp := <-told; tp != s.Partition() {
			e.Errorf("%s: %v is said to be made anew", name, tp)
		}
		if got := string(e.poll(s).Record(0).Value); got != c.first {
			e.Errorf("%s: the first record is %s, want %s", name, got, c.first)
		}
		e.must(m.Leave(e.ctx))
	}
}
