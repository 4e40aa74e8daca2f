package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

const (
	// aheadBytes is how much may wait to be acknowledged before Produce waits too.
	aheadBytes = 4 << 20
	// requestBytes is about how much one produce request holds; brokers refuse those beyond
	// socket.request.max.bytes (100 MiB).
	requestBytes = 8 << 20
	// produceTimeout is how long a broker waits for its replicas.
	produceTimeout = 10 * time.Second
	// sendTimeout is how long batches are sent again before the caller is told.
	sendTimeout = 30 * time.Second
)

// writer is one producer: idempotent, and with a transactional id transactional. It writes ahead: full
// batches are sent while the next ones are being filled, one request for each broker at
// a time, so that sequences arrive in order. It is used by one goroutine.
type writer struct {
	c        *cluster
	txn      string // transactional id; "" = none
	implicit bool
	timeout  time.Duration // of a transaction
	outputs  *outputs

	id     int64
	epoch  int16
	doomed error // why the open transaction can only be aborted

	base    context.Context // of the writer's life
	ctx     context.Context // of what is sent
	cancel  context.CancelFunc
	sending sync.WaitGroup

	mu          sync.Mutex
	queue       []*outputPartition // with finished batches
	queuedBytes int
	active      bool          // drain runs
	idle        chan struct{} // closed when drain ends
	failed      error         // of the last drain
	began       bool          // something was sent, or may have been, in the open transaction
	touched     bool          // something of it may have been written
	first       place         // of the first batch of it that was acknowledged
	room        chan struct{} // closed and replaced when batches are acknowledged
}

// place is where a batch is in the log.
type place struct {
	tp     engine.TopicPartition
	offset int64
}

func newWriter(base context.Context, c *cluster, txn string, implicit bool, timeout time.Duration, inputPartition int32) *writer {
	w := &writer{base: base, c: c, txn: txn, implicit: implicit, timeout: timeout, id: -1, epoch: -1, room: make(chan struct{})}
	w.outputs = newOutputs(w, inputPartition)
	w.ctx, w.cancel = context.WithCancel(w.base)
	return w
}

func (w *writer) transactional() bool { return w.txn != "" }

// claim initialises the producer, whoever had it: others are fenced, what they left open is ended.
func (w *writer) claim(ctx context.Context) error {
	w.id, w.epoch = -1, -1
	return w.initialise(ctx)
}

// initialise gets a new epoch, which ends what is open, if the producer is still the one it was: if
// not, the error is engine.ErrFenced.
func (w *writer) initialise(ctx context.Context) error {
	w.stop()
	w.outputs.drop()
	w.doomed = fmt.Errorf("%w: its producer has no epoch yet", engine.ErrAborted)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = -1, -1
	if w.transactional() {
		req.TransactionalID, req.TransactionTimeoutMillis = &w.txn, int32(w.timeout.Milliseconds())
		req.ProducerID, req.ProducerEpoch = w.id, w.epoch // KIP-360
	}
	err := retry(ctx, sendTimeout, func() error {
		answer, err := req.RequestWith(ctx, w.c.client)
		if err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		if err == nil {
			w.id, w.epoch = answer.ProducerID, answer.ProducerEpoch
		}
		return err
	})
	if err != nil {
		return explain(fmt.Errorf("initialise producer %q: %w", w.txn, err))
	}
	w.mu.Lock()
	w.began, w.touched, w.first, w.failed = false, false, place{}, nil
	w.mu.Unlock()
	w.doomed = nil
	w.ctx, w.cancel = context.WithCancel(w.base)
	return nil
}

// stop ends what is being sent; it may have been written, or not.
func (w *writer) stop() {
	w.cancel()
	w.sending.Wait()
}

// produce encodes outputs, and waits when too much is waiting already.
func (w *writer) produce(ctx context.Context, o abi.Outputs, scratch *abi.Output) error {
	for o.Next(scratch) {
		if err := w.outputs.add(ctx, scratch); err != nil {
			return err
		}
	}
	return w.waitForRoom(ctx)
}

func (w *writer) waitForRoom(ctx context.Context) error {
	for {
		w.mu.Lock()
		full, failed, room := w.queuedBytes > aheadBytes, w.failed, w.room
		active := w.active
		w.mu.Unlock()
		switch {
		case !full:
			return nil
		case failed != nil && !active:
			return failed
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enqueue takes over a finished batch.
func (w *writer) enqueue(p *outputPartition, batch []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.finished = append(p.finished, finished{batch, p.topic.id})
	if !p.queued {
		p.queued = true
		w.queue = append(w.queue, p)
	}
	w.queuedBytes += len(batch)
	w.kick()
}

// kick begins to send, if nothing is being sent; w.mu is held.
func (w *writer) kick() {
	if w.active || len(w.queue) == 0 || w.ctx.Err() != nil {
		return
	}
	w.active, w.began, w.failed = true, true, nil
	w.idle = make(chan struct{})
	ctx := w.ctx
	w.sending.Go(func() { w.drain(ctx) })
}

// flush sends everything and waits until it is acknowledged. After an error it may be called again.
func (w *writer) flush(ctx context.Context) error {
	w.outputs.finishAll()
	w.mu.Lock()
	w.kick()
	active, idle := w.active, w.idle
	w.mu.Unlock()
	if active {
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil
	}
	if w.failed == nil {
		return fmt.Errorf("%w: %d bytes were not sent", engine.ErrStorage, w.queuedBytes)
	}
	return w.failed
}

// drain sends until there is nothing left, or nothing goes any more.
func (w *writer) drain(ctx context.Context) {
	began := time.Now()
	var p pauses
	var err error
	for {
		w.mu.Lock()
		if len(w.queue) == 0 || err != nil {
			w.failed, w.active = explain(err), false
			close(w.idle)
			w.wakeRoom()
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		progress, failed := w.round(ctx)
		switch {
		case progress:
			began, p = time.Now(), pauses{}
		case failed == nil:
		case ctx.Err() != nil || !again(failed, time.Since(began), sendTimeout):
			err = failed
		case p.wait(ctx) != nil:
			err = failed
		}
	}
}

// wakeRoom tells who waits for room; w.mu is held.
func (w *writer) wakeRoom() {
	close(w.room)
	w.room = make(chan struct{})
}

// sent is a batch on its way.
type sent struct {
	p *outputPartition
	finished
}

// errRemade: a topic was made anew after outputs were given to its partitions. They are not written to the one that has
// its name now, whose partitions are others.
var errRemade = fmt.Errorf("%w: a topic that was written to was made anew", engine.ErrAborted)

// round sends the first batch of each partition and reports whether any was acknowledged; err is what
// one of the others met.
func (w *writer) round(ctx context.Context) (progress bool, err error) {
	var first []sent
	size := 0
	w.mu.Lock()
	for _, p := range w.queue {
		if f := p.finished[0]; size == 0 || size+len(f.batch) <= requestBytes {
			first = append(first, sent{p, f})
			size += len(f.batch)
		}
	}
	w.mu.Unlock()
	if w.transactional() && !w.implicit {
		if err := w.addPartitions(ctx, first); err != nil {
			return false, err
		}
	}
	byLeader := map[int32][]sent{}
	for _, s := range first {
		leader, err := w.c.leader(ctx, s.p.tp)
		if err != nil {
			return false, err
		}
		if w.c.id(s.p.tp.Topic) != s.topic {
			return false, fmt.Errorf("%w: %q", errRemade, s.p.tp.Topic)
		}
		byLeader[leader.node] = append(byLeader[leader.node], s)
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for leader, batches := range byLeader {
		asking.Go(func() {
			acknowledged, failed := w.send(ctx, leader, batches)
			mu.Lock()
			defer mu.Unlock()
			progress = progress || acknowledged > 0
			if err == nil || passing(err) && failed != nil {
				err = failed // one that does not pass counts more
			}
		})
	}
	asking.Wait()
	return progress && (err == nil || passing(err)), err
}

// send sends one request and takes off the queue what was acknowledged.
func (w *writer) send(ctx context.Context, leader int32, batches []sent) (acknowledged int, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(produceTimeout.Milliseconds())
	if w.transactional() {
		req.TransactionID = &w.txn
	}
	waiting := map[engine.TopicPartition]sent{}
	topics := map[string]int{}
	names := map[topicID]string{}
	for _, s := range batches {
		waiting[s.p.tp] = s
		i, ok := topics[s.p.tp.Topic]
		if !ok {
			i = len(req.Topics)
			topics[s.p.tp.Topic] = i
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = s.p.tp.Topic, s.topic
			names[s.topic] = s.p.tp.Topic
			req.Topics = append(req.Topics, t)
		}
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = s.p.tp.Partition, s.batch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	var answer *kmsg.ProduceResponse
	if leader < 0 {
		err = kerr.LeaderNotAvailable
	} else {
		var response kmsg.Response
		if response, err = w.c.client.Broker(int(leader)).Request(ctx, req); err == nil {
			answer = response.(*kmsg.ProduceResponse)
		}
	}
	if err != nil {
		for topic := range topics {
			w.c.moved(topic) // perhaps they are led by somebody else now
		}
		w.touch()
		return 0, fmt.Errorf("write to broker %d: %w", leader, err)
	}
	for _, t := range answer.Topics {
		name := cmp.Or(t.Topic, names[t.TopicID])
		for _, rp := range t.Partitions {
			tp := engine.TopicPartition{Topic: name, Partition: rp.Partition}
			s, ok := waiting[tp]
			if !ok {
				continue
			}
			delete(waiting, tp)
			switch failed := kerr.ErrorForCode(rp.ErrorCode); {
			case failed == nil, errors.Is(failed, kerr.DuplicateSequenceNumber):
				w.acknowledge(s, rp.BaseOffset)
				acknowledged++
			default:
				w.c.moved(name)
				err = refused(s.p.tp, failed, rp.ErrorMessage)
			}
		}
	}
	if err == nil && len(waiting) > 0 {
		err = fmt.Errorf("write to broker %d: its answer leaves %d partitions out", leader, len(waiting))
	}
	if acknowledged > 0 || len(waiting) > 0 {
		w.touch()
	}
	return acknowledged, err
}

// touch notes that something was written, or may have been.
func (w *writer) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched = true
}

// refused is why a partition did not take a batch.
func refused(tp engine.TopicPartition, why error, message *string) error {
	detail := ""
	if message != nil && *message != "" {
		detail = ": " + *message
	}
	return fmt.Errorf("write to %s-%d: %w%s", tp.Topic, tp.Partition, why, detail)
}

// acknowledge takes a batch off the queue.
func (w *writer) acknowledge(s sent, offset int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == (place{}) {
		w.first = place{s.p.tp, offset}
	}
	p := s.p
	p.finished[0] = finished{}
	p.finished = p.finished[1:]
	w.queuedBytes -= len(s.batch)
	w.outputs.release(s.batch)
	if len(p.finished) == 0 {
		p.finished, p.queued = nil, false
		for i, q := range w.queue {
			if q == p {
				w.queue = append(w.queue[:i], w.queue[i+1:]...)
				break
			}
		}
	}
	w.wakeRoom()
}

// settled says that what was written without a transaction is done with.
func (w *writer) settled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.touched, w.first = false, false, place{}
}
