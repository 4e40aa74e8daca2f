package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// bugs are planted in the cluster, or in its clients.
type bugs struct {
	offsetsFirst      bool // the input offset is committed on its own, before the outputs
	noFencing         bool // whoever writes or commits is believed, whatever its epoch and generation
	abortKeepsOutputs bool // what is aborted becomes visible
	swapAtOnce        bool // a new release takes over in the middle of a transaction
	abortForgets      bool // after a commit without an answer the client goes back to where it thinks it was
	abortStays        bool // after an abort the client reads on where it was
	lettersOutside    bool // dead letters are not part of the transaction
	readUncommitted   bool // inputs are read before they are committed, and if they never are
}

var (
	errLost    = errors.New("no answer")
	errFenced  = errors.New("producer epoch is fenced")
	errUnknown = errors.New("unknown member")
	errStale   = errors.New("stale generation")
	errDead    = errors.New("this process is dead")
)

const (
	sessionTimeout    = 10 * time.Second
	heartbeatInterval = 500 * time.Millisecond
	maxMessageBytes   = 1000
)

// cluster is what the brokers know. Requests are applied one at a time, under mu.
type cluster struct {
	mu        sync.Mutex
	topics    map[string][]*partition
	producers map[string]*producer
	group     *group
	changed   chan struct{} // closed and replaced when anything is to be read
	full      time.Time     // until then writes are refused
	wrong     []string      // what clients did that no worker may do
	bugs      bugs
}

// partition is a log; index is offset.
type partition struct{ entries []entry }

type entry struct {
	record engine.Record
	txn    *txn // nil: written without one
	marker bool
}

type txnState int

const (
	open txnState = iota
	committed
	aborted
)

type txn struct {
	state   txnState
	touched []*partition
	offsets map[engine.TopicPartition]int64
}

// producer is a transactional id at the coordinator. Its epoch grows with every
// transaction (KIP-890), so that a late request never meets a later one.
type producer struct {
	epoch    int
	sequence int // of the last write in the transaction
	txn      *txn
	outcomes map[int]txnState // of ended transactions, by epoch
}

func newCluster(partitions int, b bugs) *cluster {
	c := &cluster{topics: map[string][]*partition{}, producers: map[string]*producer{}, changed: make(chan struct{}), bugs: b}
	for _, name := range []string{"in", "out", "d.dlq"} {
		for range partitions {
			c.topics[name] = append(c.topics[name], &partition{})
		}
	}
	c.group = &group{c: c, members: map[string]*membership{}, owners: map[engine.TopicPartition]string{}, committed: map[engine.TopicPartition]int64{}}
	return c
}

func (c *cluster) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) partitionOf(topic string, key []byte) *partition {
	h := fnv.New32a()
	_, _ = h.Write(key)
	all := c.topics[topic]
	return all[int(h.Sum32()%uint32(len(all)))]
}

func (p *partition) add(r engine.Record, t *txn) {
	r.Offset = int64(len(p.entries))
	p.entries = append(p.entries, entry{record: r, txn: t})
	if t != nil && !slices.Contains(t.touched, p) {
		t.touched = append(t.touched, p)
	}
}

// stable is the last stable offset.
func (p *partition) stable() int64 {
	for i, e := range p.entries {
		if !e.marker && e.txn != nil && e.txn.state == open {
			return int64(i)
		}
	}
	return int64(len(p.entries))
}

// committedRecords from an offset on, at most limit, and the offset behind what was looked at.
func (p *partition) committedRecords(from int64, limit int, uncommitted bool) (records []engine.Record, next int64) {
	end := p.stable()
	if uncommitted {
		end = int64(len(p.entries))
	}
	for next = from; next < end && len(records) < limit; next++ {
		e := p.entries[next]
		if !e.marker && (e.txn == nil || e.txn.state == committed || uncommitted) {
			records = append(records, e.record)
		}
	}
	return records, next
}

func (t *txn) end(state txnState) {
	t.state = state
	for _, p := range t.touched {
		p.entries = append(p.entries, entry{txn: t, marker: true, record: engine.Record{Offset: int64(len(p.entries))}})
	}
}

// The requests. Each runs under mu.

// initProducer begins a new epoch of a transactional id: whatever its last one left open is aborted.
func (c *cluster) initProducer(id string, known int) (epoch int, err error) {
	p := c.producers[id]
	if p == nil {
		p = &producer{outcomes: map[int]txnState{}}
		c.producers[id] = p
	}
	if known >= 0 && known != p.epoch && !c.bugs.noFencing {
		return 0, errFenced
	}
	c.endTxn(p, aborted)
	p.epoch = (p.epoch/incarnation + 1) * incarnation
	return p.epoch, nil
}

// incarnation keeps the epochs of one user of a transactional id apart from those of the next.
const incarnation = 1_000_000

func (c *cluster) endTxn(p *producer, state txnState) {
	if t := p.txn; t != nil {
		visible := state
		if state == aborted && c.bugs.abortKeepsOutputs {
			visible = committed
		}
		t.end(visible)
		if state == committed {
			for tp, at := range t.offsets {
				c.group.committed[tp] = at
			}
		}
		c.signal()
	}
	p.txn, p.sequence = nil, 0
}

func (c *cluster) writer(id string, epoch int) (*producer, error) {
	p := c.producers[id]
	if p.epoch != epoch && !c.bugs.noFencing {
		return nil, errFenced
	}
	if time.Now().Before(c.full) {
		return nil, fmt.Errorf("%w: the disk is full", engine.ErrStorage)
	}
	if p.txn == nil {
		p.txn = &txn{offsets: map[engine.TopicPartition]int64{}}
	}
	return p, nil
}

// produce writes records, once: a request that is sent again has the same sequence.
func (c *cluster) produce(id string, epoch, sequence int, outputs []output) error {
	p, err := c.writer(id, epoch)
	if err != nil {
		return err
	}
	if sequence <= p.sequence && !c.bugs.noFencing {
		return nil
	}
	p.sequence = sequence
	for _, o := range outputs {
		t := p.txn
		if o.topic == "d.dlq" && c.bugs.lettersOutside {
			t = nil
		}
		c.partitionOf(o.topic, o.record.Key).add(o.record, t)
	}
	c.signal()
	return nil
}

// txnOffset adds the input offset to the transaction (KIP-447: with the member's generation).
func (c *cluster) txnOffset(id string, epoch int, member string, generation int, tp engine.TopicPartition, next int64) error {
	p, err := c.writer(id, epoch)
	if err != nil {
		return err
	}
	if err := c.group.mayCommit(member, generation, tp); err != nil && !c.bugs.noFencing {
		return err
	}
	if c.bugs.offsetsFirst {
		c.group.committed[tp] = next
		return nil
	}
	p.txn.offsets[tp] = next
	return nil
}

// end ends a transaction, once: asked again for the same epoch it tells what came of it.
func (c *cluster) end(id string, epoch int, want txnState) (next int, err error) {
	p := c.producers[id]
	if c.bugs.noFencing {
		epoch = p.epoch
	}
	if was, ok := p.outcomes[epoch]; ok && p.epoch == epoch+1 {
		if was != want {
			return 0, errFenced
		}
		return p.epoch, nil
	}
	if p.epoch != epoch {
		return 0, errFenced
	}
	if want == committed && time.Now().Before(c.full) {
		return 0, fmt.Errorf("%w: the disk is full", engine.ErrStorage)
	}
	c.endTxn(p, want)
	p.outcomes[epoch] = want
	p.epoch++
	return p.epoch, nil
}

// object notes that a client broke the contract of package engine.
func (c *cluster) object(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// faults are what the network of one process does to its requests.
type faults struct {
	mu     sync.Mutex
	rng    *rand.Rand
	delay  time.Duration // longest, each way
	lost   float64       // share of requests, and of answers
	paused chan struct{} // closed when the process goes on; nil: it is not paused
	dead   chan struct{}
}

func (f *faults) draw() (before, after time.Duration, requestLost, answerLost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before = time.Duration(f.rng.Int64N(int64(f.delay) + 1))
	after = time.Duration(f.rng.Int64N(int64(f.delay) + 1))
	return before, after, f.rng.Float64() < f.lost, f.rng.Float64() < f.lost
}

func (f *faults) chance(share float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.Float64() < share
}

func (f *faults) isDead() bool {
	select {
	case <-f.dead:
		return true
	default:
		return false
	}
}
