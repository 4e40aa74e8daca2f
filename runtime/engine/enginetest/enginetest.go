// Package enginetest is the contract of package engine as tests. Every engine
// passes the same ones, so that a worker cannot tell over which log it runs.
//
// The tests wait for what must happen and never for time to pass; each has a
// deadline, after which what did not happen is the failure.
package enginetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// Subject is an engine under test over an empty log.
type Subject struct {
	Engine engine.Engine
	// Produce writes records as an ordinary producer would: as one batch, compressed
	// with codec (none, gzip, snappy, lz4, zstd).
	Produce func(t testing.TB, topic string, partition int32, codec string, records []engine.Record)
	// Grow gives a topic more partitions.
	Grow func(t testing.TB, topic string, partitions int)
	// Remake deletes a topic and makes it again.
	Remake func(t testing.TB, topic string, partitions int)
	// RebalanceTimeout is how long the engine's members wait for a session to be closed; 0 skips what needs it.
	RebalanceTimeout time.Duration
	// Delivery is what the sessions of the tests are opened with.
	Delivery engine.Delivery

	// What follows is what a client of any log can do; nil skips the tests that need it.

	// Another opens one more engine over the same log, as another process would. The test's cleanup closes it.
	Another func(t testing.TB) engine.Engine
	// ReadUncommitted returns the records of a partition, those of open and aborted transactions among them.
	ReadUncommitted func(t testing.TB, topic string, partition int32) []engine.Record
	// Transaction writes records in a transaction of an ordinary producer, which is open until end is called.
	Transaction func(t testing.TB, topic string, partition int32, records []engine.Record) (end func(commit bool))
	// TakeOver initializes another producer with a transactional id (InitProducerId), which fences the one that has it.
	TakeOver func(t testing.TB, transactionalID string)
	// Expel removes the present members from a group behind their backs, as if they had been silent for too long.
	Expel func(t testing.TB, group string)
	// Cut breaks the engine's connections and keeps them from being made again until mend is called.
	Cut func(t testing.TB) (mend func())
}

// deadline bounds every test; it is far longer than anything takes.
const deadline = 2 * time.Minute

// Run runs the contract. open makes a new subject for each test and cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	run(t, open, func(t *testing.T, f func(*testing.T)) { f(t) })
}

// RunInBubble is Run with each test in a testing/synctest bubble, where time
// costs nothing: for engines that use no sockets and no files.
func RunInBubble(t *testing.T, open func(t *testing.T) Subject) {
	run(t, open, func(t *testing.T, f func(*testing.T)) { synctest.Test(t, f) })
}

func run(t *testing.T, open func(t *testing.T) Subject, around func(*testing.T, func(*testing.T))) {
	for _, group := range [][]test{positionTests(), pollTests(), outputTests(), memberTests(), topicTests(),
		transactionTests(), fencingTests(), committedTests(), updateTests()} {
		for _, test := range group {
			around := around
			if test.outside {
				around = func(t *testing.T, f func(*testing.T)) { f(t) }
			}
			t.Run(test.name, func(t *testing.T) {
				around(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					defer cancel()
					e := &env{T: t, ctx: ctx, Subject: open(t), outputs: []string{"out"}}
					if test.exactlyOnce && e.Delivery != engine.ExactlyOnce {
						e.Skip("at least once")
					}
					test.run(e)
				})
			})
		}
	}
}

type test struct {
	name string
	run  func(e *env)
	// outside keeps the test out of bubbles: zstd's pooled decoders hold
	// channels, and a bubble's channel must not leave it.
	outside bool
	// exactlyOnce: the test is about transactions.
	exactlyOnce bool
}

// env is what a test works with.
type env struct {
	*testing.T
	Subject
	ctx context.Context
	// outputs are the topics that Begin is given.
	outputs []string
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// topic makes a topic; configs are names and values in turn.
func (e *env) topic(name string, partitions int, configs ...string) {
	e.Helper()
	// The records of the tests are from 1970: a broker that looked for what is too old would cut the log in the midst of a test.
	all := map[string]string{"retention.ms": "-1"}
	for i := 0; i+1 < len(configs); i += 2 {
		all[configs[i]] = configs[i+1]
	}
	e.must(e.Engine.EnsureTopic(e.ctx, name, partitions, all))
}

// group is a consumer of topic "in" with the output topic "out", from the start.
func (e *env) group() engine.Group {
	return engine.Group{Name: "g", Client: "test", Inputs: []string{"in"},
		Start: engine.Start{Kind: engine.StartEarliest}, Delivery: e.Delivery}
}

// join joins, and leaves at the end of the test.
func (e *env) join(g engine.Group) engine.Member {
	e.Helper()
	m, err := e.Engine.Join(e.ctx, g)
	e.must(err)
	e.Cleanup(func() { _ = m.Leave(context.Background()) })
	return m
}

// sessions waits until the member owns n sessions.
func (e *env) sessions(m engine.Member, n int) []engine.Session {
	e.Helper()
	for {
		owned, err := m.Next(e.ctx)
		if err != nil {
			e.Fatalf("waiting for %d sessions: %v", n, err)
		}
		if len(owned) == n {
			return owned
		}
	}
}

// session joins a group with a single input partition and returns the session.
func (e *env) session(g engine.Group) (engine.Session, engine.Member) {
	e.Helper()
	m := e.join(g)
	return e.sessions(m, 1)[0], m
}

// single makes topics "in" and "out" with one partition each and joins.
func (e *env) single() engine.Session {
	e.Helper()
	e.topic("in", 1)
	e.topic("out", 1)
	s, _ := e.session(e.group())
	return s
}

const pollBytes = 64 << 10

func (e *env) poll(s engine.Session) engine.Fetch {
	e.Helper()
	f, err := s.Poll(e.ctx, pollBytes)
	if err != nil {
		e.Fatalf("poll: %v", err)
	}
	return f
}

// pollValues polls until it has n records and returns their values.
func (e *env) pollValues(s engine.Session, n int) []string {
	e.Helper()
	var values []string
	for len(values) < n {
		f := e.poll(s)
		for i := range f.Len() {
			values = append(values, string(f.Record(i).Value))
		}
	}
	return values
}

// commit processes nothing and commits.
func (e *env) commit(s engine.Session, next int64) {
	e.Helper()
	e.must(s.Begin(e.outputs))
	e.must(s.Commit(e.ctx, next))
}

// copyBatch writes outputs for what was polled and commits.
func (e *env) copyBatch(s engine.Session, next int64, o ...abi.Output) {
	e.Helper()
	e.must(s.Begin(e.outputs))
	e.must(s.Produce(e.ctx, outputs(o...)))
	e.must(s.Commit(e.ctx, next))
}

func (e *env) wantValues(got []string, want ...string) {
	e.Helper()
	if !slices.Equal(got, want) {
		e.Errorf("values are %q, want %q", got, want)
	}
}

// values of a partition, from its start to its present end.
func (e *env) values(topic string, partition int32) []string {
	e.Helper()
	values := []string{}
	for _, r := range e.records(topic)[partition] {
		values = append(values, string(r.Value))
	}
	return values
}

// records of a topic by partition.
func (e *env) records(topic string) map[int32][]engine.Record {
	e.Helper()
	found := map[int32][]engine.Record{}
	_, err := e.Engine.ReadAll(e.ctx, topic, nil, func(p int32, r engine.Record) error {
		found[p] = append(found[p], clone(r))
		return nil
	})
	e.must(err)
	return found
}

// committed is what the group has committed for a partition of topic "in".
func (e *env) committed(partition int32) int64 {
	e.Helper()
	lag, err := e.Engine.Lag(e.ctx, "g", []string{"in"})
	e.must(err)
	return lag[engine.TopicPartition{Topic: "in", Partition: partition}].Committed
}

func clone(r engine.Record) engine.Record {
	r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Value = slices.Clone(r.Headers[i].Value)
	}
	return r
}

// numbered makes n records with values prefix-first, prefix-(first+1), …
func numbered(prefix string, first, n int) []engine.Record {
	records := make([]engine.Record, n)
	for i := range records {
		records[i] = engine.Record{Timestamp: int64(1000 + first + i), Value: fmt.Appendf(nil, "%s-%d", prefix, first+i)}
	}
	return records
}

// valuesOf is what numbered writes.
func valuesOf(prefix string, first, n int) []string {
	var values []string
	for _, r := range numbered(prefix, first, n) {
		values = append(values, string(r.Value))
	}
	return values
}

// outputList hands outputs over as a guest's call does.
type outputList struct{ left []abi.Output }

// Next implements abi.Outputs.
func (l *outputList) Next(o *abi.Output) bool {
	if len(l.left) == 0 {
		return false
	}
	*o, l.left = l.left[0], l.left[1:]
	return true
}

func outputs(o ...abi.Output) abi.Outputs { return &outputList{o} }

// background runs f and returns a function that waits for its result.
func background[T any](f func() (T, error)) (wait func() (T, error)) {
	var v T
	var err error
	var done sync.WaitGroup
	done.Go(func() { v, err = f() })
	return func() (T, error) {
		done.Wait()
		return v, err
	}
}
