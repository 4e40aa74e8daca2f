package topic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
)

// leaderEpoch is constant: a single node never loses the leadership.
const leaderEpoch = 0

// Partition is a live partition.
type Partition struct {
	topic   string
	topicID ID
	index   int32
	checker *checker
	log     *commitlog.Log
	waiters waiters
	stats   Stats

	damage error // why the partition is offline; then it has no log

	settings atomic.Pointer[settings]
	deleted  atomic.Bool

	appending sync.Mutex // orders appends and guards producers; the log's own lock is below it
	producers *producers

	transactions transactions
}

// Stats count what went through a partition since it was opened.
type Stats struct {
	AppendedBytes, AppendedRecords, ReadBytes atomic.Int64
}

func (t *Topics) openPartition(ctx context.Context, info Info, index int32, s *settings, clean bool) (*Partition, error) {
	log, err := commitlog.Open(ctx, commitlog.Options{
		FS:     t.o.FS,
		Dir:    t.layout.partition(info.Name, index),
		Config: s.log,
		Logger: t.logger,
		Clean:  clean,

		Reserve: t.o.Reserve,
	})
	if err != nil {
		return nil, fmt.Errorf("open partition %s-%d: %w", info.Name, index, err)
	}
	producers, err := openProducers(ctx, t.o.FS, t.layout.partition(info.Name, index), log, t.logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open partition %s-%d: %w", info.Name, index, err), log.Close(context.WithoutCancel(ctx)))
	}
	p := &Partition{topic: info.Name, topicID: info.ID, index: index, checker: t.checker, log: log, producers: producers}
	p.settings.Store(s)
	producers.state.Enter(t.producers)
	p.transactions.publish(producers.state)
	return p, nil
}

// Topic is the name of the topic.
func (p *Partition) Topic() string { return p.topic }

// TopicID is the id of the topic.
func (p *Partition) TopicID() ID { return p.topicID }

// Index is the number of the partition in its topic, from 0.
func (p *Partition) Index() int32 { return p.index }

// Deleted reports whether the topic was deleted. It does so before Topics.Delete returns.
func (p *Partition) Deleted() bool { return p.deleted.Load() }

// Stats are the counters of the partition.
func (p *Partition) Stats() *Stats { return &p.stats }

// Append writes whole batches at the end of the log: one from a client, one
// or more from the broker itself, among them the markers that end transactions. Base offsets, epoch and what the topic's
// timestamp type asks for are written into them in place; the slice is not
// kept. Readers that wait are woken.
func (p *Partition) Append(ctx context.Context, batches []byte, from Origin) (Appended, error) {
	if err := ctx.Err(); err != nil {
		return Appended{}, err
	}
	s := p.settings.Load()
	now := time.Now()
	var first record.Header // of the only batch, if it is a client's
	records, transactional := int64(0), false
	var err error
	if from == FromBroker {
		first.ProducerID = -1
		records, transactional, err = brokerBatches(batches, s)
	} else {
		first, err = p.checker.clientBatch(batches, s, now)
		records, transactional = int64(first.Count), first.Transactional()
		if err == nil && transactional && from != FromTransaction {
			err = fmt.Errorf("%w: batch of producer %d for %s-%d", ErrNoTransaction, first.ProducerID, p.topic, p.index)
		}
	}
	if err != nil {
		return Appended{}, err
	}
	if s.recompress {
		var release func()
		if batches, release, err = p.checker.recompress(batches, s); err != nil {
			return Appended{}, err
		}
		defer release()
	}
	out := Appended{}
	if s.logAppendTime {
		out.LogAppendTime = now.Truncate(time.Millisecond)
		p.checker.stamp(batches, now.UnixMilli())
	}
	written, err := p.write(&out, batches, &first, transactional, now)
	if err != nil {
		return Appended{}, p.explain(err)
	}
	out.LogStart = p.log.Bounds().Start
	if written {
		p.stats.AppendedBytes.Add(int64(len(batches)))
		p.stats.AppendedRecords.Add(records)
		p.waiters.wake()
	}
	return out, nil
}

// write appends batches, unless the log has them already: then it says where.
func (p *Partition) write(out *Appended, batches []byte, first *record.Header, transactional bool, now time.Time) (written bool, err error) {
	p.appending.Lock()
	defer p.appending.Unlock()
	before, duplicate, err := p.producers.state.Check(first)
	if err != nil {
		return false, err
	}
	if duplicate {
		out.BaseOffset, out.LastOffset = before.BaseOffset, before.LastOffset
		return false, nil
	}
	if transactional {
		p.transactions.hold(p.log.Bounds().End)
		defer p.transactions.publish(p.producers.state)
	}
	at, err := p.log.Append(batches, leaderEpoch)
	if err != nil {
		return false, err
	}
	out.BaseOffset, out.LastOffset = at.BaseOffset, at.LastOffset
	p.producers.appended(batches, now)
	return true, nil
}

// brokerBatches counts the records of batches that this process built and
// holds each to the topic's size; a transaction must be able to end, whatever the size.
func brokerBatches(b []byte, s *settings) (records int64, transactional bool, err error) {
	for len(b) > 0 {
		h, err := record.ParseHeader(b)
		if err != nil {
			return 0, false, err
		}
		if int64(h.Size()) > s.maxMessageBytes && !h.Control() {
			return 0, false, fmt.Errorf("%w: batch of %d bytes, %s is %d", ErrMessageTooLarge, h.Size(), ConfigMaxMessageBytes, s.maxMessageBytes)
		}
		records += int64(h.Count)
		transactional = transactional || h.Transactional()
		b = b[h.Size():]
	}
	return records, transactional, nil
}

// stamp gives all batches the time of the append.
func (c *checker) stamp(b []byte, nowMillis int64) {
	for len(b) > 0 {
		h, err := record.ParseHeader(b)
		if err != nil {
			return // checked before: every batch has a header
		}
		c.setTimestamps(b, &h, true, nowMillis)
		b = b[h.Size():]
	}
}

// WaitDurable returns once all records below offset survive a power cut.
func (p *Partition) WaitDurable(ctx context.Context, offset int64) error {
	return p.explain(p.log.WaitDurable(ctx, offset))
}

// WriteOut has the disk begin with what has been appended, so that a
// WaitDurable to come waits for less.
func WriteOut(p *Partition) { commitlog.WriteOut(p.log) }

// Read appends whole batches to dst, from the one that holds o.Offset. An
// offset equal to the readable end reads nothing; before the start or beyond
// the end it is commitlog.ErrOffsetOutOfRange.
func (p *Partition) Read(dst []byte, o ReadOptions) ([]byte, error) {
	if p.deleted.Load() {
		return dst, p.gone()
	}
	limits := p.Offsets()
	end := limits.HighWatermark
	if o.Committed {
		end = limits.LastStable
	}
	// An offset between the last stable offset and the high watermark is a
	// right place to wait at, not out of range.
	if o.Offset < limits.LogStart || o.Offset > limits.HighWatermark {
		return dst, fmt.Errorf("%w: offset %d of %s-%d, which has %d to %d", commitlog.ErrOffsetOutOfRange,
			o.Offset, p.topic, p.index, limits.LogStart, limits.HighWatermark)
	}
	if o.Offset >= end {
		return dst, nil
	}
	before := len(dst)
	dst, err := p.log.Read(dst, o.Offset, o.MaxBytes, end)
	if err != nil {
		return dst[:before], p.explain(err)
	}
	p.stats.ReadBytes.Add(int64(len(dst) - before))
	return dst, nil
}

// Offsets are the present positions.
func (p *Partition) Offsets() Offsets {
	b := p.log.Bounds() // first: a transaction that begins later lies behind this end
	o := Offsets{LogStart: b.Start, HighWatermark: b.End, LastStable: b.End, LogEnd: b.End}
	if open := p.transactions.open.Load(); open > 0 {
		o.LastStable = max(b.Start, min(b.End, open-1))
	}
	return o
}

// Notify calls for a non-blocking send on ch at every change of what can be
// read (append, records deleted, deletion of the topic), until cancel.
func (p *Partition) Notify(ch chan<- struct{}) (cancel func()) { return p.waiters.add(ch) }

// OffsetForTimestamp finds the first record with a timestamp of at least ts (ms); ok is false if there is none.
func (p *Partition) OffsetForTimestamp(ts int64) (offset, timestamp int64, ok bool, err error) {
	offset, timestamp, ok, err = p.log.OffsetForTimestamp(ts)
	return offset, timestamp, ok, p.explain(err)
}

// MaxTimestamp finds the record with the largest timestamp; -1, -1 if the log is empty.
func (p *Partition) MaxTimestamp() (offset, timestamp int64, err error) {
	offset, timestamp, err = p.log.MaxTimestamp()
	return offset, timestamp, p.explain(err)
}

// DeleteRecords makes the records below before unreadable, for good; -1 means all there are. It returns the new start.
func (p *Partition) DeleteRecords(before int64) (logStart int64, err error) {
	b := p.log.Bounds()
	if before == -1 {
		before = b.End
	}
	if before < 0 || before > b.End {
		return -1, fmt.Errorf("%w: delete before %d, %s-%d ends at %d", commitlog.ErrOffsetOutOfRange, before, p.topic, p.index, b.End)
	}
	if before > b.Start {
		if err := p.log.AdvanceStart(before); err != nil {
			return -1, p.explain(err)
		}
		p.waiters.wake()
	}
	return p.log.Bounds().Start, nil
}

// LeaderEpoch is the epoch of the leadership, constant on a single node.
func (p *Partition) LeaderEpoch() int32 { return leaderEpoch }

// EpochEnd returns the largest epoch not above epoch and the offset behind its last record; -1, -1 if there is none.
func (p *Partition) EpochEnd(epoch int32) (endEpoch int32, endOffset int64) {
	if epoch < 0 {
		return -1, -1
	}
	if epoch >= leaderEpoch {
		return leaderEpoch, p.log.Bounds().End
	}
	return p.log.EpochEnd(epoch)
}

// SizeBytes is the size of the log on disk.
func (p *Partition) SizeBytes() int64 { return p.log.SizeBytes() }

func (p *Partition) configure(s *settings) {
	if p.damage != nil {
		return
	}
	p.settings.Store(s)
	p.log.SetConfig(s.log)
}

// remove takes the partition out of service and deletes its files.
func (p *Partition) remove() error {
	p.deleted.Store(true)
	if p.damage != nil {
		return nil // the files go with the topic's
	}
	err := p.log.Remove()
	p.waiters.wake()
	p.appending.Lock()
	p.producers.state.Leave()
	p.appending.Unlock()
	return err
}

func (p *Partition) close(ctx context.Context) error {
	err := errors.Join(p.saveProducers(true), p.log.Close(ctx))
	p.waiters.wake()
	if err != nil {
		return fmt.Errorf("close partition %s-%d: %w", p.topic, p.index, err)
	}
	return nil
}

// explain tells a log that was closed because its topic was deleted from one closed with the broker.
func (p *Partition) explain(err error) error {
	if err != nil && p.deleted.Load() && errors.Is(err, commitlog.ErrClosed) {
		return p.gone()
	}
	return err
}

func (p *Partition) gone() error { return fmt.Errorf("%w: %q was deleted", ErrUnknownTopic, p.topic) }
