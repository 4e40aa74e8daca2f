package txn

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// Defaults of Options, as in Kafka but for the bound, which Kafka has not.
const (
	defaultMaxTimeout        = 15 * time.Minute
	defaultExpiration        = 7 * 24 * time.Hour
	defaultMaxIDs            = 100_000
	defaultMaxPartitions     = 1_000_000
	defaultJournalPartitions = 4
	// expiryInterval is how often idle transactional ids are looked for.
	expiryInterval = time.Hour
	// retryInterval lies between two attempts to carry out what was decided.
	retryInterval = time.Second
	// maxIDBytes is the longest transactional id.
	maxIDBytes = 1000
)

// Coordinator holds all transactional ids of a broker.
type Coordinator struct {
	log     *slog.Logger
	topics  *topic.Topics
	offsets Offsets
	markers *markers
	journal *journal

	maxTimeout time.Duration
	expiration time.Duration
	maxIDs     int

	partitions partitions // of all open transactions

	// ctx ends with Close. background are the goroutines that Close waits for.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	mu     sync.Mutex
	byID   map[string]*transaction
	closed bool

	ended   endings
	trouble trouble
}

// transaction is a transactional id. Whoever appends a batch of it holds mu for
// reading, whoever changes it for writing.
type transaction struct {
	id string

	mu sync.RWMutex
	metadata
	last position // of its last record in the journal
	dead bool     // it was forgotten; whoever has it looks again
	// marked are the markers of its last transaction that may not survive a power cut. Until they do,
	// the decision must stay the last record of the journal: see lockSettled.
	marked []marker
	// behind are the partitions in which the next transaction of its producer was open already when the
	// coordinator was opened and could not end this one: it goes on when this one is complete.
	behind []Partition
	timer  *time.Timer
	round  int64 // tells a timer that fired from one that was stopped
}

// Open replays the journal, carries out what was decided, and takes up or
// aborts what is open in the partitions.
func Open(ctx context.Context, o Options) (*Coordinator, error) {
	log := cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	j, err := openJournal(ctx, o.Topics, cmp.Or(o.JournalPartitions, defaultJournalPartitions), func(partition int, offset int64, err error) {
		log.Warn("record of the transaction journal is ignored", "topic", StateTopic, "partition", partition, "offset", offset, "error", err)
	})
	if err != nil {
		return nil, err
	}
	c := &Coordinator{
		log: log, trouble: trouble{log: log}, topics: o.Topics, offsets: o.Offsets, markers: &markers{o.Topics, o.Offsets}, journal: j,
		maxTimeout: cmp.Or(o.MaxTimeout, defaultMaxTimeout),
		expiration: cmp.Or(o.Expiration, defaultExpiration),
		maxIDs:     cmp.Or(o.MaxIDs, defaultMaxIDs),
		byID:       make(map[string]*transaction),
		partitions: partitions{limit: int64(cmp.Or(o.MaxPartitions, defaultMaxPartitions))},
	}
	err = j.replay(ctx, func(id string, m *metadata, at position) {
		if m == nil {
			delete(c.byID, id)
			return
		}
		c.byID[id] = &transaction{id: id, metadata: *m, last: at}
	})
	if err != nil {
		return nil, err
	}
	for _, t := range c.byID {
		c.partitions.add(len(t.partitions))
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.recover(ctx); err != nil {
		return nil, fmt.Errorf("%w; %w", err, c.Close(context.WithoutCancel(ctx)))
	}
	c.background.Go(c.expireLoop)
	return c, nil
}

// Close stops all timers and waits for what is being carried out; the rest
// is carried out when the coordinator is opened again.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	for _, t := range c.all() {
		t.mu.Lock()
		t.stopTimer()
		t.mu.Unlock()
	}
	done := make(chan struct{})
	go func() {
		c.background.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the transaction coordinator: markers are still being written: %w", ctx.Err())
	}
}

// spawn runs f in the background unless the coordinator is closed.
func (c *Coordinator) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.background.Go(f)
	}
}

// find returns a transactional id; a producer that it is unknown for has no right to it.
func (c *Coordinator) find(id string) (*transaction, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	t := c.byID[id]
	if t == nil {
		return nil, fmt.Errorf("%w: transactional id %q is unknown", ErrUnknownProducer, id)
	}
	return t, nil
}

// obtain returns a transactional id, which is made if there is none.
func (c *Coordinator) obtain(id string) (*transaction, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byID[id]
	switch {
	case c.closed:
		return nil, ErrClosed
	case t == nil && len(c.byID) >= c.maxIDs:
		return nil, fmt.Errorf("%w: there are %d; unused ones are forgotten after %v", ErrTooManyIDs, len(c.byID), c.expiration)
	case t == nil:
		t = &transaction{id: id, metadata: newMetadata()}
		c.byID[id] = t
	}
	return t, nil
}

// forget takes a transactional id off the map; its lock is held.
func (c *Coordinator) forget(t *transaction) {
	t.dead = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[t.id] == t {
		delete(c.byID, t.id)
	}
}

// all returns the transactional ids, sorted.
func (c *Coordinator) all() []*transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.byID), func(a, b *transaction) int { return cmp.Compare(a.id, b.id) })
}

// change writes the next state and makes it the present one; the lock is held, by lockSettled.
func (c *Coordinator) change(t *transaction, next *metadata) error {
	at, err := c.journal.append(t.id, next)
	if err != nil {
		return err
	}
	t.last = at
	c.enter(t, next)
	return nil
}

// enter makes next the present state; the lock is held.
func (c *Coordinator) enter(t *transaction, next *metadata) {
	c.partitions.add(len(next.partitions) - len(t.partitions))
	began := next.state == StateOngoing && t.state != StateOngoing
	c.ended.count(t.state, next.state)
	t.metadata = *next
	if next.state != StateOngoing {
		t.stopTimer()
	} else if began {
		c.startTimer(t, next.timeout)
	}
}

func (t *transaction) stopTimer() {
	t.round++
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// List returns all transactional ids that have had a producer, sorted.
func (c *Coordinator) List() []Listing {
	var out []Listing
	for _, t := range c.all() {
		t.mu.RLock()
		if !t.dead && t.producer.Epoch >= 0 {
			out = append(out, t.listing())
		}
		t.mu.RUnlock()
	}
	return out
}

func (t *transaction) listing() Listing {
	return Listing{ID: t.id, Producer: t.producer.ID, State: t.state, Started: t.started}
}

// Describe tells of one transactional id; ErrNotFound if there is none.
func (c *Coordinator) Describe(id string) (Description, error) {
	c.mu.Lock()
	t, closed := c.byID[id], c.closed
	c.mu.Unlock()
	if closed {
		return Description{}, ErrClosed
	}
	if t != nil {
		t.mu.RLock()
		defer t.mu.RUnlock()
	}
	if t == nil || t.dead || t.producer.Epoch < 0 {
		return Description{}, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	return Description{Listing: t.listing(), Epoch: t.producer.Epoch, Timeout: t.timeout, Partitions: sorted(t.partitions)}, nil
}
