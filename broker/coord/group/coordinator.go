package group

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	defaultMinSessionTimeout = 6 * time.Second
	defaultMaxSessionTimeout = 30 * time.Minute
	defaultOffsetsRetention  = 7 * 24 * time.Hour
	defaultMaxGroupSize      = 1000
	defaultMaxGroups         = 100_000
	defaultMaxBytes          = 256 << 20
	defaultJournalPartitions = 4
	defaultConsumerInterval  = 5 * time.Second
	defaultConsumerSession   = 45 * time.Second
	// expiryInterval is how often expired offsets are looked for (offsets.retention.check.interval.ms).
	expiryInterval = 10 * time.Minute
)

// Coordinator holds all groups of a broker.
type Coordinator struct {
	log              *slog.Logger
	journal          journal
	initialDelay     time.Duration
	minSession       time.Duration
	maxSession       time.Duration
	offsetsRetention time.Duration
	maxGroupSize     int
	consumerInterval time.Duration
	consumerSession  time.Duration
	migration        MigrationPolicy
	configs          configs

	topics     topicSource
	topicsSeen atomic.Int64 // counts changes of the topics

	// ctx ends with Close. background are the goroutines that Close waits for.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	mu     sync.Mutex
	groups map[string]*anyGroup
	closed bool
	room   room

	transactions transactions

	watchers
}

// Open replays the journal and returns the coordinator of all groups in it.
func Open(ctx context.Context, o Options) (*Coordinator, error) {
	log := cmp.Or(o.Logger, slog.Default())
	journal, err := openTopicJournal(ctx, o.Topics, cmp.Or(o.JournalPartitions, defaultJournalPartitions),
		func(partition int, offset int64, err error) {
			log.Warn("record of the group journal is ignored", slog.String("topic", OffsetsTopic),
				slog.Int("partition", partition), slog.Int64("offset", offset), slog.Any("error", err))
		})
	if err != nil {
		return nil, err
	}
	c, err := open(ctx, o, journal)
	if err != nil {
		return nil, err
	}
	c.Consumers().restoreConfigs(o.Topics.Metadata())
	c.Consumers().follow(o.Topics)
	return c, nil
}

func open(ctx context.Context, o Options, j journal) (*Coordinator, error) {
	c := &Coordinator{
		log:              cmp.Or(o.Logger, slog.Default()),
		journal:          j,
		initialDelay:     o.InitialRebalanceDelay,
		minSession:       cmp.Or(o.MinSessionTimeout, defaultMinSessionTimeout),
		maxSession:       cmp.Or(o.MaxSessionTimeout, defaultMaxSessionTimeout),
		offsetsRetention: cmp.Or(o.OffsetsRetention, defaultOffsetsRetention),
		maxGroupSize:     cmp.Or(o.MaxGroupSize, defaultMaxGroupSize),
		room:             room{limit: cmp.Or(o.MaxBytes, defaultMaxBytes), groups: cmp.Or(o.MaxGroups, defaultMaxGroups)},
		consumerInterval: cmp.Or(o.ConsumerHeartbeatInterval, defaultConsumerInterval),
		consumerSession:  cmp.Or(o.ConsumerSessionTimeout, defaultConsumerSession),
		migration:        cmp.Or(o.Migration, migrationDefault),
		groups:           map[string]*anyGroup{},
	}
	if err := checkSettings(c); err != nil {
		return nil, err
	}
	for shard := range j.shards() {
		end, err := j.replay(ctx, shard, func(e entry) { c.replayed(shard, e) })
		if err != nil {
			return nil, err
		}
		for _, g := range c.groups {
			if g.shard == shard {
				g.appended = end
			}
		}
	}
	for _, g := range c.groups {
		g.restore()
		if g.unused() {
			g.charge(-g.bytes)
			delete(c.groups, g.id)
			continue
		}
		g.weigh(&g.roster)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.background.Go(c.expireLoop)
	return c, nil
}

func (c *Coordinator) replayed(shard int, e entry) {
	if c.transactions.replayed(c.groups, shard, &e) {
		return
	}
	g := c.groups[e.group]
	if g == nil {
		g = newGroup(c, e.group, shard)
		c.groups[e.group] = g
	}
	g.apply(e)
}

// with runs f on a group with its lock held. A group that does not exist is
// made if create says so, else the caller is no member of it.
func (c *Coordinator) with(id string, create bool, f func(*anyGroup) error) error {
	for {
		g, err := c.lookup(id, create)
		if err != nil {
			return err
		}
		if g == nil {
			return fmt.Errorf("%w: group %q does not exist", ErrUnknownMember, id)
		}
		g.mu.Lock()
		if g.state == StateDead { // buried between lookup and lock
			g.mu.Unlock()
			continue
		}
		err = f(g)
		g.mu.Unlock()
		return err
	}
}

func (c *Coordinator) lookup(id string, create bool) (*anyGroup, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	g := c.groups[id]
	if g == nil && create {
		if err := c.room.checkNew(id, len(c.groups)); err != nil {
			return nil, err
		}
		g = newGroup(c, id, shardOf(id, c.journal.shards()))
		c.groups[id] = g
	}
	return g, nil
}

// forget takes a dead group off the map; its lock is held.
func (c *Coordinator) forget(g *anyGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups[g.id] == g {
		delete(c.groups, g.id)
	}
}

// all returns the present groups, by name.
func (c *Coordinator) all() []*anyGroup {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*anyGroup, 0, len(c.groups))
	for _, g := range c.groups {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *anyGroup) int { return cmp.Compare(a.id, b.id) })
	return all
}

// shardOf is how Kafka finds a group's partition of __consumer_offsets: the
// absolute value of Java's String.hashCode (0 for the one that has none), modulo
// the count.
func shardOf(group string, shards int) int {
	var h int32
	for _, r := range group {
		if r > 0xffff { // two UTF-16 units
			r -= 0x10000
			h = h*31 + (0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = h*31 + r
	}
	if h == math.MinInt32 {
		return 0
	}
	return int(max(h, -h)) % shards
}

// Describe tells the present state of a classic group; ErrGroupNotFound if there is none.
func (c *Coordinator) Describe(group string) (Description, error) {
	g, err := c.lookup(group, false)
	if err != nil {
		return Description{}, err
	}
	if g == nil {
		return Description{}, fmt.Errorf("%w: %q", ErrGroupNotFound, group)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.consumer != nil {
		return Description{}, fmt.Errorf("%w: %q is not a classic group", ErrGroupNotFound, group)
	}
	d := Description{
		Group: g.id, State: g.state.String(), ProtocolType: g.protocolType, Protocol: g.protocol,
		Generation: g.generation,
	}
	for _, m := range g.byArrival() {
		metadata, _ := m.offers(g.protocol)
		d.Members = append(d.Members, MemberDescription{
			MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
			Metadata: metadata, Assignment: m.assignment,
		})
	}
	return d, nil
}

// List returns all groups, by name.
func (c *Coordinator) List() []Listing {
	groups := c.all()
	list := make([]Listing, 0, len(groups))
	for _, g := range groups {
		g.mu.Lock()
		if g.state != StateDead {
			list = append(list, g.listing())
		}
		g.mu.Unlock()
	}
	return list
}

// Close answers everybody who waits with ErrClosed, stops all timers and waits
// for the commits in flight. Offsets that were committed stay.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	for _, g := range c.all() {
		g.mu.Lock()
		for _, m := range g.byArrival() {
			g.dropMember(m, ErrClosed)
		}
		g.bury()
		g.mu.Unlock()
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
		return fmt.Errorf("close the group coordinator: commits are still waiting for the disk: %w", ctx.Err())
	}
}
