package enginetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millstream-io/millstream/runtime/engine"
)

// memberTests are about who owns which partition.
func memberTests() []test {
	return []test{
		{name: "member/gets all partitions", run: allPartitions},
		{name: "member/several inputs", run: severalInputs},
		{name: "member/second one takes half", run: secondTakesHalf},
		{name: "member/leaves", run: memberLeaves},
		{name: "member/goes on where the other stopped", run: goesOn},
		{name: "member/all leave at once", run: allLeaveAtOnce},
		{name: "member/work during rebalances", run: workDuringRebalances},
		{name: "member/late closer is fenced", run: lateCloserIsFenced},
		{name: "member/calls after leave", run: callsAfterLeave},
		{name: "member/input grows", run: inputGrows},
		{name: "member/input comes later", run: inputComesLater},
	}
}

func partitionsOf(sessions []engine.Session) []string {
	var names []string
	for _, s := range sessions {
		names = append(names, fmt.Sprint(s.Partition().Topic, "-", s.Partition().Partition))
	}
	slices.Sort(names)
	return names
}

func allPartitions(e *env) {
	e.topic("in", 3)
	m := e.join(e.group())
	e.wantValues(partitionsOf(e.sessions(m, 3)), "in-0", "in-1", "in-2")
}

func severalInputs(e *env) {
	e.topic("in", 2)
	e.topic("more", 1)
	g := e.group()
	g.Inputs = []string{"more", "in"}
	for _, s := range e.sessions(e.join(g), 3) {
		if g.Inputs[s.Input()] != s.Partition().Topic {
			e.Errorf("%v says it is input %d", s.Partition(), s.Input())
		}
	}
}

// keepClosing serves a member as a worker does: sessions whose partition is
// being taken away are closed. It returns what is owned once that are n.
func (e *env) keepClosing(m engine.Member, n int) []engine.Session {
	e.Helper()
	seen := map[engine.Session]bool{}
	for {
		owned, err := m.Next(e.ctx)
		e.must(err)
		for _, s := range owned {
			if !seen[s] {
				seen[s] = true
				go func() {
					select {
					case <-s.Done():
						_ = s.Close(e.ctx)
					case <-e.ctx.Done():
					}
				}()
			}
		}
		if len(owned) == n {
			return owned
		}
	}
}

func secondTakesHalf(e *env) {
	e.topic("in", 4)
	first := e.join(e.group())
	before := e.keepClosing(first, 4)
	second := background(func() ([]engine.Session, error) { return e.keepClosing(e.join(e.group()), 2), nil })
	left := e.keepClosing(first, 2)
	for _, s := range left {
		if !slices.Contains(before, s) {
			e.Errorf("the session of %v, which was kept, is another one", s.Partition())
		}
	}
	gone := 0
	for _, s := range before {
		if slices.Contains(left, s) {
			continue
		}
		gone++
		<-s.Done()
		if err := s.Begin(e.outputs); err == nil {
			e.Errorf("the session of %v was taken away and still begins batches", s.Partition())
		}
	}
	taken, _ := second()
	all := partitionsOf(append(slices.Clone(left), taken...))
	e.wantValues(all, "in-0", "in-1", "in-2", "in-3")
	if gone != 2 {
		e.Errorf("%d sessions are gone, want 2", gone)
	}
}

func memberLeaves(e *env) {
	e.topic("in", 2)
	first, second := e.join(e.group()), e.join(e.group())
	wait := background(func() ([]engine.Session, error) { return e.keepClosing(second, 1), nil })
	e.keepClosing(first, 1)
	_, _ = wait()
	e.must(first.Leave(e.ctx))
	e.wantValues(partitionsOf(e.sessions(second, 2)), "in-0", "in-1")
}

// goesOn: the owner commits after it was asked to let go, and the next owner begins there.
func goesOn(e *env) {
	e.topic("in", 1)
	e.topic("out", 1)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 10))
	first := e.join(e.group())
	s := e.sessions(first, 1)[0]
	e.pollValues(s, 10)
	leave := background(func() (struct{}, error) {
		<-s.Done()
		return struct{}{}, s.Close(e.ctx)
	})
	e.copyBatch(s, 7, output(0, "by the first"))
	e.must(first.Leave(e.ctx))
	_, err := leave()
	e.must(err)
	next, _ := e.session(e.group())
	e.wantValues(e.pollValues(next, 3), "v-7", "v-8", "v-9")
}

// allLeaveAtOnce: the rebalance that the first to leave begins must not cost the others their last commits.
func allLeaveAtOnce(e *env) {
	e.topic("in", 3)
	members := []engine.Member{e.join(e.group()), e.join(e.group()), e.join(e.group())}
	var settled sync.WaitGroup
	var mu sync.Mutex
	var sessions []engine.Session
	for _, m := range members {
		settled.Go(func() {
			s := e.keepClosing(m, 1)
			mu.Lock()
			defer mu.Unlock()
			sessions = append(sessions, s...)
		})
	}
	settled.Wait()
	for _, s := range sessions {
		if err := s.Commit(e.ctx, 5); err != nil && !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrClosed) {
			e.Error(err)
		}
	}
	var leaving sync.WaitGroup
	for _, m := range members {
		leaving.Go(func() {
			if err := m.Leave(e.ctx); err != nil {
				e.Error(err)
			}
		})
	}
	leaving.Wait()
	for p := range int32(3) {
		if got := e.committed(p); got != 5 && len(sessions) == 3 {
			e.Errorf("partition %d is committed at %d, want 5", p, got)
		}
	}
}

// workDuringRebalances: members come and go while records are copied; none is lost, and order is kept. Exactly once, none comes twice.
func workDuringRebalances(e *env) {
	const partitions, each = 4, 60
	e.topic("in", partitions)
	e.topic("out", partitions)
	for p := range int32(partitions) {
		for i := 0; i < each; i += 5 {
			e.Produce(e, "in", p, "none", numbered(fmt.Sprint("p", p), i, 5))
		}
	}
	var working sync.WaitGroup
	work := func(s engine.Session) {
		defer s.Close(e.ctx)
		for {
			f, err := s.Poll(e.ctx, 200)
			if err != nil {
				return
			}
			select {
			case <-s.Done():
				return
			default:
			}
			for i := range f.Len() {
				if s.Begin(e.outputs) != nil ||
					s.Produce(e.ctx, outputs(output(0, string(f.Record(i).Value)))) != nil ||
					s.Commit(e.ctx, f.NextOffset(i)) != nil {
					return
				}
			}
		}
	}
	serve := func(m engine.Member) {
		seen := map[engine.Session]bool{}
		for {
			owned, err := m.Next(e.ctx)
			if err != nil {
				return
			}
			for _, s := range owned {
				if !seen[s] {
					seen[s] = true
					working.Go(func() { work(s) })
				}
			}
		}
	}
	var members []engine.Member
	for range 3 {
		m := e.join(e.group())
		members = append(members, m)
		working.Go(func() { serve(m) })
	}
	e.must(members[0].Leave(e.ctx))
	e.waitForCommitted(partitions, each)
	for _, m := range members[1:] {
		e.must(m.Leave(e.ctx))
	}
	working.Wait()
	for p := range int32(partitions) {
		got := e.values("out", p)
		if e.Delivery == engine.AtLeastOnce {
			got = slices.Compact(got)
		}
		e.wantValues(got, valuesOf(fmt.Sprint("p", p), 0, each)...)
	}
}

// waitForCommitted waits until each partition of "in" is committed up to want.
func (e *env) waitForCommitted(partitions int, want int64) {
	e.Helper()
	for {
		done := 0
		for p := range int32(partitions) {
			if e.committed(p) == want {
				done++
			}
		}
		if done == partitions {
			return
		}
		select {
		case <-e.ctx.Done():
			e.Fatal("not everything was committed in time")
		case <-tick():
		}
	}
}

func lateCloserIsFenced(e *env) {
	if e.RebalanceTimeout == 0 {
		e.Skip("the subject names no rebalance timeout")
	}
	e.topic("in", 2)
	e.topic("out", 1)
	first := e.join(e.group())
	before := e.sessions(first, 2)
	second := e.join(e.group())
	taken := e.keepClosing(second, 1)[0] // nobody closes the first member's session
	var late engine.Session
	for _, s := range before {
		if s.Partition() == taken.Partition() {
			late = s
		}
	}
	if late == nil {
		e.Fatalf("%v belonged to nobody", taken.Partition())
	}
	<-late.Done()
	for name, err := range map[string]error{"Begin": late.Begin(e.outputs), "Commit": late.Commit(e.ctx, 1), "Abort": late.Abort(e.ctx)} {
		if !errors.Is(err, engine.ErrFenced) {
			e.Errorf("%s of a session that belongs to another member: %v", name, err)
		}
	}
	if _, err := late.Poll(e.ctx, pollBytes); !errors.Is(err, engine.ErrFenced) {
		e.Errorf("Poll: %v", err)
	}
	e.must(late.Close(e.ctx))
}

func callsAfterLeave(e *env) {
	e.topic("in", 1)
	s, m := e.session(e.group())
	next := background(func() ([]engine.Session, error) { return m.Next(e.ctx) })
	e.must(m.Leave(e.ctx))
	if _, err := next(); !errors.Is(err, engine.ErrClosed) {
		e.Errorf("Next during Leave: %v", err)
	}
	if _, err := m.Next(e.ctx); !errors.Is(err, engine.ErrClosed) {
		e.Errorf("Next after Leave: %v", err)
	}
	if err := s.Begin(e.outputs); err == nil {
		e.Error("a session outlived its member")
	}
	e.must(m.Leave(e.ctx))
}

func inputGrows(e *env) {
	e.topic("in", 1)
	m := e.join(e.group())
	before := e.sessions(m, 1)[0]
	e.Grow(e, "in", 3)
	after := e.sessions(m, 3)
	if !slices.Contains(after, before) {
		e.Error("the session of the old partition is another one")
	}
}

func inputComesLater(e *env) {
	m := e.join(e.group())
	e.sessions(m, 0)
	e.topic("in", 2)
	e.sessions(m, 2)
}
