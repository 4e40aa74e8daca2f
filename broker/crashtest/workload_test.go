package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
)

// cleanRound is longer than what lies between two rounds of the cleaner; in a bubble waiting for it costs nothing.
const cleanRound = 16 * time.Second

// world is a broker in use. The disk below it is recorded; between the two
// stands a fault, which lets operations fail and ends a broker as kill -9 would.
type world struct {
	ctx    context.Context
	rng    *rand.Rand
	build  record.Builder
	oracle *oracle
	disk   volume
	// decide may fail operations, nil: none.
	decide func(vfs.Op) error

	b         *broker.Broker
	dead      *atomic.Bool // of the present broker: nothing it does reaches the disk any more
	failed    *atomic.Pointer[string]
	lives     []*life
	producers map[place]*producerState
	doubt     map[place]*attempt
	groups    map[group.TopicPartition]int64
	fence     txn.Producer // of the transactional id; zero: not initialized
	readers   []*reader    // members of the group whose assignments the broker makes
	members   int          // that there have been
	broken    error        // a promise that was seen broken while the broker ran
}

// runWorkload does the steps of a seed in a bubble, where time costs none.
func runWorkload(t *testing.T, seed uint64, steps int, disk volume, now func() int, decide func(vfs.Op) error) (o *oracle) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(context.Background(), seed, disk, now)
		w.decide = decide
		if err := w.run(steps); err != nil {
			t.Fatalf("workload seed %d: %v", seed, err)
		}
		o = w.oracle
	})
	return o
}

func newWorld(ctx context.Context, seed uint64, disk volume, now func() int) *world {
	return &world{ctx: ctx, rng: rand.New(rand.NewPCG(seed, 11)), disk: disk, oracle: &oracle{now: now},
		producers: map[place]*producerState{}, doubt: map[place]*attempt{}, groups: map[group.TopicPartition]int64{}}
}

// open starts a broker; a failed operation may keep it from starting, then it is tried once more.
func (w *world) open() error {
	var err error
	for range 2 {
		dead, failed := &atomic.Bool{}, &atomic.Pointer[string]{}
		gate := &vfs.Fault{FS: w.disk.FS, Decide: func(op vfs.Op) error {
			if dead.Load() {
				return errors.New("killed")
			}
			if w.decide == nil {
				return nil
			}
			err := w.decide(op)
			if err != nil && op.Kind == vfs.OpSync && strings.HasSuffix(op.Path, ".log") {
				dir := filepath.Dir(op.Path)
				failed.CompareAndSwap(nil, &dir)
			}
			return err
		}}
		if w.b, err = openBroker(w.ctx, volume{gate, w.disk.dir}); err == nil {
			w.dead, w.failed = dead, failed
			w.oracle.opened(w.b.ClusterID())
			return nil
		}
	}
	return err
}

// kill ends the broker without letting it write anything any more.
func (w *world) kill() {
	w.dead.Store(true)
	_ = w.b.Close(w.ctx)
}

// goOn says what an error means to the workload: where operations are made to fail it goes on after it.
func (w *world) goOn(err error) error {
	if w.decide != nil {
		return nil
	}
	return err
}

func (w *world) run(steps int) error {
	if err := w.again(); err != nil {
		return err
	}
	defer func() { w.kill() }()
	for _, c := range []struct {
		name       string
		partitions int
		configs    map[string]string
	}{
		{"plain", 2, map[string]string{topic.ConfigSegmentBytes: "1500"}},
		{"keyed", 1, map[string]string{topic.ConfigSegmentBytes: "1200", topic.ConfigCleanupPolicy: "compact",
			"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "20000"}},
		{"short", 1, map[string]string{topic.ConfigSegmentBytes: "1024", topic.ConfigRetentionBytes: "2500", "file.delete.delay.ms": "1"}},
	} {
		if err := w.create(c.name, c.partitions, c.configs); err != nil {
			return err
		}
	}
	for step := range steps {
		if err := w.step(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		if w.broken != nil {
			return w.broken
		}
	}
	return nil
}

func (w *world) step() error {
	switch w.rng.IntN(33) {
	case 0, 1, 2, 3, 4:
		return w.produce(w.anyPlace(), false)
	case 5, 6, 7, 8, 9:
		return w.produce(w.anyPlace(), true)
	case 10, 11:
		return w.burst()
	case 12, 24, 25, 26:
		return w.transact()
	case 13, 14, 15:
		return w.commitOffset()
	case 16:
		return w.deleteRecords()
	case 17, 27, 28:
		return w.recreate()
	case 18:
		return w.grow()
	case 19:
		return w.configure()
	case 20, 21:
		return w.clean()
	case 22:
		return w.restart()
	case 29, 30, 31, 32:
		return w.beats()
	default:
		return w.crash()
	}
}

func (w *world) create(name string, partitions int, configs map[string]string) error {
	l := w.oracle.creating(name, partitions, configs[topic.ConfigCleanupPolicy] == "compact")
	info, err := w.b.Topics().Create(w.ctx, name, partitions, configs)
	if err != nil {
		return w.goOn(err)
	}
	if dir := w.failed.Load(); dir != nil && strings.HasPrefix(filepath.Base(*dir), name+"-") {
		w.failed.Store(nil) // the log that failed is gone; these are others
	}
	w.oracle.created(l, info.ID)
	w.lives = append(w.lives, l)
	return nil
}

// recreate deletes a topic that is there for this, and creates it again.
func (w *world) recreate() error {
	const name = "brief"
	for i, l := range w.lives {
		if l.topic != name {
			continue
		}
		w.oracle.mark(func(now int) { l.deleting = now })
		w.lives = append(w.lives[:i:i], w.lives[i+1:]...)
		if err := w.b.Topics().Delete(w.ctx, name); err != nil {
			return w.goOn(err)
		}
		w.oracle.mark(func(now int) { l.erased = now })
		break
	}
	return w.create(name, 1+w.rng.IntN(2), map[string]string{topic.ConfigSegmentBytes: "1024"})
}

func (w *world) anyLife() *life {
	if len(w.lives) == 0 {
		return nil
	}
	return w.lives[w.rng.IntN(len(w.lives))]
}

func (w *world) anyPlace() place {
	l := w.anyLife()
	if l == nil {
		return place{}
	}
	n := 0
	for _, g := range l.partitions {
		if g.done < never {
			n = g.count
		}
	}
	return place{l.topic, l.number, int32(w.rng.IntN(max(n, 1)))}
}

// compactPlace is the partition of the compacted topic.
func (w *world) compactPlace() place {
	for _, l := range w.lives {
		if l.compact {
			return place{l.topic, l.number, 0}
		}
	}
	return place{}
}

// messages makes up to four records.
func (w *world) messages(p place) []message {
	compact := w.oracle.lives[p.life].compact
	out := make([]message, 1+w.rng.IntN(4))
	for i := range out {
		out[i] = message{id: w.oracle.nextID(), key: fmt.Sprint("k", w.rng.IntN(5))}
		out[i].tombstone = compact && w.rng.IntN(5) == 0
	}
	return out
}

// produce sends a batch and waits until it is durable.
func (w *world) produce(p place, idempotent bool) error {
	a, end, err := w.send(p, idempotent)
	if a == nil || err != nil {
		return err
	}
	return w.await(a, end)
}

// send appends a batch; a nil attempt says that nothing is to be waited for.
func (w *world) send(p place, idempotent bool) (*attempt, topic.Appended, error) {
	if p.topic == "" {
		return nil, topic.Appended{}, nil
	}
	log, err := w.b.Topics().Partition(p.topic, p.partition)
	if err != nil {
		return nil, topic.Appended{}, w.goOn(err)
	}
	a := w.doubt[p]
	switch {
	case idempotent && a == nil:
		producer := w.producers[p]
		if producer == nil {
			id, err := w.b.Topics().Metadata().NewProducerID(w.ctx)
			if err != nil {
				return nil, topic.Appended{}, w.goOn(err)
			}
			w.oracle.issue(id)
			producer = &producerState{id: id}
			w.producers[p] = producer
		}
		messages := w.messages(p)
		a = w.oracle.trying(p, messages, batchOf(&w.build, time.Now(), messages, producer))
		producer.sequence += int32(len(messages))
		w.doubt[p] = a
	case !idempotent:
		a = w.oracle.trying(p, w.messages(p), nil)
	}
	bytes := append([]byte(nil), a.bytes...)
	if a.bytes == nil {
		bytes = batchOf(&w.build, time.Now(), a.messages, nil)
	}
	got, err := log.Append(w.ctx, bytes, topic.FromClient)
	if err != nil {
		return nil, got, w.goOn(err)
	}
	return a, got, nil
}

func (w *world) await(a *attempt, got topic.Appended) error {
	log, err := w.b.Topics().Partition(a.place.topic, a.place.partition)
	if err == nil {
		err = log.WaitDurable(w.ctx, got.LastOffset+1)
	}
	if err != nil {
		return w.goOn(err)
	}
	if dir := w.failed.Load(); dir != nil && *dir == filepath.Join(w.disk.dir, fmt.Sprintf("%s-%d", a.place.topic, a.place.partition)) {
		w.broken = fmt.Errorf("%s acknowledges a batch after a failed fsync", *dir)
	}
	w.oracle.acknowledge(a, got.BaseOffset)
	if w.doubt[a.place] == a {
		delete(w.doubt, a.place)
	}
	return nil
}

// burst appends to several partitions before it waits for any.
func (w *world) burst() error {
	type sent struct {
		a   *attempt
		got topic.Appended
	}
	var all []sent
	for range 2 + w.rng.IntN(4) {
		a, got, err := w.send(w.anyPlace(), false)
		if err != nil {
			return err
		}
		if a != nil {
			all = append(all, sent{a, got})
		}
	}
	for _, s := range all {
		if w.rng.IntN(4) == 0 {
			continue // an acknowledgement nobody waits for
		}
		if err := w.await(s.a, s.got); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) commitOffset() error {
	name := fmt.Sprint("group", w.rng.IntN(3))
	offsets := map[group.TopicPartition]group.Offset{}
	var commits []*commit
	for range 1 + w.rng.IntN(2) {
		tp := group.TopicPartition{Topic: "plain", Partition: int32(w.rng.IntN(2))}
		if _, ok := offsets[tp]; ok {
			continue
		}
		w.groups[tp] += int64(1 + w.rng.IntN(9))
		offsets[tp] = group.Offset{Offset: w.groups[tp], LeaderEpoch: -1}
		commits = append(commits, w.oracle.committing(name, tp, w.groups[tp]))
	}
	if err := w.b.Groups().Commit(w.ctx, group.Identity{Group: name, Generation: -1}, offsets); err != nil {
		return w.goOn(err)
	}
	for _, c := range commits {
		w.oracle.committed(c)
	}
	return nil
}

func (w *world) deleteRecords() error {
	p := w.anyPlace()
	if p.topic == "" || w.oracle.lives[p.life].compact {
		return nil
	}
	log, err := w.b.Topics().Partition(p.topic, p.partition)
	if err != nil {
		return w.goOn(err)
	}
	o := log.Offsets()
	to := o.LogStart + w.rng.Int64N(o.LogEnd-o.LogStart+1)
	s := w.oracle.advancing(p, to)
	got, err := log.DeleteRecords(to)
	if err != nil {
		return w.goOn(err)
	}
	w.oracle.advanced(s, got)
	return nil
}

func (w *world) grow() error {
	for _, l := range w.lives {
		if l.topic != "brief" {
			continue
		}
		total := l.partitions[len(l.partitions)-1].count + 1
		at := len(l.partitions)
		w.oracle.mark(func(now int) { l.partitions = append(l.partitions, growth{now, never, total}) })
		if err := w.b.Topics().AddPartitions(w.ctx, l.topic, total); err != nil {
			return w.goOn(err)
		}
		w.oracle.mark(func(now int) { l.partitions[at].done = now })
	}
	return nil
}

func (w *world) configure() error {
	l := w.anyLife()
	if l == nil {
		return nil
	}
	info, ok := w.b.Topics().Lookup(l.topic)
	if !ok {
		return w.goOn(fmt.Errorf("topic %s is gone", l.topic))
	}
	configs := map[string]string{topic.ConfigRetentionMillis: fmt.Sprint(1_000_000 + w.rng.IntN(1_000_000))}
	for k, v := range info.Configs {
		if _, ok := configs[k]; !ok {
			configs[k] = v
		}
	}
	at := len(l.configs)
	w.oracle.mark(func(now int) {
		l.configs = append(l.configs, setting{now, never, configs[topic.ConfigRetentionMillis]})
	})
	if err := w.b.Topics().SetConfigs(w.ctx, l.topic, configs); err != nil {
		return w.goOn(err)
	}
	w.oracle.mark(func(now int) { l.configs[at].done = now })
	return nil
}

// clean lets a round of retention and compaction pass. Retention may move the start of every log.
func (w *world) clean() error {
	if err := w.beatAll(); err != nil {
		return err
	}
	moving := map[*start]*topic.Partition{}
	for _, l := range w.lives {
		for i := range l.partitions[len(l.partitions)-1].count {
			p, err := w.b.Topics().Partition(l.topic, int32(i))
			if err == nil && !l.compact {
				moving[w.oracle.advancing(place{l.topic, l.number, int32(i)}, -1)] = p
			}
		}
	}
	time.Sleep(cleanRound)
	for s, p := range moving {
		if w.decide == nil { // else a move that failed may still be found on the disk
			w.oracle.advanced(s, p.Offsets().LogStart)
		}
	}
	return nil
}

// restart stops the broker in order and starts it again.
func (w *world) restart() error {
	if err := w.b.Close(w.ctx); err != nil && w.goOn(err) != nil {
		return err
	}
	return w.again()
}

// crash ends the broker as kill -9 would and starts it again.
func (w *world) crash() error {
	w.kill()
	return w.again()
}

func (w *world) again() error {
	for try := 0; ; try++ {
		err := w.open()
		if err == nil {
			return nil
		}
		if w.decide == nil || try == 30 { // no disk fails for so long here
			return fmt.Errorf("the broker does not open again: %w", err)
		}
	}
}
