// Package cleaner keeps logs from growing without end: retention drops old
// segments by age and by size, compaction keeps the last record of every key.
//
// Retention is Kafka's: a segment goes when its newest record is older than
// retention.ms, or when what is left without it is still retention.bytes or
// more; the files are removed file.delete.delay.ms later. The active segment
// is rolled first if all of it has expired. Whole segments go, so more than
// the limit may be there, never less.
//
// Compaction works on sealed segments of logs whose policy says so. A record
// is dropped when a later one has its key; a tombstone (null value) is kept
// for delete.retention.ms after the compaction that first met it, so that
// readers who are behind learn of the deletion. Offsets never change. A record
// of a transaction counts once its marker says that it was committed; what was
// aborted is dropped; from the first transaction on that is still open nothing
// is touched. A marker of which nothing else is left goes like a tombstone.
// Kept as they are: the last batch of each producer id that is still known
// (without its records if none is left, so that its sequence numbers survive)
// and the active segment. A record without a key has no place in a compacted
// log and is dropped. Segments that became small are merged, up to segment.bytes.
//
// A log is compacted when enough of it is dirty (min.cleanable.dirty.ratio),
// when a record has waited for max.compaction.lag.ms (the active segment is
// rolled for that), and when tombstones or markers have outlived
// delete.retention.ms, whether or not anything new was written.
//
// Nobody starves: a compaction of a large log is done in steps, and between
// two of them every other log gets its turn.
//
// A crash at any moment leaves the log as it was or as it was to become: see
// commitlog.Log.RewriteSegments and AdvanceStart.
package cleaner

import (
	"context"
	"hash/maphash"
	"log/slog"
	"maps"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
)

// Options of a Cleaner. Zero values mean the defaults.
type Options struct {
	Logger *slog.Logger
	// MaxKeys bounds how many keys one compaction holds in memory, at about
	// 60 bytes each; more are done by the following rounds. Default 2^20.
	MaxKeys int
	// StepBytes is about how much of a log one call of Clean reads, or more if a
	// segment has more. A compaction of a larger log goes on with the next call. Default 256 MiB.
	StepBytes int64
}

const (
	defaultMaxKeys   = 1 << 20
	defaultStepBytes = 256 << 20
)

// Cleaner cleans logs, one at a time: whoever has the logs calls Clean for
// each of them round after round. It is used by one goroutine at a time.
type Cleaner struct {
	o     Options
	seeds [2]maphash.Seed
	build record.Builder
	// scratch holds decompressed records.
	scratch []byte
	// progress is where the next round goes on in logs with more keys than fit in memory.
	progress map[*commitlog.Log]int64
	// unfinished is the compaction of a large log that goes on with the next call for that log. There is one at a time.
	unfinished *compaction
}

// New returns a cleaner.
func New(o Options) *Cleaner {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = defaultMaxKeys
	}
	if o.StepBytes <= 0 {
		o.StepBytes = defaultStepBytes
	}
	return &Cleaner{o: o, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, progress: map[*commitlog.Log]int64{}}
}

// Result says what one cleaning did.
type Result struct {
	DroppedSegments int   // by retention
	RemovedSegments int   // whose files were removed after the delay
	CompactedBytes  int64 // of segments that were compacted, before
	KeptBytes       int64 // of the same segments, after
	// More says that the log has not had its turn to the end: Clean should be called again soon.
	More bool
	// Before the offset Compacted the markers of aborted transactions that are
	// left are those at AbortMarkers, in order. 0: nothing was found out.
	Compacted    int64
	AbortMarkers []int64
}

// Clean does once what is due for a log: what its policy says, and the
// removal of files whose delay is over. active reports whether a producer id
// is still known to who writes the log; nil means that all are.
func (c *Cleaner) Clean(ctx context.Context, l *commitlog.Log, active func(producerID int64) bool) (r Result, err error) {
	c.forgetClosed()
	config := l.Config()
	if config.Delete {
		if r.DroppedSegments, err = c.retain(l, config, time.Now()); err != nil {
			return r, err
		}
	}
	if config.Compact {
		if err = c.compact(ctx, l, config, active, &r); err != nil {
			return r, err
		}
	} else if c.unfinished != nil && c.unfinished.log == l {
		c.unfinished = nil
	}
	r.RemovedSegments, err = l.RemoveDropped()
	return r, err
}

// forgetClosed drops what is known of logs that are not there any more.
func (c *Cleaner) forgetClosed() {
	maps.DeleteFunc(c.progress, func(l *commitlog.Log, _ int64) bool { return l.Closed() })
	if c.unfinished != nil && c.unfinished.log.Closed() {
		c.unfinished = nil
	}
}

// retain drops the segments that are over age or size and returns how many.
func (c *Cleaner) retain(l *commitlog.Log, config commitlog.Config, now time.Time) (int, error) {
	segments := l.Segments()
	start := l.Bounds().Start
	drop := expired(segments, config, now)
	if drop == 0 {
		return 0, nil
	}
	if segments[drop-1].Active {
		if err := l.Roll(); err != nil {
			return 0, err
		}
		segments = l.Segments() // the active one may have grown before it was rolled
		if again := expired(segments, config, now); again < drop {
			drop = again
		}
		if drop == 0 {
			return 0, nil
		}
	}
	to := segments[drop-1].NextOffset
	if drop < len(segments) {
		to = segments[drop].BaseOffset
	}
	if err := l.AdvanceStart(to); err != nil {
		return 0, err
	}
	c.o.Logger.Info("retention dropped segments", "log", l.Dir(), "segments", drop, "old_start", start, "start", to)
	return drop, nil
}

// expired returns how many segments from the first on are to go.
func expired(segments []commitlog.SegmentInfo, config commitlog.Config, now time.Time) int {
	n := 0
	if config.RetentionAge >= 0 {
		oldest := now.Add(-config.RetentionAge).UnixMilli()
		for i, s := range segments {
			if s.SizeBytes == 0 && !s.Active {
				continue // compaction has emptied it; it goes with the one behind it
			}
			if s.SizeBytes == 0 || s.MaxTimestamp < 0 || s.MaxTimestamp >= oldest {
				break
			}
			n = i + 1
		}
	}
	if config.RetentionBytes >= 0 {
		var left int64
		for _, s := range segments[n:] {
			left += s.SizeBytes
		}
		for n < len(segments) && !segments[n].Active && left-segments[n].SizeBytes >= config.RetentionBytes {
			left -= segments[n].SizeBytes
			n++
		}
	}
	return n
}
