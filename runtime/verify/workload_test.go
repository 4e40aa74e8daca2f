package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/verify/history"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// plant is a fault of clients; those of brokers are in the proxy.
type plant struct {
	keepsPosition bool // an abort does not go back to where the transaction began
	crashes       bool // subscribed clients end often
	old           bool // all clients speak the protocol of Kafka 3.7
}

// run is the recording of one history.
type run struct {
	t       *testing.T
	seed    uint64
	brokers string
	prefix  string   // of all names, where several runs share a cluster
	segment int      // bytes
	topics  []string // consumed
	keys    []string // consumed
	targets []string // keys that clients send to
	group   string
	plant   plant
	old     bool // some clients speak the protocol of Kafka 3.7
	began   time.Time
	values  atomic.Int64
	closing sync.WaitGroup

	generations [16]atomic.Int64 // of each process, so far

	mu       sync.Mutex
	ops      []history.Op
	furthest map[string]int64 // by key, the highest offset acknowledged or polled
	failures []string
}

const partitionsPerTopic = 2

func newRun(t *testing.T, seed uint64, brokers, prefix string) *run {
	r := &run{t: t, seed: seed, brokers: brokers, prefix: prefix, segment: 16 << 10, began: time.Now(), furthest: map[string]int64{}}
	r.topics, r.group = []string{prefix + "alpha", prefix + "beta"}, prefix+"readers"
	for _, topic := range r.topics {
		for n := range int32(partitionsPerTopic) {
			r.keys = append(r.keys, keyOf(topic, n))
		}
	}
	r.targets = r.keys
	return r
}

func (r *run) now() time.Duration { return time.Since(r.began) }

func (r *run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// record adds an operation that ends now.
func (r *run) record(op history.Op) {
	op.Completed = r.now()
	if op.Kind != history.Txn && op.Kind != history.Send && op.Kind != history.Poll {
		op.Invoked = op.Completed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	if op.Outcome != history.OK {
		return
	}
	for _, step := range op.Steps {
		if step.Key != "" {
			r.furthest[step.Key] = max(r.furthest[step.Key], step.Sent.Offset)
		}
		for key, records := range step.Polled {
			r.furthest[key] = max(r.furthest[key], records[len(records)-1].Offset)
		}
	}
}

// recent is an offset a little before what is known of a log's end.
func (r *run) recent(key string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.furthest[key]-100)
}

// next picks a key, and a value that was never sent.
func (r *run) next(random *rand.Rand) (key string, value int64) {
	return r.targets[random.IntN(len(r.targets))], r.values.Add(1)
}

// processes of a history: assigned, subscribed and plain ones.
var processes = []mode{assigned, assigned, assigned, subscribed, subscribed, plain, plain}

// work lets all processes run until ctx ends.
func (r *run) work(ctx context.Context) {
	var all sync.WaitGroup
	for i, m := range processes {
		all.Go(func() { r.loop(ctx, i, m) })
	}
	all.Wait()
	r.closing.Wait()
}

// loop is a process and its successors: one whose client was thrown away goes on under another number.
func (r *run) loop(ctx context.Context, i int, m mode) {
	random := random(r.seed, i)
	transactionalID := r.prefix + "writer-" + strconv.Itoa(i)
	for ctx.Err() == nil {
		id := i + len(processes)*int(r.generations[i].Add(1))
		if random.IntN(4) == 0 {
			transactionalID = r.prefix + "writer-" + strconv.Itoa(id)
		}
		p, err := r.start(id, m, random, transactionalID)
		if err != nil {
			r.fail("process %d: %v", id, err)
			return
		}
		good := true
		for good && ctx.Err() == nil {
			switch n := random.IntN(400); {
			case n == 0, r.plant.crashes && m == subscribed && n < 20:
				good = false
			case n < 8 && m != subscribed:
				p.assign()
			case m == plain:
				good = p.single()
			default:
				good = p.transaction()
			}
		}
		if ctx.Err() == nil {
			r.record(history.Op{Process: id, Kind: history.Crash, Outcome: history.Info})
		}
		p.crash(random.IntN(2) == 0 || r.plant.crashes)
	}
}

// createTopics makes the topics that clients send to.
func (r *run) createTopics() {
	r.t.Helper()
	r.create(partitionsPerTopic, r.topics...)
}

func (r *run) create(partitions int32, topics ...string) {
	r.t.Helper()
	client, err := kgo.NewClient(r.options(&gate{})...)
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	within(r.t, 20*time.Second, "creating topics", func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), opTimeout)
		defer cancel()
		made, err := kadm.NewClient(client).CreateTopics(ctx, partitions, -1, smallSegments(r.segment), topics...)
		return errors.Join(err, notMade(made))
	})
}

// finish polls everything from the start, until all transactions have ended and
// every log was read to its end.
func (r *run) finish(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for attempt := 0; ; attempt++ {
		err := r.readAll(100_000+attempt, time.Now().Add(patience/2))
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (r *run) readAll(id int, deadline time.Time) error {
	p, err := r.start(id, plain, random(r.seed, id), "")
	if err != nil {
		return err
	}
	defer p.client.Close()
	ends, err := r.ends(p.client, deadline)
	if err != nil {
		return err
	}
	all := map[string]map[int32]kgo.Offset{}
	some := map[string][]int32{}
	for _, key := range r.keys {
		topic, n := partitionOf(key)
		some[topic] = append(some[topic], n)
		if all[topic] == nil {
			all[topic] = map[int32]kgo.Offset{}
		}
		all[topic][n] = kgo.NewOffset().At(0)
	}
	p.client.RemoveConsumePartitions(some)
	p.client.AddConsumePartitions(all)
	r.record(history.Op{Process: id, Kind: history.Assign, Outcome: history.OK}) // of nothing: positions begin anew
	r.record(history.Op{Process: id, Kind: history.Assign, Outcome: history.OK, Keys: r.keys})
	sources, copies := 0, 0
	for len(ends) > 0 || (r.copies() && copies < sources) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the final polls did not come to %v, and to %d copies of %d records", ends, copies, sources)
		}
		op := history.Op{Process: id, Kind: history.Poll, Outcome: history.OK, Invoked: r.now()}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		step, err := p.poll(ctx)
		cancel()
		if err != nil {
			return err
		}
		op.Steps = []history.Step{step}
		r.record(op)
		for key, records := range step.Polled {
			if key == r.copyKey() {
				copies += len(records)
			} else {
				sources += len(records)
			}
			if records[len(records)-1].Offset >= ends[key] {
				delete(ends, key)
			}
		}
	}
	return nil
}

// ends waits until no transaction is open, and returns the highest offset known of each log that holds any.
func (r *run) ends(client *kgo.Client, deadline time.Time) (map[string]int64, error) {
	adm := kadm.NewClient(client)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
		stable, err := adm.ListCommittedOffsets(ctx, r.topics...)
		end, err2 := adm.ListEndOffsets(ctx, r.topics...)
		cancel()
		if err = errors.Join(err, err2, stable.Error(), end.Error()); err == nil {
			end.Each(func(o kadm.ListedOffset) {
				if s, _ := stable.Lookup(o.Topic, o.Partition); s.Offset != o.Offset {
					err = fmt.Errorf("%s/%d ends at %d, but its last stable offset is %d: a transaction hangs", o.Topic, o.Partition, o.Offset, s.Offset)
				}
			})
		}
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		<-time.After(100 * time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int64{}
	for key, offset := range r.furthest {
		if offset > 0 {
			out[key] = offset
		}
	}
	return out, nil
}

// check checks the history, and keeps it if it is not what it should be.
func (r *run) check() *history.Result {
	r.t.Helper()
	result := history.Check(r.ops)
	if len(result.Forbidden()) > 0 || len(r.failures) > 0 {
		dir := keptDir(r.t)
		f, err := os.Create(filepath.Join(dir, "history.jsonl"))
		if err == nil {
			err = errors.Join(history.Write(f, r.ops), f.Close())
		}
		if err != nil {
			r.t.Error(err)
		}
	}
	return result
}
