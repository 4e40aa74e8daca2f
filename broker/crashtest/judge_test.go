package crashtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
)

// volume is a file system and the directory in it that a broker has its data in.
type volume struct {
	vfs.FS
	dir string
}

// dataDir is the directory on disks in memory.
const dataDir = "/data"

func inMemory(disk *vfs.Mem) volume { return volume{disk, dataDir} }

func openBroker(ctx context.Context, v volume) (*broker.Broker, error) {
	return broker.Open(ctx, broker.Options{FS: v.FS, Dir: v.dir, NoAutoCreate: true,
		MaxOpenFiles: 20, Reserve: true})
}

// judge opens a broker over what a crash left and compares it with what is
// expected. Then it goes on: batches in doubt are sent again, new ones are
// acknowledged and must survive another power cut.
func (e *expectation) judge(ctx context.Context, disk volume) (err error) {
	b, err := openBroker(ctx, disk)
	if err != nil {
		return fmt.Errorf("the broker does not open: %w", err)
	}
	defer func() { err = errors.Join(err, b.Close(ctx)) }()
	if e.clusterAt <= e.at && e.clusterID != "" && b.ClusterID() != e.clusterID {
		return fmt.Errorf("cluster id %s, was %s", b.ClusterID(), e.clusterID)
	}
	if err := e.judgeTopics(b); err != nil {
		return err
	}
	if err := e.judgeOffsets(ctx, b); err != nil {
		return err
	}
	for p, l := range e.logs {
		if !e.alive(b, l.life) {
			continue
		}
		if err := l.judge(ctx, b, p); err != nil {
			return fmt.Errorf("%s-%d: %w", p.topic, p.partition, err)
		}
	}
	if err := e.judgeTransactions(ctx, b); err != nil {
		return err
	}
	if err := e.judgeMembers(ctx, b); err != nil {
		return err
	}
	id, err := b.Topics().Metadata().NewProducerID(ctx)
	if err != nil {
		return fmt.Errorf("producer id: %w", err)
	}
	for _, i := range e.ids {
		if i.at <= e.at && i.id >= id {
			return fmt.Errorf("producer id %d is given out, %d was before", id, i.id)
		}
	}
	return nil
}

// alive reports whether this life of a topic is the one that the broker has. One
// whose creation was answered with an error has no id that is known: nothing was promised about it.
func (e *expectation) alive(b *broker.Broker, l *life) bool {
	info, ok := b.Topics().Lookup(l.topic)
	return ok && l.erased > e.at && l.id == info.ID
}

func (e *expectation) judgeTopics(b *broker.Broker) error {
	for _, l := range e.lives {
		info, ok := b.Topics().Lookup(l.topic)
		mine := ok && e.alive(b, l)
		switch {
		case l.created <= e.acks && l.deleting > e.at && !mine:
			return fmt.Errorf("topic %s, which was created, is not there", l.topic)
		case l.erased <= e.at && ok && info.ID == l.id:
			return fmt.Errorf("topic %s, which was deleted, is there", l.topic)
		case !mine:
			continue
		}
		least, most := 0, 0
		for _, g := range l.partitions {
			if g.done <= e.acks {
				least = g.count
			}
			if g.begun <= e.at {
				most = g.count
			}
		}
		if info.Partitions < least || info.Partitions > most {
			return fmt.Errorf("topic %s has %d partitions, want %d to %d", l.topic, info.Partitions, least, most)
		}
		for i := range info.Partitions {
			if _, err := b.Topics().Partition(l.topic, int32(i)); err != nil {
				return fmt.Errorf("partition %s-%d is offline: %w", l.topic, i, err)
			}
		}
		if err := e.judgeConfig(b, l); err != nil {
			return err
		}
	}
	return nil
}

func (e *expectation) judgeConfig(b *broker.Broker, l *life) error {
	var allowed []string
	for _, c := range l.configs {
		if c.done <= e.acks {
			allowed = nil
		}
		if c.begun <= e.at {
			allowed = append(allowed, c.value)
		}
	}
	sure := len(l.configs) > 0 && l.configs[0].done <= e.acks
	got, own := b.Topics().ConfigValue(l.topic, topic.ConfigRetentionMillis)
	if !own {
		if sure {
			return fmt.Errorf("topic %s has lost its config", l.topic)
		}
		return nil
	}
	for _, value := range allowed {
		if value == got {
			return nil
		}
	}
	return fmt.Errorf("%s of topic %s is %s, want one of %v", topic.ConfigRetentionMillis, l.topic, got, allowed)
}

func (e *expectation) judgeOffsets(ctx context.Context, b *broker.Broker) error {
	type key struct {
		group string
		tp    group.TopicPartition
	}
	last, maybe := map[key]int64{}, map[key]map[int64]bool{}
	for _, c := range e.commits {
		if c.begun > e.at {
			continue
		}
		k := key{c.group, c.tp}
		if maybe[k] == nil {
			maybe[k] = map[int64]bool{}
			last[k] = -1
		}
		sure, possible := c.txn.committed(e.at, e.acks)
		if !possible {
			continue
		}
		if sure && c.done <= e.acks {
			last[k] = c.offset
			clear(maybe[k])
		}
		maybe[k][c.offset] = true
	}
	for k, allowed := range maybe {
		found, err := b.Groups().Offsets(ctx, k.group, nil)
		if err != nil {
			return fmt.Errorf("offsets of group %s: %w", k.group, err)
		}
		got, ok := found[k.tp]
		if _, exists := b.Topics().Lookup(k.tp.Topic); !exists && !ok {
			continue // it was never acknowledged, or it was deleted: its offsets go with it
		}
		if !ok && last[k] >= 0 {
			return fmt.Errorf("group %s has lost its offset of %v, %d", k.group, k.tp, last[k])
		}
		if ok && !allowed[got.Offset] {
			return fmt.Errorf("group %s is at %d of %v, want one of %v", k.group, got.Offset, k.tp, allowed)
		}
	}
	return nil
}

// stored is a record as it was read.
type stored struct {
	offset    int64
	id, key   string
	tombstone bool
	control   bool
}

// dump reads a partition from its start to its end.
func dump(p *topic.Partition) (bounds topic.Offsets, out []stored, err error) {
	bounds = p.Offsets()
	var buf, scratch []byte
	for at := bounds.LogStart; at < bounds.LogEnd; {
		if buf, err = p.Read(buf[:0], topic.ReadOptions{Offset: at, MaxBytes: 1 << 20}); err != nil {
			return bounds, out, fmt.Errorf("read at offset %d: %w", at, err)
		}
		if len(buf) == 0 {
			break
		}
		for rest := buf; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err != nil {
				return bounds, out, err
			}
			if err := record.CheckCRC(rest[:h.Size()]); err != nil {
				return bounds, out, err
			}
			if at > h.LastOffset() {
				return bounds, out, fmt.Errorf("batch %d to %d was read at offset %d", h.BaseOffset, h.LastOffset(), at)
			}
			it, grown, err := record.Iterate(rest[:h.Size()], scratch, 1<<20)
			if err != nil {
				return bounds, out, err
			}
			scratch = grown
			for r := (record.Record{}); it.Next(&r); {
				switch {
				case r.Offset < bounds.LogStart:
				case h.Control():
					out = append(out, stored{offset: r.Offset, control: true})
				default:
					out = append(out, stored{offset: r.Offset, id: messageID(&r), key: string(r.Key), tombstone: r.Value == nil})
				}
			}
			if it.Err() != nil {
				return bounds, out, it.Err()
			}
			at, rest = h.LastOffset()+1, rest[h.Size():]
		}
	}
	return bounds, out, nil
}

// idHeader is the header that carries a message's id.
const idHeader = "id"

func messageID(r *record.Record) string {
	_, id, ok := bytes.Cut(r.Headers, []byte(idHeader))
	if !ok || len(id) < 2 {
		return ""
	}
	return string(id[1:])
}

// judge compares a partition with what is expected, then sends on.
func (l *logExpectation) judge(ctx context.Context, b *broker.Broker, at place) error {
	p, err := b.Topics().Partition(at.topic, at.partition)
	if err != nil {
		if errors.Is(err, topic.ErrUnknownPartition) && l.end == 0 {
			return nil // the growth was not acknowledged
		}
		return err
	}
	if err := l.compare(p); err != nil {
		return err
	}
	return l.goOn(ctx, p)
}

func (l *logExpectation) compare(p *topic.Partition) error {
	bounds, records, err := dump(p)
	if err != nil {
		return err
	}
	ceiling := l.ceiling
	if ceiling < 0 {
		ceiling = bounds.LogEnd
	}
	if bounds.LogStart < l.floor || bounds.LogStart > ceiling {
		return fmt.Errorf("it starts at offset %d, want %d to %d", bounds.LogStart, l.floor, ceiling)
	}
	if bounds.LogEnd < l.end {
		return fmt.Errorf("it ends at offset %d, but records before %d were acknowledged", bounds.LogEnd, l.end)
	}
	seen, newest := map[string]int64{}, map[string]int64{}
	next := bounds.LogStart
	for _, r := range records {
		m := l.messages[r.id]
		switch before, twice := seen[r.id]; {
		case r.control && (r.offset == next || l.life.compact):
			next = r.offset + 1
			continue
		case m == nil:
			return fmt.Errorf("offset %d holds %q, which nobody sent", r.offset, r.id)
		case twice:
			return fmt.Errorf("%s is at offset %d and at %d", r.id, before, r.offset)
		case m.acked && m.offset != r.offset:
			return fmt.Errorf("%s is at offset %d, but was acknowledged at %d", r.id, r.offset, m.offset)
		case m.key != r.key || m.tombstone != r.tombstone:
			return fmt.Errorf("%s at offset %d has key %q, sent with %q", r.id, r.offset, r.key, m.key)
		case r.offset != next && !l.life.compact:
			return fmt.Errorf("offset %d follows, want %d", r.offset, next)
		}
		seen[r.id] = r.offset
		if !m.hidden {
			newest[r.key] = r.offset
		}
		next = r.offset + 1
	}
	if next != bounds.LogEnd && !l.life.compact {
		return fmt.Errorf("offsets %d to %d are missing", next, bounds.LogEnd-1)
	}
	return l.complete(bounds.LogStart, seen, newest)
}

// complete checks that every acknowledged message is there, or was replaced by a later one of its key.
func (l *logExpectation) complete(logStart int64, seen, newest map[string]int64) error {
	for id, m := range l.messages {
		if _, there := seen[id]; !m.acked || m.offset < logStart || m.hidden && l.life.compact {
			continue
		} else if !there {
			replaced := newest[m.key] > m.offset || l.buried[m.key]
			if last := l.lastKey[m.key]; last != nil {
				replaced = replaced || last.offset > m.offset || last.tombstone
			}
			// What a transaction in doubt has written may go with its abort.
			if !l.life.compact || !replaced && m.sure {
				return fmt.Errorf("%s, acknowledged at offset %d, is lost", id, m.offset)
			}
			continue
		}
		if last := l.lastKey[m.key]; l.life.compact && last != nil && last.tombstone && last.offset > m.offset && newest[m.key] < last.offset {
			return fmt.Errorf("%s at offset %d is there again: the tombstone of its key at offset %d is gone", id, m.offset, last.offset)
		}
	}
	return nil
}

// goOn sends again what is in doubt and what was acknowledged, and something new.
func (l *logExpectation) goOn(ctx context.Context, p *topic.Partition) error {
	// What was deleted may be forgotten, and with it who wrote it.
	if n := len(l.finished); n > 0 && l.finished[n-1].messages[0].offset >= p.Offsets().LogStart {
		a := l.finished[n-1]
		got, err := p.Append(ctx, bytes.Clone(a.bytes), topic.FromClient)
		switch {
		case err != nil && len(l.pending) == 0: // else the producer may be far ahead of it
			return fmt.Errorf("an acknowledged batch, sent again: %w", err)
		case err == nil && got.BaseOffset != a.messages[0].offset:
			return fmt.Errorf("a batch acknowledged at offset %d was taken again, at %d", a.messages[0].offset, got.BaseOffset)
		}
	}
	if len(l.pending) == 1 {
		a := l.pending[0]
		if _, err := p.Append(ctx, bytes.Clone(a.bytes), topic.FromClient); err != nil {
			return fmt.Errorf("a batch in doubt, sent again: %w", err)
		}
		for i := range a.messages {
			delete(l.messages, a.messages[i].id)
			l.messages[a.messages[i].id] = &expected{message: a.messages[i]}
		}
	}
	var build record.Builder
	fresh := message{id: "after", key: "after"}
	got, err := p.Append(ctx, batchOf(&build, time.UnixMilli(946_684_800_000), []message{fresh}, nil), topic.FromClient)
	if err != nil {
		return fmt.Errorf("append after the crash: %w", err)
	}
	if err := p.WaitDurable(ctx, got.LastOffset+1); err != nil {
		return fmt.Errorf("append after the crash: %w", err)
	}
	fresh.offset = got.BaseOffset
	after := *l
	after.messages = map[string]*expected{}
	for id, m := range l.messages {
		after.messages[id] = m
	}
	after.messages[fresh.id] = &expected{message: fresh, acked: true, sure: true}
	after.lastKey = map[string]*expected{fresh.key: after.messages[fresh.id]}
	for key, m := range l.lastKey {
		after.lastKey[key] = m
	}
	after.end = got.LastOffset + 1
	*l = after
	if err := after.compare(p); err != nil {
		return fmt.Errorf("after another batch: %w", err)
	}
	return nil
}

// producerState is what an idempotent producer stamps its batches with.
type producerState struct {
	id            int64
	epoch         int16
	sequence      int32
	transactional bool
}

// batchOf builds one batch; values are padded so that some go over sectors.
func batchOf(build *record.Builder, now time.Time, messages []message, producer *producerState) []byte {
	build.Reset(nil, record.None)
	if producer != nil {
		build.SetProducer(producer.id, producer.epoch, producer.sequence, producer.transactional)
	}
	for i, m := range messages {
		var value []byte
		if !m.tombstone {
			value = []byte("value of " + m.id + strings.Repeat(".", len(m.id)*37%300*((i+1)%3)))
		}
		build.Append(now.UnixMilli(), []byte(m.key), value, record.AppendHeader(nil, []byte(idHeader), []byte(m.id)), 1)
	}
	return build.Finish()
}
