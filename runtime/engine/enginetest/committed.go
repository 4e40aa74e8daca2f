package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// committedTests are about what readers see of other people's transactions.
func committedTests() []test {
	return []test{
		{name: "committed/session", run: sessionReadsCommitted},
		{name: "committed/position at the end", run: positionAtTheEnd},
		{name: "committed/read all", run: readAllReadsCommitted},
		{name: "committed/follow", run: followReadsCommitted},
	}
}

func (e *env) foreign(topic, value string) (end func(commit bool)) {
	e.Helper()
	if e.Transaction == nil {
		e.Skip("the subject has no other producers")
	}
	return e.Transaction(e, topic, 0, numbered(value, 0, 1))
}

// sessionReadsCommitted: an open transaction is waited for, an aborted one is passed over.
func sessionReadsCommitted(e *env) {
	s := e.single()
	e.Produce(e, "in", 0, "none", numbered("plain", 0, 1))
	abort := e.foreign("in", "aborted")
	commit := e.foreign("in", "committed")
	e.Produce(e, "in", 0, "none", numbered("behind", 0, 1))
	e.wantValues(e.pollValues(s, 1), "plain-0")
	more := background(func() ([]string, error) { return e.pollValues(s, 2), nil })
	commit(true)
	abort(false)
	got, _ := more()
	e.wantValues(got, "committed-0", "behind-0")
}

// positionAtTheEnd: a partition may end in markers and aborted records. A session that waits there has
// passed over them and says so, for a bounded run ends by it.
func positionAtTheEnd(e *env) {
	s := e.single()
	e.foreign("in", "committed")(true)
	e.wantValues(e.pollValues(s, 1), "committed-0")
	e.foreign("in", "aborted")(false)
	ends, err := e.Engine.OffsetsAt(e.ctx, []string{"in"}, engine.Start{Kind: engine.StartLatest})
	e.must(err)
	for end := ends[s.Partition()]; s.Position() < end; {
		ctx, cancel := context.WithTimeout(e.ctx, 50*time.Millisecond)
		if f, err := s.Poll(ctx, pollBytes); err == nil {
			e.Fatalf("an aborted record was read: %+v", f.Record(0))
		}
		cancel()
		if err := e.ctx.Err(); err != nil {
			e.Fatalf("the position is %d, the end %d: %v", s.Position(), end, err)
		}
	}
	e.must(s.Commit(e.ctx, s.Position()))
}

// readAllReadsCommitted: it ends before what is open, without waiting for it.
func readAllReadsCommitted(e *env) {
	e.topic("t", 1)
	e.Produce(e, "t", 0, "none", numbered("plain", 0, 1))
	abort := e.foreign("t", "aborted")
	commit := e.foreign("t", "committed")
	e.Produce(e, "t", 0, "none", numbered("behind", 0, 1))
	var got []string
	read := func(from engine.Positions) engine.Positions {
		e.Helper()
		ends, err := e.Engine.ReadAll(e.ctx, "t", from, func(_ int32, r engine.Record) error {
			got = append(got, string(r.Value))
			return nil
		})
		e.must(err)
		return ends
	}
	ends := read(nil)
	e.wantValues(got, "plain-0")
	if ends[0] != 1 {
		e.Errorf("it says it has read up to %d, and 1 was open", ends[0])
	}
	commit(true)
	abort(false)
	read(ends)
	e.wantValues(got, "plain-0", "committed-0", "behind-0")
}

func followReadsCommitted(e *env) {
	e.topic("t", 1)
	e.Produce(e, "t", 0, "none", numbered("plain", 0, 1))
	abort := e.foreign("t", "aborted")
	e.Produce(e, "t", 0, "none", numbered("behind", 0, 1))
	ctx, cancel := context.WithCancel(e.ctx)
	var got []string
	seen := make(chan string, 10)
	wait := background(func() (struct{}, error) {
		return struct{}{}, e.Engine.Follow(ctx, "t", nil, func(_ int32, r engine.Record) error {
			got = append(got, string(r.Value))
			seen <- string(r.Value)
			if len(got) == 2 {
				cancel()
			}
			return nil
		})
	})
	<-seen
	abort(false)
	_, _ = wait()
	cancel()
	e.wantValues(got, "plain-0", "behind-0")
}

// updateTests are about changes of a topic that depend on what is in it.
func updateTests() []test {
	return []test{
		{name: "update/sees what it writes", run: updateSees},
		{name: "update/without records", run: updateNothing},
		{name: "update/races", run: updateRaces},
		{name: "update/somebody else is faster", run: updateOvertaken},
	}
}

// last returns the value of the last record of a topic with one partition, 0 if it is empty.
func last(ctx context.Context, in engine.Engine, topic string) (n int, err error) {
	_, err = in.ReadAll(ctx, topic, nil, func(_ int32, r engine.Record) (err error) {
		n, err = strconv.Atoi(string(r.Value))
		return err
	})
	return n, err
}

// increment adds a record with the next number.
func increment(ctx context.Context, in engine.Engine, topic string) error {
	return in.Update(ctx, topic, func(ctx context.Context) ([]engine.Record, error) {
		n, err := last(ctx, in, topic)
		return []engine.Record{{Timestamp: 1, Key: []byte("counter"), Value: strconv.AppendInt(nil, int64(n+1), 10)}}, err
	})
}

func updateSees(e *env) {
	e.topic("t", 1)
	e.must(e.Engine.Append(e.ctx, "t", []engine.Record{{Timestamp: 1, Key: []byte("counter"), Value: []byte("40")}}))
	e.must(increment(e.ctx, e.Engine, "t"))
	e.must(increment(e.ctx, e.Engine, "t"))
	e.wantValues(e.values("t", 0), "40", "41", "42")
	if err := increment(e.ctx, e.Engine, "nothing"); !errors.Is(err, engine.ErrUnknownTopic) {
		e.Errorf("update of a topic that is not there: %v", err)
	}
}

func updateNothing(e *env) {
	e.topic("t", 1)
	stop := errors.New("stop")
	update := func(records []engine.Record, err error) error {
		return e.Engine.Update(e.ctx, "t", func(context.Context) ([]engine.Record, error) { return records, err })
	}
	e.must(update(nil, nil))
	if err := update(numbered("v", 0, 1), stop); !errors.Is(err, stop) {
		e.Errorf("the error of f is %v", err)
	}
	e.wantValues(e.values("t", 0))
	e.must(update(numbered("v", 0, 3), nil))
	e.wantValues(e.values("t", 0), valuesOf("v", 0, 3)...)
}

// updateRaces: several processes count; no number is missing and none comes twice.
func updateRaces(e *env) {
	if e.Another == nil {
		e.Skip("the subject is alone")
	}
	const each = 8
	e.topic("t", 1)
	var waits []func() (struct{}, error)
	for _, in := range []engine.Engine{e.Engine, e.Another(e), e.Another(e)} {
		waits = append(waits, background(func() (struct{}, error) {
			for range each {
				if err := increment(e.ctx, in, "t"); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		}))
	}
	for _, wait := range waits {
		_, err := wait()
		e.must(err)
	}
	var want []string
	for i := range len(waits) * each {
		want = append(want, fmt.Sprint(i+1))
	}
	e.wantValues(e.values("t", 0), want...)
}

// updateOvertaken: what f made of a state that is not the last one any more is dropped, and f runs again.
func updateOvertaken(e *env) {
	if e.Another == nil {
		e.Skip("the subject is alone")
	}
	e.topic("t", 1)
	other := e.Another(e)
	calls := 0
	e.must(e.Engine.Update(e.ctx, "t", func(ctx context.Context) ([]engine.Record, error) {
		if calls++; calls == 1 {
			if err := increment(ctx, other, "t"); err != nil { // somebody else is faster
				return nil, err
			}
		}
		n, err := last(ctx, e.Engine, "t")
		return []engine.Record{{Timestamp: 1, Key: []byte("counter"), Value: strconv.AppendInt(nil, int64(n+10), 10)}}, err
	}))
	if got := e.values("t", 0); calls != 2 || !slices.Equal(got, []string{"1", "11"}) {
		e.Errorf("after %d calls the topic holds %q, want 2 calls and 1, 11", calls, got)
	}
}
