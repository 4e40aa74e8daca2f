package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/verify/history"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// opTimeout bounds what a client waits for in one operation. An operation that
// takes longer has an unknown outcome, and its client is thrown away.
const opTimeout = 8 * time.Second

// transactionTimeout bounds how long the transaction of a client that was
// thrown away keeps others from reading on.
const transactionTimeout = 4 * time.Second

// mode is how a process uses Kafka.
type mode int

const (
	assigned   mode = iota // transactions; consumes partitions of its choice
	subscribed             // transactions that commit the offsets of a group
	plain                  // single sends and polls without transactions
)

// process is one client of a history, as long as it lives.
type process struct {
	id     int
	mode   mode
	random *rand.Rand
	run    *run
	gate   *gate
	client *kgo.Client
	group  *kgo.GroupTransactSession // of subscribed

	keys      []string         // assigned
	positions map[string]int64 // of assigned keys: where the next operation begins
	given     received
	mu        sync.Mutex
	moved     map[string]bool // keys that a rebalance has given or taken since the operation began
}

// gate is the network of one client: closed, the client is as good as dead.
type gate struct {
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

func (g *gate) dial(ctx context.Context, network, host string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	g.conns = append(g.conns, c)
	return c, nil
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.conns {
		c.Close()
	}
}

// options of every client of a history. Waits are short, as faults are frequent.
func (r *run) options(g *gate) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(strings.Split(r.brokers, ",")...), kgo.AlwaysRetryEOF(), kgo.Dialer(g.dial),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ProduceRequestTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(2 * time.Second),
		kgo.RecordDeliveryTimeout(opTimeout), kgo.RetryTimeout(opTimeout), kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(time.Duration(tries)*20*time.Millisecond, 200*time.Millisecond)
		}),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(2 * time.Second),
	}
}

// start makes the client of a process. With the transactional id of its
// predecessor it ends what that one left open; with another, time does.
func (r *run) start(id int, m mode, random *rand.Rand, transactionalID string) (*process, error) {
	p := &process{id: id, mode: m, random: random, run: r, gate: &gate{}, positions: map[string]int64{}, given: received{}, moved: map[string]bool{}}
	opts := r.options(p.gate)
	if m != plain {
		opts = append(opts, kgo.TransactionalID(transactionalID), kgo.TransactionTimeout(transactionTimeout))
	}
	if r.plant.old || r.old && id%2 == 1 {
		// Transactions as they were before KIP-890: partitions and offsets are added by requests of their own.
		opts = append(opts, kgo.MaxVersions(kversion.V3_7_0()))
	}
	var err error
	if m == subscribed {
		note := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { p.note(partitions) }
		p.group, err = kgo.NewGroupTransactSession(append(opts, kgo.ConsumerGroup(r.group), kgo.ConsumeTopics(r.topics...),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.RebalanceTimeout(6*time.Second), kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.OnPartitionsAssigned(note), kgo.OnPartitionsRevoked(note), kgo.OnPartitionsLost(note))...)
		if err != nil {
			return nil, err
		}
		p.client = p.group.Client()
		r.record(history.Op{Process: id, Kind: history.Subscribe, Outcome: history.OK, Keys: r.keys})
		return p, nil
	}
	p.client, err = kgo.NewClient(append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{}))...)
	if err != nil {
		return nil, err
	}
	p.assign()
	return p, nil
}

func (p *process) note(partitions map[string][]int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic, numbers := range partitions {
		for _, n := range numbers {
			p.moved[keyOf(topic, n)] = true
		}
	}
}

func (p *process) rebalanced() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for key := range p.moved {
		out = append(out, key)
	}
	p.moved = map[string]bool{}
	slices.Sort(out)
	return out
}

// assign replaces what the process consumes by some of the keys. What it keeps
// goes on where it is, what comes new begins at the start.
func (p *process) assign() {
	var keys []string
	for _, key := range p.run.keys {
		if p.random.IntN(3) > 0 {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		keys = p.run.keys[:1]
	}
	gone := map[string][]int32{}
	for key := range p.positions {
		if !slices.Contains(keys, key) {
			topic, n := partitionOf(key)
			gone[topic] = append(gone[topic], n)
			delete(p.positions, key)
		}
	}
	p.client.RemoveConsumePartitions(gone)
	come := map[string]map[int32]kgo.Offset{}
	for _, key := range keys {
		if _, ok := p.positions[key]; !ok {
			topic, n := partitionOf(key)
			if come[topic] == nil {
				come[topic] = map[int32]kgo.Offset{}
			}
			p.positions[key] = p.run.recent(key)
			come[topic][n] = kgo.NewOffset().At(p.positions[key])
		}
	}
	p.client.AddConsumePartitions(come)
	p.keys = keys
	p.run.record(history.Op{Process: p.id, Kind: history.Assign, Outcome: history.OK, Keys: keys})
}

// crash throws the client away, as the end of its process or machine would.
func (p *process) crash(politely bool) {
	if !politely {
		p.gate.close()
	}
	p.run.closing.Go(func() {
		if p.group != nil {
			p.group.Close()
			return
		}
		p.client.Close()
	})
}

// poll is one poll, with few records so that operations are many.
func (p *process) poll(ctx context.Context) (history.Step, error) {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	var fetches kgo.Fetches
	if p.group != nil {
		fetches = p.group.PollRecords(ctx, 1+p.random.IntN(40))
	} else {
		fetches = p.client.PollRecords(ctx, 1+p.random.IntN(40))
	}
	step := history.Step{Polled: map[string][]history.Record{}}
	var failed error
	fetches.EachError(func(topic string, n int32, err error) {
		if p.given.lost(err) {
			p.run.fail("process %d: %s/%d: %v", p.id, topic, n, err)
		}
		if !errors.Is(err, context.DeadlineExceeded) && failed == nil {
			failed = err
		}
	})
	fetches.EachRecord(func(r *kgo.Record) {
		p.given.take(r)
		key := keyOf(r.Topic, r.Partition)
		v, err := strconv.ParseInt(string(r.Value), 10, 64)
		if err != nil {
			p.run.fail("process %d: %s@%d: a value that nobody sent: %q", p.id, key, r.Offset, r.Value)
			return
		}
		step.Polled[key] = append(step.Polled[key], history.Record{Offset: r.Offset, Value: v})
	})
	return step, failed
}

// single is an operation without a transaction. It returns whether the client is still good.
func (p *process) single() bool {
	op := history.Op{Process: p.id, Kind: history.Poll, Outcome: history.OK, Invoked: p.run.now()}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if p.random.IntN(2) == 0 {
		op.Kind = history.Send
		key, value := p.run.next(p.random)
		r := record(key, value)
		err := p.client.ProduceSync(ctx, r).FirstErr()
		sent := history.Record{Offset: r.Offset, Value: value}
		if err != nil {
			op.Outcome, op.Error, sent.Offset = history.Info, err.Error(), history.Unknown
		}
		op.Steps = []history.Step{{Key: key, Sent: sent}}
	} else {
		step, err := p.poll(ctx)
		op.Steps = []history.Step{step}
		if err != nil {
			op.Error = err.Error()
		}
	}
	p.run.record(op)
	p.advance(op)
	return op.Outcome != history.Info
}

// transaction is an operation of up to four sends and polls. It returns whether
// the client is still good.
func (p *process) transaction() bool {
	op := history.Op{Process: p.id, Kind: history.Txn, Outcome: history.Fail, Invoked: p.run.now()}
	p.rebalanced()
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if err := p.begin(); err != nil {
		return false // nothing was done yet
	}
	var (
		mu       sync.Mutex
		failed   error
		promises sync.WaitGroup
		steps    = make([]history.Step, 1+p.random.IntN(4))
	)
	for i := range steps {
		if p.random.IntN(2) == 0 {
			step, err := p.poll(ctx)
			mu.Lock()
			steps[i] = step
			failed = errors.Join(failed, err)
			mu.Unlock()
			continue
		}
		key, value := p.run.next(p.random)
		steps[i] = history.Step{Key: key, Sent: history.Record{Offset: history.Unknown, Value: value}}
		promises.Add(1)
		p.client.Produce(ctx, record(key, value), func(r *kgo.Record, err error) {
			mu.Lock()
			defer promises.Done()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, err)
				return
			}
			steps[i].Sent.Offset = r.Offset
		})
	}
	promises.Wait()
	op.Steps = steps
	commit := failed == nil && p.random.IntN(8) > 0
	if p.random.IntN(100) == 0 { // some do not wait for the answer
		hasty, cancel := context.WithTimeout(ctx, between(p.random, 0, 5*time.Millisecond))
		defer cancel()
		ctx = hasty
	}
	outcome, err := p.end(ctx, commit)
	if op.Outcome = outcome; p.mode == subscribed {
		op.Group, op.Rebalanced = p.run.group, p.rebalanced()
	}
	if err = errors.Join(failed, err); err != nil {
		op.Error = err.Error()
	}
	p.run.record(op)
	p.advance(op)
	return err == nil
}

func (p *process) begin() error {
	if p.group != nil {
		return p.group.Begin()
	}
	return p.client.BeginTransaction()
}

// end commits or aborts. A commit that gives an error has an unknown outcome,
// unless the client says that it did not ask for it; what nobody asked to commit
// has failed, whatever becomes of the abort.
func (p *process) end(ctx context.Context, commit bool) (history.Outcome, error) {
	var committed bool
	var err error
	if p.group != nil {
		committed, err = p.group.End(ctx, kgo.TransactionEndTry(commit))
	} else {
		err = p.client.EndTransaction(ctx, kgo.TransactionEndTry(commit))
		committed = commit && err == nil
		if errors.Is(err, kerr.OperationNotAttempted) {
			return history.Fail, errors.Join(err, p.client.EndTransaction(ctx, kgo.TryAbort))
		}
	}
	switch {
	case committed:
		return history.OK, nil
	case commit && err != nil:
		return history.Info, err
	}
	return history.Fail, err
}

// advance moves on behind what was polled, or back to where the operation began.
func (p *process) advance(op history.Op) {
	if p.mode == subscribed {
		return // the session does
	}
	if op.Outcome == history.OK {
		for _, step := range op.Steps {
			for key, records := range step.Polled {
				p.positions[key] = records[len(records)-1].Offset + 1
			}
		}
		return
	}
	if p.run.plant.keepsPosition {
		return
	}
	back := map[string]map[int32]kgo.EpochOffset{}
	for key, offset := range p.positions {
		topic, n := partitionOf(key)
		if back[topic] == nil {
			back[topic] = map[int32]kgo.EpochOffset{}
		}
		back[topic][n] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	p.client.SetOffsets(back)
}

func record(key string, value int64) *kgo.Record {
	topic, n := partitionOf(key)
	return &kgo.Record{Topic: topic, Partition: n, Value: strconv.AppendInt(nil, value, 10)}
}

func keyOf(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

func partitionOf(key string) (topic string, partition int32) {
	i := len(key) - 1
	for key[i] != '/' {
		i--
	}
	n, _ := strconv.Atoi(key[i+1:])
	return key[:i], int32(n)
}
