package enginetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// fencingTests are about sessions that have lost their partition, or their connection.
func fencingTests() []test {
	return []test{
		{name: "fencing/zombie commits nothing", run: zombieCommitsNothing, exactlyOnce: true},
		{name: "fencing/zombie commits no offset", run: zombieCommitsNoOffset, exactlyOnce: true},
		{name: "fencing/transactional id taken over", run: takenOver, exactlyOnce: true},
		{name: "fencing/cut connections", run: cutConnections, exactlyOnce: true},
	}
}

// zombie makes a session whose member was expelled, after prepare, and waits for the partition's next
// owner, whichever member that is: the two of them have joined again.
func zombie(e *env, prepare func(s engine.Session)) (old, owner engine.Session) {
	e.Helper()
	if e.Another == nil || e.Expel == nil {
		e.Skip("the subject cannot expel members")
	}
	e.topic("in", 1)
	e.topic("out", 2)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 6))
	old, first := e.session(e.group())
	e.pollValues(old, 6)
	prepare(old)
	other := *e
	other.Engine = e.Another(e)
	second := other.join(e.group())
	e.sessions(second, 0)
	e.Expel(e, "g")
	owners := make(chan engine.Session, 100)
	for _, m := range []engine.Member{first, second} {
		go func() {
			last := old
			for {
				owned, err := m.Next(e.ctx)
				if err != nil {
					return
				}
				if len(owned) == 1 && owned[0] != last {
					last = owned[0]
					owners <- last
				}
			}
		}()
	}
	for {
		select {
		case owner = <-owners:
		case <-e.ctx.Done():
			e.Fatal("the partition has no owner")
		}
		if e.bothIn() && !isDone(owner) {
			return old, owner
		}
		// The one that came first may have to hand it on to the other.
		select {
		case <-owner.Done():
			_ = owner.Close(e.ctx)
		case <-e.settled():
			return old, owner
		}
	}
}

// bothIn tells whether the group "g" has two members, of which one has the partition.
func (e *env) bothIn() bool {
	members, err := e.Engine.Members(e.ctx, "g")
	if err != nil {
		return false
	}
	partitions := 0
	for _, m := range members {
		partitions += len(m.Partitions)
	}
	return len(members) == 2 && partitions == 1
}

// settled is closed when both members are in the group and nothing is being dealt out.
func (e *env) settled() <-chan struct{} {
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		for e.ctx.Err() == nil && !e.bothIn() {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-e.ctx.Done():
			}
		}
	}()
	return settled
}

func isDone(s engine.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

func zombieCommitsNothing(e *env) {
	old, owner := zombie(e, func(s engine.Session) {
		e.copyBatch(s, 1, keyed("k", "kept"))
		e.must(s.Begin(e.outputs))
		e.must(s.Produce(e.ctx, outputs(big("zombie", 2<<20)...)))
	})
	if err := old.Commit(e.ctx, 6); !errors.Is(err, engine.ErrFenced) {
		e.Errorf("commit of a session that lost its partition: %v", err)
	}
	e.wantValues(e.pollValues(owner, 5), valuesOf("v", 1, 5)...)
	e.copyBatch(owner, 6, keyed("k", "by the owner"))
	_ = old.Close(e.ctx)
	e.wantBig("out", []abi.Output{keyed("k", "kept"), keyed("k", "by the owner")})
	if got := e.committed(0); got != 6 {
		e.Errorf("committed is %d, want 6", got)
	}
}

func zombieCommitsNoOffset(e *env) {
	old, owner := zombie(e, func(s engine.Session) { e.commit(s, 1) })
	e.pollValues(owner, 5)
	e.copyBatch(owner, 5, keyed("k", "by the owner"))
	if err := old.Commit(e.ctx, 3); !errors.Is(err, engine.ErrFenced) {
		e.Errorf("commit of a session that lost its partition: %v", err)
	}
	if got := e.committed(0); got != 5 {
		e.Errorf("committed is %d, want 5", got)
	}
}

// takenOver: the batch is lost and nothing else. A session that is still its
// partition's owner does it again.
func takenOver(e *env) {
	if e.TakeOver == nil {
		e.Skip("the subject takes nothing over")
	}
	e.topic("in", 1)
	e.topic("out", 2)
	e.Produce(e, "in", 0, "none", numbered("v", 0, 4))
	s, _ := e.session(e.group())
	id := engine.TransactionalID("g", s.Partition())
	for _, step := range []string{"before the first write", "in mid-transaction"} {
		e.pollValues(s, 4)
		e.must(s.Begin(e.outputs))
		if step == "in mid-transaction" {
			e.must(s.Produce(e.ctx, outputs(big(step, 2<<20)...)))
		}
		e.TakeOver(e, id)
		err := s.Produce(e.ctx, outputs(keyed("k", step)))
		if err == nil {
			err = s.Commit(e.ctx, 4)
		}
		if !errors.Is(err, engine.ErrAborted) {
			e.Errorf("%s: answer is %v, want %v", step, err, engine.ErrAborted)
		}
		e.must(s.Abort(e.ctx))
	}
	e.TakeOver(e, id)
	if err := s.Commit(e.ctx, 3); err != nil { // an offset alone, which only the group decides on, may be taken
		if !errors.Is(err, engine.ErrAborted) {
			e.Errorf("commit without outputs: %v", err)
		}
		e.must(s.Abort(e.ctx))
	}
	e.must(s.Abort(e.ctx))
	s.SeekTo(0)
	e.wantValues(e.pollValues(s, 4), valuesOf("v", 0, 4)...)
	e.copyBatch(s, 4, keyed("k", "done again"))
	e.wantBig("out", []abi.Output{keyed("k", "done again")})
}

// cutConnections: whenever the connections break, the copy is whole, in order and without repetition in the end.
func cutConnections(e *env) {
	if e.Cut == nil {
		e.Skip("the subject has no connections to cut")
	}
	const n = 40
	e.topic("in", 1)
	e.topic("out", 2)
	e.Produce(e, "in", 0, "none", numbered("v", 0, n))
	m := e.join(e.group())
	s := e.sessions(m, 1)[0]
	round := 0
	for e.committed(0) < n {
		if e.ctx.Err() != nil {
			e.Fatal("the copy does not come to its end")
		}
		if err := cutCopy(e, s, round); err == nil {
			round++
			continue
		} else if !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrClosed) {
			if s.Abort(e.ctx) == nil {
				continue
			}
		}
		_ = s.Close(e.ctx)
		_ = m.Leave(e.ctx)
		m = e.join(e.group())
		s = e.sessions(m, 1)[0]
	}
	var want []abi.Output
	for i := range n {
		want = append(want, keyed(fmt.Sprint("k", i%3), fmt.Sprint("v-", i)))
	}
	e.wantBig("out", want)
}

// cutCopy copies one fetch record by record; at a step that the round decides on, the connections break for a moment.
func cutCopy(e *env, s engine.Session, round int) error {
	step := atomic.Int32{}
	cut := func() {
		if int(step.Add(1)) != round%4+1 {
			return
		}
		mend := e.Cut(e)
		done := background(func() (struct{}, error) {
			<-tick()
			mend()
			return struct{}{}, nil
		})
		e.Cleanup(func() { _, _ = done() })
	}
	f, err := s.Poll(e.ctx, 100)
	if err != nil {
		return err
	}
	cut()
	if err := s.Begin(e.outputs); err != nil {
		return err
	}
	cut()
	for i := range f.Len() {
		r := f.Record(i)
		if err := s.Produce(e.ctx, outputs(keyed(fmt.Sprint("k", r.Offset%3), string(r.Value)))); err != nil {
			return err
		}
	}
	cut()
	err = s.Commit(e.ctx, f.NextOffset(f.Len()-1))
	cut()
	return err
}
