package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// options are drawn from the seed.
type options struct {
	Partitions, Keys, MaxWorkers, Events int
	Batch                                int     // records written at once, at most
	Poison                               float64 // share of records that the guest does not take
	Lost                                 float64 // share of requests, and of answers
	Delay                                time.Duration
	CommitInterval                       time.Duration
	CommitBytes                          int
	Traffic                              int           // records that come in a steady stream, beside what events write
	Slow                                 time.Duration // longest that the guest takes for a record
	Skip                                 bool          // the error policy
	Bounded                              bool          // what is left at the end is done by bounded runs
	AtLeastOnce                          bool          // at home only
}

func drawOptions(r *rand.Rand) options {
	pick := func(of ...int) int { return of[r.IntN(len(of))] }
	return options{
		Partitions: 1 + r.IntN(4), Keys: 1 + r.IntN(8), MaxWorkers: 1 + r.IntN(3), Events: 5 + r.IntN(20),
		Batch:  pick(1, 10, 60),
		Poison: float64(pick(0, 1, 5, 20)) / 100, Lost: float64(pick(0, 0, 1, 5)) / 100,
		Delay:          time.Duration(pick(1, 10, 100)) * time.Millisecond,
		CommitInterval: time.Duration(pick(0, 10, 1000)) * time.Millisecond, CommitBytes: pick(0, 0, 200),
		Traffic: pick(0, 100, 400), Slow: time.Duration(pick(0, 0, 5, 50)) * time.Millisecond,
		Skip: r.IntN(8) == 0, Bounded: r.IntN(4) == 0,
	}
}

// fleet are the workers of one deployment, whatever log they run on.
type fleet struct {
	options
	seed    uint64
	rng     *rand.Rand
	logs    *worker.Logs
	stats   worker.Stats
	alive   []*process
	started int
	reaping sync.WaitGroup
	version int64
	latest  atomic.Int64 // the same, for the planted bug
	atOnce  bool         // the planted bug
	written int          // records, for their names

	mu       sync.Mutex
	programs []*workertest.Program
	releases int // made
	retired  int
	tries    map[string]int // of flaky records
	story    []string
}

// process is a worker with its network.
type process struct {
	*worker.Worker
	n *node // nil: on another log
}

// init draws the options.
func (f *fleet) init(seed uint64) {
	f.seed, f.rng = seed, rand.New(rand.NewPCG(seed, 1))
	f.options, f.tries, f.version = drawOptions(f.rng), map[string]int{}, 1
	f.latest.Store(1)
}

// run is a simulation on a cluster.
type run struct {
	fleet
	c      *cluster
	stream *rand.Rand // of the traffic
	nodes  uint64
}

func newRun(seed uint64, b bugs) *run {
	r := &run{stream: rand.New(rand.NewPCG(seed, 2))}
	r.init(seed)
	r.atOnce = b.swapAtOnce
	r.c = newCluster(r.Partitions, b)
	r.logs = worker.NewLogs(r.node(), "logs", slog.New(slog.DiscardHandler))
	return r
}

func (r *fleet) tell(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.story = append(r.story, fmt.Sprintf("%6.2fs ", time.Since(epoch).Seconds())+fmt.Sprintf(format, args...))
}

// epoch is when time begins in a bubble of testing/synctest.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *run) node() *node {
	r.nodes++
	return &node{c: r.c, faults: faults{rng: rand.New(rand.NewPCG(r.seed, 1000+r.nodes)), delay: r.Delay, lost: r.Lost, dead: make(chan struct{})}}
}

func (r *fleet) release(version int64) worker.Release {
	p := &workertest.Program{Func: r.guest(version)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.programs = append(r.programs, p)
	r.releases++
	policy := deploy.OnErrorDeadLetter
	if r.Skip {
		policy = deploy.OnErrorSkip
	}
	return worker.Release{
		Program: p, Setup: host.Setup{Deployment: "d", Inputs: []string{"in"}, Outputs: []string{"out"}}, Outputs: []string{"out"},
		OnError: policy, DeadLetters: "d.dlq", Source: deadletter.Source{Deployment: "d", Module: fmt.Sprintf("v%d", version)},
		Limits: host.DefaultLimits(), Retries: 2, FailureLimit: deploy.FailureLimit{Percent: 100},
		Retired: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.retired++
		},
	}
}

// guest puts out what the kind of the record says, with its version: v3|k1-17|0/2.
func (r *fleet) guest(version int64) workertest.Func {
	return func(c *workertest.Call) error {
		version := version
		if r.atOnce {
			version = r.latest.Load()
		}
		id, kind, _ := strings.Cut(string(c.Record.Value), ":")
		if r.Slow > 0 {
			rest(time.Duration(c.Record.Offset) * time.Millisecond % r.Slow)
		}
		n := 1
		switch kind {
		case "trap":
			return &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}
		case "loop":
			return &host.Trap{Kind: host.TrapFuel, Detail: "fuel"}
		case "reject":
			return fmt.Errorf("no")
		case "flaky":
			r.mu.Lock()
			r.tries[id]++
			first := r.tries[id] == 1
			r.mu.Unlock()
			if first {
				return &host.Trap{Kind: host.TrapWallTime, Detail: "slow"}
			}
		case "large":
			c.Emit(0, make([]byte, 5*maxMessageBytes))
			return nil
		case "none":
			n = 0
		case "two":
			n = 2
		}
		for i := range n {
			c.Emit(0, fmt.Appendf(nil, "v%d|%s|%d/%d", version, id, i, n))
		}
		return nil
	}
}

// poison tells whether records of this kind end as dead letters.
func poison(kind string) bool { return slices.Contains(poisons, kind) }

var (
	poisons = []string{"trap", "loop", "reject", "large"}
	fine    = []string{"one", "one", "one", "two", "none", "flaky"}
)

// record makes the next record of the input.
func (r *fleet) record(rng *rand.Rand) engine.Record {
	kind := fine[rng.IntN(len(fine))]
	if rng.Float64() < r.Poison {
		kind = poisons[rng.IntN(len(poisons))]
	}
	r.written++
	key := fmt.Sprintf("k%d", rng.IntN(r.Keys))
	return engine.Record{Key: []byte(key), Value: fmt.Appendf(nil, "%s-%d:%s", key, r.written, kind), Timestamp: time.Now().UnixMilli()}
}

// write appends records to the input, some of them in transactions that end later, well or not.
func (r *run) write(rng *rand.Rand, most int) (n int) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	var t *txn
	if rng.IntN(3) == 0 {
		t = &txn{}
		state := committed
		if rng.IntN(2) == 0 {
			state = aborted
		}
		time.AfterFunc(time.Duration(rng.Int64N(int64(time.Second))), func() {
			r.c.mu.Lock()
			defer r.c.mu.Unlock()
			t.end(state)
			r.c.signal()
		})
	}
	n = 1 + rng.IntN(most)
	for range n {
		record := r.record(rng)
		r.c.partitionOf("in", record.Key).add(record, t)
	}
	r.c.signal()
	return n
}

// traffic writes a few records every few milliseconds.
func (r *run) traffic() {
	for left := r.Traffic; left > 0; {
		left -= r.write(r.stream, 5)
		rest(time.Duration(r.stream.Int64N(int64(40 * time.Millisecond))))
		if r.stream.IntN(50) == 0 {
			rest(time.Duration(r.stream.Int64N(int64(10 * time.Second))))
		}
	}
}

func (r *run) start(until worker.Until) {
	n := r.node()
	r.startOn(n, n, until)
}

// startOn starts a worker on an engine.
func (r *fleet) startOn(e engine.Engine, n *node, until worker.Until) {
	w, err := worker.New(context.Background(), worker.Config{
		Engine:  e,
		Group:   engine.Group{Name: "d", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}, Delivery: r.delivery()},
		Release: r.release(r.version), CommitInterval: r.CommitInterval, CommitBytes: r.CommitBytes, Until: until,
		Stats: &r.stats, Logs: r.logs, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err) // no guest of this package refuses to start
	}
	w.Start()
	r.alive = append(r.alive, &process{w, n})
	r.started++
	r.tell("start worker %d with v%d", r.started, r.version)
}

func (r *fleet) delivery() engine.Delivery {
	if r.AtLeastOnce {
		return engine.AtLeastOnce
	}
	return engine.ExactlyOnce
}

func (r *fleet) pickProcess() *process {
	if len(r.alive) == 0 {
		return nil
	}
	return r.alive[r.rng.IntN(len(r.alive))]
}

func (r *fleet) remove(p *process) {
	r.alive = slices.DeleteFunc(r.alive, func(o *process) bool { return o == p })
}

// kill ends a process at once: nothing that it does reaches the cluster any more but what is on its way.
func (r *run) kill(p *process) {
	close(p.n.dead)
	r.abandon(p)
}

// abandon drops what a worker has in hand.
func (r *fleet) abandon(p *process) {
	r.remove(p)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	r.reaping.Go(func() { _ = p.Stop(gone) })
}

func (r *fleet) stop(p *process, patience time.Duration) {
	r.remove(p)
	r.reaping.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = p.Stop(ctx)
	})
}

// replace brings a new version to all processes, one after the other as a catalog does.
func (r *fleet) replace() {
	r.version++
	r.latest.Store(r.version)
	r.tell("replace by v%d", r.version)
	for _, p := range r.alive {
		release, patience := r.release(r.version), time.Duration(r.rng.Int64N(int64(5*time.Second)))
		r.reaping.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			// One that has ended, or ends meanwhile, has no use for it.
			if err := p.Replace(ctx, release); err != nil && !errors.Is(err, worker.ErrReplacing) {
				release.Retired()
			}
		})
	}
}

// event lets something happen.
func (r *run) event() {
	p := r.pickProcess()
	switch k := r.rng.IntN(20); {
	case k < 7:
		r.tell("write %d records", r.write(r.rng, r.Batch))
	case p == nil || k < 9:
		if len(r.alive) < r.MaxWorkers {
			r.start(worker.Until{})
		}
	case k < 11:
		r.tell("kill")
		r.kill(p)
	case k < 12:
		r.tell("stop")
		r.stop(p, time.Duration(r.rng.Int64N(int64(20*time.Second))))
	case k < 14:
		d := time.Duration(r.rng.Int64N(int64(30 * time.Second)))
		r.tell("pause for %v", d)
		p.n.pause(d)
	case k < 17:
		r.replace()
	case k < 18:
		d := time.Duration(r.rng.Int64N(int64(5 * time.Second)))
		r.tell("full disk for %v", d)
		r.c.mu.Lock()
		r.c.full = time.Now().Add(d)
		r.c.mu.Unlock()
	default:
		r.tell("rebalance")
		r.c.mu.Lock()
		r.c.group.turn()
		r.c.mu.Unlock()
	}
}
