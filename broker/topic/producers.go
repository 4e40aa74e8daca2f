package topic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/producer"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

const (
	// snapshotName is the file with the state of a partition's producers, beside its segments.
	snapshotName = "producers.snapshot"
	// snapshotEveryBytes is how much log there may be behind a snapshot: so much is read again after an unclean stop.
	snapshotEveryBytes = 64 << 20
	replayBytes        = 128 << 10 // small: fresh memory costs more than calls
)

// producers is the idempotence of one partition. It is guarded by Partition.appending.
type producers struct {
	fs     vfs.FS
	dir    string
	state  *producer.State
	saved  int64 // end of the state in the snapshot file
	behind int64 // bytes appended since
	pruned bool  // what was taken out of the state is still in the snapshot file
}

// openProducers restores the state: the snapshot, if it fits the log, then what lies behind it.
func openProducers(ctx context.Context, fsys vfs.FS, dir string, log *commitlog.Log, logger *slog.Logger) (*producers, error) {
	p := &producers{fs: fsys, dir: dir, state: &producer.State{}, saved: -1}
	bounds := log.Bounds()
	stored, err := p.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		logger.Warn("producer snapshot was dropped, the log is read instead", "directory", dir, "error", err)
	case stored.End() > bounds.End:
		// The log lost its tail. Should it grow past the snapshot's end, the snapshot would seem to fit again.
		if err := errors.Join(fsys.Remove(filepath.Join(dir, snapshotName)), fsys.SyncDir(dir)); err != nil {
			return nil, fmt.Errorf("remove outdated producer snapshot: %w", err)
		}
	case stored.End() < bounds.Start:
		// What lies between was deleted. Sequences from before it would make the next batch of a producer seem to come too early.
	default:
		p.state, p.saved = stored, stored.End()
	}
	return p, p.replay(ctx, log, max(p.state.End(), bounds.Start), bounds.End)
}

func (p *producers) load() (*producer.State, error) {
	f, err := p.fs.Open(filepath.Join(p.dir, snapshotName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return producer.ReadSnapshot(b)
}

// replay reads batch headers between two offsets.
func (p *producers) replay(ctx context.Context, log *commitlog.Log, offset, end int64) error {
	now := time.Now()
	var buf []byte
	for offset < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if buf, err = log.Read(buf[:0], offset, replayBytes, end); err != nil {
			return fmt.Errorf("read producers at offset %d: %w", offset, err)
		}
		if len(buf) == 0 {
			break // compaction has emptied the end
		}
		for rest := buf; len(rest) > 0; {
			h, err := record.ParseHeader(rest)
			if err != nil {
				return fmt.Errorf("read producers at offset %d: %w", offset, err)
			}
			if err := p.note(rest[:h.Size()], &h, now); err != nil {
				return fmt.Errorf("%w: %s: batch at offset %d: %w", commitlog.ErrCorrupt, p.dir, h.BaseOffset, err)
			}
			p.behind += int64(h.Size())
			offset, rest = h.LastOffset()+1, rest[h.Size():]
		}
	}
	p.state.Seen(end)
	return nil
}

// appended remembers batches that were written, with the offsets they were given.
func (p *producers) appended(batches []byte, now time.Time) {
	p.behind += int64(len(batches))
	for len(batches) > 0 {
		h, err := record.ParseHeader(batches)
		if err != nil {
			return // checked before: every batch has a header
		}
		if p.note(batches[:h.Size()], &h, now) != nil {
			return // built by this process: a marker is one
		}
		batches = batches[h.Size():]
	}
}

// note remembers one batch that is in the log.
func (p *producers) note(batch []byte, h *record.Header, now time.Time) error {
	if h.Control() && h.ProducerID >= 0 {
		m, ends, err := record.ParseMarker(batch)
		if err != nil {
			return err
		}
		if ends {
			p.state.Ended(h, m, now)
			return nil
		}
	}
	p.state.Appended(h, now)
	return nil
}

// save writes the snapshot. It need not be durable: what is torn has a wrong
// checksum, and what is lost is read from the log.
func (p *producers) save(b []byte, end int64) error {
	path := filepath.Join(p.dir, snapshotName)
	f, err := p.fs.Create(path + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := p.fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	p.saved = end
	return nil
}

// saveProducers writes a snapshot if there is something new: enough of it, or any with always.
func (p *Partition) saveProducers(always bool) error {
	p.appending.Lock()
	defer p.appending.Unlock()
	end := p.producers.state.End()
	old := end == p.producers.saved || (!always && p.producers.behind < snapshotEveryBytes)
	if p.deleted.Load() || end == 0 || old && !p.producers.pruned {
		return nil
	}
	p.producers.behind = 0
	if err := p.producers.save(p.producers.state.AppendSnapshot(nil), end); err != nil {
		return fmt.Errorf("save producers of %s-%d: %w", p.topic, p.index, err)
	}
	p.producers.pruned = false
	return nil
}

// expireProducers forgets producers that have been silent for too long, and
// aborted transactions that lie before the start of the log.
func (p *Partition) expireProducers(now time.Time) {
	p.appending.Lock()
	defer p.appending.Unlock()
	p.producers.state.Expire(now.Add(-producer.Expiration))
	p.producers.state.Forget(p.log.Bounds().Start)
	p.transactions.publish(p.producers.state)
}

// knowsProducer reports whether a producer has not been forgotten.
func (p *Partition) knowsProducer(id int64) bool {
	p.appending.Lock()
	defer p.appending.Unlock()
	return p.producers.state.Knows(id)
}

// retainAborted forgets the aborted transactions of which compaction has left nothing before offset end.
func (p *Partition) retainAborted(end int64, markers []int64) {
	p.appending.Lock()
	defer p.appending.Unlock()
	if p.producers.state.Retain(end, markers) {
		p.producers.pruned = true
		p.transactions.publish(p.producers.state)
	}
}
