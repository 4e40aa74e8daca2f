package enginetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// positionTests are about where a session begins and goes on.
func positionTests() []test {
	return []test{
		{name: "start/positions", run: startPositions},
		{name: "start/latest is settled once", run: latestIsSettled},
		{name: "start/new partitions from their beginning", run: grownIsReadFromItsBeginning},
		{name: "start/as it was found before", run: startsAreKept},
		{name: "start/in a topic made anew since it was found", run: startsOfARemadeTopic},
		{name: "start/committed offset wins", run: committedWins},
		{name: "position/commit and come back", run: commitAndComeBack},
		{name: "position/abort goes back", run: abortGoesBack},
		{name: "position/abort without a batch", run: abortWithoutBatch},
		{name: "position/seek", run: seek},
		{name: "position/commit without outputs", run: commitWithoutOutputs},
		{name: "position/group is forgotten", run: forgetGroup},
	}
}

func startPositions(e *env) {
	at := func(ms int64) engine.Start {
		return engine.Start{Kind: engine.StartTimestamp, Timestamp: time.UnixMilli(ms)}
	}
	offset := func(o int64) engine.Start { return engine.Start{Kind: engine.StartOffset, Offset: o} }
	tests := []struct {
		name  string
		start engine.Start
		want  string // the first value that is read; "new" is written after the session began
	}{
		{"earliest", engine.Start{Kind: engine.StartEarliest}, "v-0"},
		{"latest", engine.Start{Kind: engine.StartLatest}, "new-0"},
		{"offset", offset(4), "v-4"},
		{"offset at the end", offset(10), "new-0"},
		{"offset beyond the end", offset(99), "new-0"},
		{"negative offset", offset(-5), "v-0"},
		{"timestamp of a record", at(1003), "v-3"},
		{"timestamp before all", at(1), "v-0"},
		{"timestamp after all", at(99999), "new-0"},
	}
	e.topic("out", 1)
	for i, test := range tests {
		topic := "in" + string(rune('a'+i))
		e.topic(topic, 1)
		e.Produce(e, topic, 0, "none", numbered("v", 0, 5))
		e.Produce(e, topic, 0, "none", numbered("v", 5, 5))
		g := e.group()
		g.Name, g.Inputs, g.Start = topic, []string{topic}, test.start
		s, m := e.session(g)
		e.Produce(e, topic, 0, "none", numbered("new", 0, 1))
		if got := string(e.poll(s).Record(0).Value); got != test.want {
			e.Errorf("%s: the first record is %s, want %s", test.name, got, test.want)
		}
		e.must(m.Leave(e.ctx))
	}
}

// latestIsSettled: what arrives after the group began belongs to it, even if it read nothing before it stopped.
func latestIsSettled(e *env) {
	e.topic("in", 1)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("before", 0, 2))
	g := e.group()
	g.Start = engine.Start{Kind: engine.StartLatest}
	_, m := e.session(g)
	e.must(m.Leave(e.ctx))
	e.Produce(e, "in", 0, "none", numbered("meanwhile", 0, 1))
	s, _ := e.session(g)
	e.wantValues(e.pollValues(s, 1), "meanwhile-0")
}

// grownIsReadFromItsBeginning: "latest" is about the records that were there when the group began, not
// about a partition that came, and got records, while nobody was looking.
func grownIsReadFromItsBeginning(e *env) {
	e.topic("in", 1)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("before", 0, 2))
	for _, start := range []engine.Start{{Kind: engine.StartLatest}, {Kind: engine.StartOffset, Offset: 2}} {
		g := e.group()
		g.Name, g.Start = fmt.Sprintf("g%d", start.Kind), start
		partitions := len(e.records("in"))
		m := e.join(g)
		e.sessions(m, partitions)
		e.must(m.Leave(e.ctx))
		e.Grow(e, "in", partitions+1)
		e.Produce(e, "in", int32(partitions), "none", numbered("meanwhile", 0, 1))
		m = e.join(g)
		e.wantValues(e.pollValues(e.sessions(m, partitions+1)[partitions], 1), "meanwhile-0")
		e.must(m.Leave(e.ctx))
	}
}

func committedWins(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 5))
	e.pollValues(s, 5)
	e.commit(s, 3)
	e.must(s.Close(e.ctx))
	if got := e.committed(0); got != 3 {
		e.Errorf("committed is %d after Close, want 3", got)
	}
}

func commitAndComeBack(e *env) {
	e.topic("in", 1)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 5))
	s, m := e.session(e.group())
	e.pollValues(s, 5)
	e.commit(s, 3)
	e.must(m.Leave(e.ctx))
	s, _ = e.session(e.group())
	e.wantValues(e.pollValues(s, 2), "v-3", "v-4")
}

func abortGoesBack(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 4))
	f := e.poll(s)
	e.copyBatch(s, f.NextOffset(0), output(0, "kept"))
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(output(0, "dropped"))))
	e.must(s.Abort(e.ctx))
	e.wantValues(e.pollValues(s, 3), "v-1", "v-2", "v-3")
	e.wantValues(e.values("out", 0), "kept")
	// The next batch begins clean.
	e.copyBatch(s, 4, output(0, "after"))
	e.wantValues(e.values("out", 0), "kept", "after")
}

func abortWithoutBatch(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 2))
	e.pollValues(s, 2)
	e.must(s.Abort(e.ctx))
	e.wantValues(e.pollValues(s, 2), "v-0", "v-1")
}

func seek(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 6))
	e.pollValues(s, 6)
	s.SeekTo(4) // inside a batch
	e.wantValues(e.pollValues(s, 2), "v-4", "v-5")
	s.SeekTo(1)
	if f := e.poll(s); f.Record(0).Offset != 1 {
		e.Errorf("the first offset is %d, want 1", f.Record(0).Offset)
	}
}

func commitWithoutOutputs(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("v", 0, 2))
	f := e.poll(s)
	e.must(s.Commit(e.ctx, f.NextOffset(f.Len()-1))) // also without Begin
	e.must(s.Close(e.ctx))
	if got := e.committed(0); got != 2 {
		e.Errorf("committed is %d, want 2", got)
	}
	e.wantValues(e.values("out", 0))
}

func forgetGroup(e *env) {
	e.topic("in", 1)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 3))
	s, m := e.session(e.group())
	e.pollValues(s, 3)
	e.commit(s, 3)
	if err := e.Engine.ForgetGroup(e.ctx, "g"); !errors.Is(err, engine.ErrGroupActive) {
		e.Errorf("a group with members is forgotten: %v", err)
	}
	e.must(m.Leave(e.ctx))
	e.must(e.Engine.ForgetGroup(e.ctx, "g"))
	e.must(e.Engine.ForgetGroup(e.ctx, "g")) // it is gone, which is what was asked for
	if got := e.committed(0); got != -1 {
		e.Errorf("committed is %d, want -1", got)
	}
	s, _ = e.session(e.group())
	e.wantValues(e.pollValues(s, 3), "v-0", "v-1", "v-2")
}
