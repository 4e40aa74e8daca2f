package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	groups "github.com/millstream-io/millstream/broker/coord/group"
	transactions "github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/worker"
)

// home is a simulation on the broker itself, whose disk is memory: kill -9 and power cuts end broker
// and workers at once, at any write, and a new broker opens what is left.
type home struct {
	fleet
	disk   *vfs.Mem
	broker *broker
	liar   bool     // planted: the disk forgets what it was told to keep
	acked  []string // input values whose write was acknowledged
	lost   int      // writes that were not
}

// broker is one life of it.
type broker struct {
	topics *topic.Topics
	groups *groups.Coordinator
	txns   *transactions.Coordinator
	engine engine.Engine

	mu    sync.Mutex
	left  int // writes until the end; 0 = it is not near
	seed  uint64
	power bool // what is not synced is at risk
	after *vfs.Mem
	ended chan struct{}
}

// endAt lets the broker's life end at a later write to the disk.
func (b *broker) endAt(writes int, power bool, seed uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left, b.power, b.seed = writes, power, seed
}

// watch keeps what the disk is like when the time has come; what is written later is on a disk that nobody reads any more.
func (b *broker) watch(disk *vfs.Mem, liar bool) func(vfs.Op) error {
	return func(op vfs.Op) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if liar && op.Kind == vfs.OpSync {
			return vfs.Ignore
		}
		if b.left == 0 || b.after != nil || !op.Kind.Mutates() {
			return nil
		}
		if b.left--; b.left > 0 {
			return nil
		}
		b.after = disk.Clone()
		if b.power {
			b.after = disk.CrashClone(b.seed)
		}
		close(b.ended)
		return nil
	}
}

func openBroker(disk *vfs.Mem, liar bool) (*broker, error) {
	b := &broker{ended: make(chan struct{})}
	ctx, quiet := context.Background(), slog.New(slog.DiscardHandler)
	fs := &vfs.Fault{FS: disk, Decide: b.watch(disk, liar)}
	err := fs.MkdirAll("data")
	if err == nil {
		b.topics, err = topic.Open(ctx, topic.Options{FS: fs, Dir: "data", Logger: quiet})
	}
	if err == nil {
		b.groups, err = groups.Open(ctx, groups.Options{Topics: b.topics, Logger: quiet})
	}
	if err == nil {
		b.txns, err = transactions.Open(ctx, transactions.Options{Topics: b.topics, Offsets: b.groups, Logger: quiet})
	}
	if err != nil {
		return nil, fmt.Errorf("open the broker: %w", err)
	}
	b.engine = embedded.New(b.topics, b.groups, b.txns, embedded.Options{Logger: quiet})
	return b, nil
}

func (b *broker) close() error {
	ctx := context.Background()
	return errors.Join(b.txns.Close(ctx), b.groups.Close(ctx), b.topics.Close(ctx))
}

// simulateHome runs one seed.
func simulateHome(t *testing.T, seed uint64, liar bool) (h *home, wrong []string) {
	synctest.Test(t, func(*testing.T) {
		h = &home{disk: vfs.NewMem(), liar: liar}
		h.init(seed)
		h.AtLeastOnce = h.rng.IntN(5) == 0
		if err := h.begin(); err != nil {
			wrong = []string{err.Error()}
			return
		}
		for range h.Events {
			if err := h.event(); err != nil {
				wrong = append(wrong, err.Error())
				break
			}
			time.Sleep(time.Duration(h.rng.Int64N(int64(3 * time.Second))))
		}
		wrong = append(wrong, h.settle()...)
	})
	return h, wrong
}

// begin opens the broker on what is on the disk.
func (h *home) begin() (err error) {
	if h.broker, err = openBroker(h.disk, h.liar); err != nil {
		return err
	}
	ctx, configs := context.Background(), map[string]string{"max.message.bytes": fmt.Sprint(4 * maxMessageBytes)}
	for _, name := range []string{"in", "out", "d.dlq", "logs"} {
		if err := h.broker.engine.EnsureTopic(ctx, name, h.Partitions, configs); err != nil {
			return err
		}
	}
	h.logs = worker.NewLogs(h.broker.engine, "logs", slog.New(slog.DiscardHandler))
	return nil
}

func (h *home) start(until worker.Until) { h.startOn(h.broker.engine, nil, until) }

// write appends records and waits until the write is acknowledged.
func (h *home) write() {
	records := make([]engine.Record, 1+h.rng.IntN(h.Batch))
	for i := range records {
		records[i] = h.record(h.rng)
	}
	if err := h.broker.engine.Append(context.Background(), "in", records); err != nil || h.over() {
		h.lost += len(records)
		return
	}
	for _, r := range records {
		h.acked = append(h.acked, string(r.Value))
	}
}

// over tells whether the life of the broker has ended: what it says from then on nobody hears.
func (h *home) over() bool {
	select {
	case <-h.broker.ended:
		return true
	default:
		return false
	}
}

func (h *home) event() error {
	p := h.pickProcess()
	switch k := h.rng.IntN(20); {
	case k < 8:
		for range 1 + h.rng.IntN(10) {
			h.write()
			time.Sleep(time.Duration(h.rng.Int64N(int64(50 * time.Millisecond))))
		}
	case p == nil || k < 10:
		if len(h.alive) < h.MaxWorkers {
			h.start(worker.Until{})
		}
	case k < 11:
		h.tell("stop")
		h.stop(p, time.Duration(h.rng.Int64N(int64(20*time.Second))))
	case k < 12:
		h.tell("drop")
		h.abandon(p)
	case k < 14:
		h.replace()
	case k < 15:
		return h.expel()
	default:
		return h.end(1+h.rng.IntN(60), h.rng.IntN(3) > 0)
	}
	return nil
}

// expel throws a member out of the group, as if it had been silent for too long.
func (h *home) expel() error {
	g, err := h.broker.groups.Describe("d")
	if err != nil || len(g.Members) == 0 {
		return nil //nolint:nilerr // nobody has joined yet
	}
	h.tell("expel")
	m := g.Members[h.rng.IntN(len(g.Members))]
	err = h.broker.groups.Leave(context.Background(), groups.Identity{Group: "d", MemberID: m.MemberID, Generation: -1}, "expelled")
	if errors.Is(err, groups.ErrUnknownMember) {
		return nil
	}
	return err
}

// end ends the life of broker and workers at a write from now on, and begins a new one.
func (h *home) end(writes int, power bool) error {
	h.broker.endAt(writes, power, h.rng.Uint64N(4))
	for range 20 {
		h.write()
		if h.over() {
			break
		}
		time.Sleep(time.Duration(h.rng.Int64N(int64(20 * time.Millisecond))))
	}
	workers := len(h.alive)
	h.close()
	h.tell("the end: power cut %t, reached %t", power, h.over())
	if h.over() {
		h.disk = h.broker.after
	}
	if err := h.begin(); err != nil {
		return err
	}
	for range workers {
		h.start(worker.Until{})
	}
	return nil
}

// close takes what is left of a life away.
func (h *home) close() {
	for _, p := range slices.Clone(h.alive) {
		h.abandon(p)
	}
	h.reaping.Wait()
	_ = h.logs.Close(context.Background())
	_ = h.broker.close() // of a disk that may be full of what nobody reads
}

func (h *home) settle() (wrong []string) {
	h.tell("settle")
	if len(h.alive) == 0 {
		h.start(worker.Until{})
	}
	if !h.converged() {
		wrong = append(wrong, "after ten minutes not all is through")
		for _, p := range h.alive {
			wrong = append(wrong, fmt.Sprintf("%+v", p.Snapshot()))
		}
	}
	for _, p := range h.alive {
		h.reaping.Go(func() { _ = p.Stop(context.Background()) })
	}
	h.reaping.Wait()
	o := outcome{in: h.read("in"), out: h.read("out"), letters: h.read("d.dlq")}
	h.close()
	if h.AtLeastOnce {
		o = o.once()
	}
	return slices.Concat(wrong, o.problems(h.Skip), h.leftovers(), h.missing(o))
}

func (h *home) converged() bool {
	for range 600 {
		positions, err := h.broker.engine.Lag(context.Background(), "d", []string{"in"})
		behind := err != nil || len(positions) < h.Partitions
		for _, p := range positions {
			behind = behind || p.Committed < p.LogEnd
		}
		if !behind {
			return true
		}
		time.Sleep(time.Second)
	}
	return false
}

func (h *home) read(name string) [][]engine.Record {
	all := make([][]engine.Record, h.Partitions)
	_, _ = h.broker.engine.ReadAll(context.Background(), name, nil, func(p int32, r engine.Record) error {
		r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
		r.Headers = slices.Clone(r.Headers)
		for i := range r.Headers {
			r.Headers[i].Value = slices.Clone(r.Headers[i].Value)
		}
		all[p] = append(all[p], r)
		return nil
	})
	return all
}

// missing finds inputs that were acknowledged and are gone.
func (h *home) missing(o outcome) (wrong []string) {
	there := map[string]bool{}
	for _, r := range slices.Concat(o.in...) {
		there[string(r.Value)] = true
	}
	for _, value := range h.acked {
		if !there[value] {
			wrong = append(wrong, fmt.Sprintf("input %q was acknowledged and is gone", value))
		}
	}
	return wrong
}

// homeShare: a broker takes some twenty times as long as the cluster of this package.
const homeShare = 20

// TestALyingDiskIsCaught: a disk that does not keep what it says it kept loses what was promised.
func TestALyingDiskIsCaught(t *testing.T) {
	for seed := range uint64(30) {
		if h, wrong := simulateHome(t, seed+1, true); len(wrong) > 0 {
			t.Logf("seed %d: %s", h.seed, wrong[0])
			return
		}
	}
	t.Error("not caught")
}

// TestSimulationAtHome runs seeds on the embedded engine.
func TestSimulationAtHome(t *testing.T) {
	if *seedFlag != 0 {
		h, wrong := simulateHome(t, *seedFlag, false)
		t.Logf("seed %d, %+v\n%s", h.seed, h.options, strings.Join(h.story, "\n"))
		for _, w := range wrong {
			t.Error(w)
		}
		return
	}
	seeds := seedCount() / homeShare
	var next atomic.Uint64
	var records, aborts, acked atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := next.Add(1); seed <= seeds && !t.Failed(); seed = next.Add(1) {
				h, wrong := simulateHome(t, seed, false)
				if len(wrong) > 0 {
					t.Errorf("seed %d, %+v\n%s\n\n%s", seed, h.options, strings.Join(h.story, "\n"), strings.Join(wrong[:min(5, len(wrong))], "\n"))
				}
				records.Add(h.stats.RecordsIn.Load())
				aborts.Add(h.stats.Aborts.Load())
				acked.Add(int64(len(h.acked)))
			}
		})
	}
	all.Wait()
	t.Logf("%d records acknowledged, %d handled, %d transactions aborted", acked.Load(), records.Load(), aborts.Load())
}
