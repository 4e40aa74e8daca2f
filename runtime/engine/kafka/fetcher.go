package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/runtime/engine"
)

const (
	// fetchPartitionBytes is about how much of a partition one answer holds, unless a single batch is larger.
	fetchPartitionBytes = 1 << 20
	// fetchBytes is about how much one answer holds.
	fetchBytes = 16 << 20
	// bufferBytes is how much of a partition may wait for its session before no more is asked for.
	bufferBytes = fetchPartitionBytes
	// fetchWait is how long a broker waits for something to tell. It is short while a session is busy with what
	// it has (busyTime): its partition is missing from the request, and has to be in the next one soon.
	fetchWait     = 5 * time.Second
	fetchWaitBusy = 10 * time.Millisecond
	busyTime      = time.Second
)

// feed is what was read of one partition and not yet taken. All fields but tp and wake are the fetcher's.
type feed struct {
	tp     engine.TopicPartition
	topic  topicID       // of which it is a partition; zero: of whichever has the name
	wake   chan struct{} // something has come
	leader int32         // -1: to be looked up
	epoch  int32         // of leader
	next   int64         // where to read on
	end    int64         // last stable offset, as far as is known
	seeks  int           // answers to what was asked before the last one are dropped
	astray bool          // next is outside the log: backInRange is at it
	chunks []chunk
	bytes  int
	taken  time.Time // when its session last took something
	// unknown is since when no broker that was asked knows the topic: some hear of it late. Zero: it is known.
	unknown time.Time
	err     error // what the session is told instead
}

// fetcher reads partitions from the brokers that lead them, a reader for each broker.
type fetcher struct {
	c       *cluster
	hear    func(ctx context.Context, topic string) bool // cluster.hear
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	lost    chan struct{} // there are feeds without a leader

	mu      sync.Mutex
	feeds   map[engine.TopicPartition]*feed
	readers map[int32]*reader
}

// reader asks one broker.
type reader struct {
	f    *fetcher
	node int32
	kick chan struct{}
	// Guarded by f.mu: interrupt ends a request that waits, whose connection is lost then; long says that it may wait for long.
	interrupt context.CancelFunc
	long      bool
}

func newFetcher(c *cluster, log *slog.Logger) *fetcher {
	f := &fetcher{c: c, hear: c.hear, log: log, lost: make(chan struct{}, 1), feeds: map[engine.TopicPartition]*feed{}, readers: map[int32]*reader{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.running.Go(f.locate)
	return f
}

func (f *fetcher) close() {
	f.cancel()
	f.running.Wait()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add begins to read a partition from offset on.
func (f *fetcher) add(tp engine.TopicPartition, offset int64) *feed {
	return f.addTo(tp, offset, make(chan struct{}, 1))
}

// addTo is add with a wake that several feeds may have in common.
func (f *fetcher) addTo(tp engine.TopicPartition, offset int64, wake chan struct{}) *feed {
	return f.begin(&feed{tp: tp, wake: wake, leader: -1, next: offset})
}

// addOf is add for a partition of the topic that has the id: if another one has the name, the session is told so.
func (f *fetcher) addOf(tp engine.TopicPartition, topic topicID, offset int64) *feed {
	return f.begin(&feed{tp: tp, topic: topic, wake: make(chan struct{}, 1), leader: -1, next: offset})
}

func (f *fetcher) begin(x *feed) *feed {
	f.mu.Lock()
	f.feeds[x.tp] = x
	f.mu.Unlock()
	signal(f.lost)
	return x
}

// remove ends the reading of a partition.
func (f *fetcher) remove(x *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.feeds[x.tp] == x {
		delete(f.feeds, x.tp)
	}
	x.chunks, x.bytes, x.seeks = nil, 0, x.seeks+1
}

// seek drops what was read and goes on from offset.
func (f *fetcher) seek(x *feed, offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x.seeks++
	x.next, x.chunks, x.bytes, x.err = offset, nil, 0, nil
	f.hurry(x)
}

// hurry sees to it that a feed is asked for now, not after a request that waits; f.mu is held.
func (f *fetcher) hurry(x *feed) {
	if r := f.readers[x.leader]; r != nil {
		if r.interrupt != nil {
			r.interrupt()
		}
		signal(r.kick)
	}
}

// take returns the next batch of a feed, if it has no more than most bytes, and where to read on behind it. A nil batch
// with ok moves the position only: there are no records before next.
func (f *fetcher) take(x *feed, most int) (b *readBatch, next int64, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.err != nil {
		err, x.err = x.err, nil
		if r := f.readers[x.leader]; r != nil {
			signal(r.kick)
		}
		return nil, 0, false, err
	}
	if len(x.chunks) == 0 {
		return nil, 0, false, nil
	}
	c := &x.chunks[0]
	next = c.next
	if len(c.batches) > 0 {
		if b = &c.batches[0]; len(b.bytes) > most {
			return nil, 0, false, nil
		}
		c.batches = c.batches[1:]
		x.bytes -= len(b.bytes)
		if len(c.batches) > 0 {
			next = b.header.LastOffset() + 1
		}
		x.taken = time.Now()
		if r := f.readers[x.leader]; r != nil && x.bytes < bufferBytes && x.bytes+len(b.bytes) >= bufferBytes {
			if r.long {
				f.hurry(x) // what is asked for now does not include this partition
			}
			signal(r.kick)
		}
	}
	if len(c.batches) == 0 {
		x.chunks = x.chunks[1:]
	}
	return b, next, true, nil
}

// more reports whether there are records that were not taken yet, as far as is known.
func (f *fetcher) more(x *feed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return x.bytes > 0 || x.next < x.end
}

// locate finds out who leads the feeds without a leader, now and whenever one is lost.
func (f *fetcher) locate() {
	for {
		select {
		case <-f.lost:
		case <-f.ctx.Done():
			return
		}
		var p pauses
		for !f.lookup() {
			if p.wait(f.ctx) != nil {
				return
			}
		}
		// One that says at once that it is not the leader, or not yet, has a moment to hear of what has changed.
		if sleep(f.ctx, lookupPause) != nil {
			return
		}
	}
}

// lookupPause is between two searches for leaders.
const lookupPause = 20 * time.Millisecond

// lookup reports whether all feeds have a leader.
func (f *fetcher) lookup() bool {
	topics := map[string]bool{}
	var names []string
	f.mu.Lock()
	for tp, x := range f.feeds {
		if x.leader < 0 && !topics[tp.Topic] {
			topics[tp.Topic] = true
			names = append(names, tp.Topic)
		}
	}
	f.mu.Unlock()
	if len(names) == 0 {
		return true
	}
	found, err := f.c.metadata(f.ctx, names)
	if err != nil {
		f.log.Debug("no news of who leads the inputs", slog.Any("topics", names), slog.Any("error", err))
		return false
	}
	all := true
	f.mu.Lock()
	defer f.mu.Unlock()
	for tp, x := range f.feeds {
		info, ok := found[tp.Topic]
		switch {
		case x.leader >= 0 || !topics[tp.Topic]:
			continue
		case !ok && x.unknown.IsZero():
			x.unknown = time.Now()
		case !ok && time.Since(x.unknown) > hearsayTime:
			x.err = fmt.Errorf("%w: %q", engine.ErrUnknownTopic, tp.Topic)
			signal(x.wake)
		case !ok:
		case x.topic.differs(info.id):
			x.err = fmt.Errorf("%w: %q", errInputRemade, tp.Topic)
			signal(x.wake)
		case int(tp.Partition) < len(info.leaders):
			l := info.leaders[tp.Partition]
			x.leader, x.epoch, x.unknown = l.node, l.epoch, time.Time{}
		}
		if x.leader < 0 {
			all = false
			continue
		}
		r := f.readers[x.leader]
		if r == nil {
			r = &reader{f: f, node: x.leader, kick: make(chan struct{}, 1)}
			f.readers[x.leader] = r
			f.running.Go(r.run)
		}
		f.hurry(x)
	}
	return all
}

// run asks until the fetcher is closed.
func (r *reader) run() {
	var p pauses
	for {
		req, asked := r.request()
		if len(asked) == 0 {
			select {
			case <-r.kick:
				continue
			case <-r.f.ctx.Done():
				return
			}
		}
		ctx, cancel := context.WithCancel(r.f.ctx)
		r.f.mu.Lock()
		r.interrupt, r.long = cancel, req.MaxWaitMillis >= int32(fetchWait.Milliseconds())
		r.f.mu.Unlock()
		response, err := r.f.c.client.Broker(int(r.node)).Request(ctx, req)
		r.f.mu.Lock()
		r.interrupt, r.long = nil, false
		r.f.mu.Unlock()
		interrupted := ctx.Err() != nil
		cancel()
		switch {
		case r.f.ctx.Err() != nil:
			return
		case interrupted:
		case err != nil:
			r.f.log.Debug("broker does not answer", slog.Int("node", int(r.node)), slog.Any("error", err))
			r.f.lose(asked)
			if p.wait(r.f.ctx) != nil {
				return
			}
		default:
			p = pauses{}
			r.answered(asked, response.(*kmsg.FetchResponse))
		}
	}
}

// question is a feed as it was when it was asked for.
type question struct {
	x     *feed
	seeks int
	from  int64
	epoch int32
}

// request asks for all feeds of this broker that have room.
func (r *reader) request() (*kmsg.FetchRequest, map[engine.TopicPartition]question) {
	asked := map[engine.TopicPartition]question{}
	wait := fetchWait
	var partitions []engine.TopicPartition
	r.f.mu.Lock()
	for tp, x := range r.f.feeds {
		switch {
		case x.leader != r.node, x.astray, x.err != nil: // the session has to be told first
		case x.topic.differs(r.f.c.id(tp.Topic)):
			x.leader = -1
			signal(r.f.lost)
		case x.bytes < bufferBytes:
			asked[tp] = question{x, x.seeks, x.next, x.epoch}
			partitions = append(partitions, tp)
		case time.Since(x.taken) < busyTime:
			wait = fetchWaitBusy
		}
	}
	r.f.mu.Unlock()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = int32(wait.Milliseconds()), 1, fetchBytes, 1
	byTopic(partitions, func(topic string, numbers []int32) {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = topic, r.f.c.id(topic)
		for _, n := range numbers {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.PartitionMaxBytes = n, fetchPartitionBytes
			q := asked[engine.TopicPartition{Topic: topic, Partition: n}]
			p.FetchOffset, p.CurrentLeaderEpoch = q.from, q.epoch
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	})
	return req, asked
}

// lose takes the leader of feeds for unknown.
func (f *fetcher) lose(asked map[engine.TopicPartition]question) {
	f.mu.Lock()
	for _, q := range asked {
		q.x.leader = -1
	}
	f.mu.Unlock()
	signal(f.lost)
}

// answered hands an answer to the feeds.
func (r *reader) answered(asked map[engine.TopicPartition]question, answer *kmsg.FetchResponse) {
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		r.f.lose(asked)
		return
	}
	total := 0
	for _, t := range answer.Topics {
		for i := range t.Partitions {
			total += len(t.Partitions[i].RecordBatches)
		}
	}
	for _, t := range answer.Topics {
		name := r.f.c.name(t.Topic, t.TopicID)
		for i := range t.Partitions {
			p := &t.Partitions[i]
			q, ok := asked[engine.TopicPartition{Topic: name, Partition: p.Partition}]
			if !ok {
				continue
			}
			if len(p.RecordBatches) < total/2 {
				// A few bytes that wait for long must not keep the whole answer.
				p.RecordBatches = append([]byte(nil), p.RecordBatches...)
			}
			r.f.accept(q, p)
		}
	}
}

// accept takes what was said of one partition.
func (f *fetcher) accept(q question, p *kmsg.FetchResponseTopicPartition) {
	switch err := kerr.ErrorForCode(p.ErrorCode); {
	case err == nil:
	case errors.Is(err, kerr.OffsetOutOfRange):
		f.mu.Lock()
		q.x.astray = true
		f.mu.Unlock()
		f.running.Go(func() { f.backInRange(q) }) // others of the same broker are read meanwhile
		return
	case kerr.IsRetriable(err):
		f.c.moved(q.x.tp.Topic)
		f.lose(map[engine.TopicPartition]question{q.x.tp: q})
		return
	default:
		f.deliver(q, chunk{next: q.from}, 0, explain(fmt.Errorf("read %s-%d from offset %d: %w", q.x.tp.Topic, q.x.tp.Partition, q.from, err)))
		return
	}
	c, err := split(p.RecordBatches, q.from, abortedOf(p))
	if err != nil {
		err = explain(fmt.Errorf("read %s-%d: batch at offset %d: %w", q.x.tp.Topic, q.x.tp.Partition, c.next, corrupt(err)))
	}
	f.deliver(q, c, p.LastStableOffset, err)
}

// corrupt makes bytes that are no batches the engine's error.
func corrupt(err error) error {
	if errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrTruncated) || errors.Is(err, record.ErrTooLarge) {
		return fmt.Errorf("%w: %w", engine.ErrCorrupt, err)
	}
	return err
}

// deliver appends a chunk to its feed, unless that has been sent elsewhere since, or has the answer already.
func (f *fetcher) deliver(q question, c chunk, end int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := q.x
	if x.seeks != q.seeks || x.next != q.from {
		return
	}
	x.end = max(end, 0)
	if c.next != x.next {
		x.next = c.next
		x.chunks = append(x.chunks, c)
		x.bytes += c.bytes()
	}
	if err != nil && len(c.batches) == 0 {
		x.err = err // what came before is read first
	}
	if c.next != q.from || err != nil {
		signal(x.wake)
	}
}
