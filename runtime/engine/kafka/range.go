package kafka

import (
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millstream-io/millstream/runtime/engine"
)

// backInRange moves a position that the log does not have (any more) to the nearest one that it has. The log begins
// where the leader says; that it ends before a position that was reached once has to be said by one that is the leader: all
// brokers are asked who that is, until most of them answer.
func (f *fetcher) backInRange(q question) {
	defer f.found(q.x)
	var p pauses
	var warnedAt time.Time
	for f.stands(q) {
		answered := f.hear(f.ctx, q.x.tp.Topic)
		start, end, err := f.bounds(q)
		if err != nil {
			f.lose(map[engine.TopicPartition]question{q.x.tp: q})
			return
		}
		next := min(max(q.from, start), end)
		attrs := []any{slog.String("topic", q.x.tp.Topic), slog.Int("partition", int(q.x.tp.Partition)),
			slog.Int64("offset", q.from), slog.Int64("log_start", start), slog.Int64("log_end", end)}
		switch {
		case next == q.from:
			_ = sleep(f.ctx, firstPause) // the broker that answered does not know yet what the others do
			return
		case next > q.from || answered:
			f.log.Warn("position is outside the log", append(attrs, slog.Int64("moved_to", next))...)
			f.deliver(q, chunk{next: next}, end, nil)
			return
		case p.last >= lastPause && time.Since(warnedAt) >= warnInterval:
			warnedAt = time.Now()
			f.log.Warn("position is behind the log's end, and too few brokers answer to know whether records were lost", attrs...)
		}
		if p.wait(f.ctx) != nil {
			return
		}
	}
}

// stands reports whether what was asked is still to be answered.
func (f *fetcher) stands(q question) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return q.x.seeks == q.seeks && q.x.next == q.from && f.feeds[q.x.tp] == q.x
}

// bounds are where a log begins and ends, as the leader says that was asked.
func (f *fetcher) bounds(q question) (start, end int64, err error) {
	if f.c.epoch(q.x.tp) != q.epoch {
		return 0, 0, kerr.FencedLeaderEpoch
	}
	tps := []engine.TopicPartition{q.x.tp}
	starts, err := f.c.listOffsets(f.ctx, tps, earliest, false)
	if err != nil {
		return 0, 0, err
	}
	ends, err := f.c.listOffsets(f.ctx, tps, latest, false)
	if err != nil {
		return 0, 0, err
	}
	return starts[q.x.tp], ends[q.x.tp], nil
}

// found goes on reading a feed.
func (f *fetcher) found(x *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x.astray = false
	f.hurry(x)
}
