// Package segment is one segment of a log: the file of record batches and its
// two sparse indexes, by offset and by timestamp. FORMAT.md describes the files.
//
// A segment is appended to by one goroutine at a time and synced by one at a
// time (the two may differ and overlap); any number may read beside them.
// Readers are held up neither by a write nor by a sync: what they see is
// published after the write, and only for the length of an index lookup do
// they share a lock with the appender.
//
// The log file is the truth. The indexes are written after the bytes they
// speak of were synced, together with a mark that says how far that was. So a
// mark never promises what a power cut can take; recovery trusts what lies
// before it and scans what lies behind it. An index that is missing or
// damaged is rebuilt from the log.
//
// Files grow by writing: they are neither preallocated nor filled with zeros
// in advance. Measured on ext4, fallocate alone leaves the cost of a sync
// where it was (unwritten extents are metadata, too); writing zeros first
// takes a third off a small fdatasync (210 to 145 µs), but doubles the bytes
// written and shows readers and tools a file that is longer than its content.
package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"sync/atomic"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// Errors of a segment.
var (
	// ErrCorrupt says that stored bytes are damaged; the text names file and position.
	ErrCorrupt = errors.New("log is corrupt")
	// ErrVersion says that a file was written by a newer program.
	ErrVersion = errors.New("unknown format version")
	// ErrUncertain says that a write failed and could not be cut off again: what the file holds is unknown.
	ErrUncertain = errors.New("content of the segment is uncertain")
)

// MaxBytes is the largest size of a segment: positions are 32 bits in the index.
const MaxBytes = math.MaxUint32

// NoTimestamp is the maximum timestamp of a segment that holds no record.
const NoTimestamp = -1

// Options say where a segment lives.
type Options struct {
	FS  vfs.FS
	Dir string
	// IndexIntervalBytes is how many bytes of log lie between two index entries, about; default 4096.
	IndexIntervalBytes int
	Logger             *slog.Logger
	// Suffix is put behind the names of the files; it serves segments that are being written to replace others.
	Suffix string
	// Sparse says that the log is compacted: in a segment of which no mark tells
	// otherwise, offsets may be missing between batches. Elsewhere a gap is damage.
	Sparse bool
	// CheckEpoch, if not nil, says what is wrong with the leader epoch of a batch
	// that an earlier process wrote and that ends with lastOffset: no checksum covers it.
	CheckEpoch func(lastOffset int64, epoch int32) error
}

const defaultIndexInterval = 4096

func (o Options) path(base int64, suffix string) string {
	return filepath.Join(o.Dir, FileName(base, suffix)+o.Suffix)
}

// Segment is one open segment.
type Segment struct {
	o    Options
	base int64
	log  vfs.File

	// Written by the appender after the bytes are in the file.
	size         atomic.Int64
	next         atomic.Int64
	maxTimestamp atomic.Int64
	sealed       atomic.Bool
	sparse       atomic.Bool // offsets may be missing between batches; then each batch has an index entry
	compacted    atomic.Bool
	horizon      atomic.Int64 // earliest delete horizon of a batch; only of sparse segments

	// verifyBelow is the position before which a read checks the checksums of
	// batches: they were written by an earlier process, or long ago. What lies
	// behind it was checked by whoever appended it.
	verifyBelow atomic.Int64

	writtenOut atomic.Int64 // up to here the disk was told to begin

	refs   atomic.Int64
	warned atomic.Bool // that the indexes cannot be written
	index  index
}

// Create makes a new, empty segment. Its files exist, but their names are
// not durable before the directory is synced.
func Create(o Options, base int64) (*Segment, error) {
	s := newSegment(o, base)
	f, err := o.FS.Create(o.path(base, LogSuffix))
	if err != nil {
		return nil, err
	}
	s.log = f
	if err := s.index.create(o, base); err != nil {
		return nil, errors.Join(err, f.Close(), s.index.close())
	}
	return s, nil
}

// CreateSparse is Create for a segment that replaces another one and may leave out some of its offsets.
func CreateSparse(o Options, base int64) (*Segment, error) {
	s, err := Create(o, base)
	if err == nil {
		setSparse(s)
	}
	return s, err
}

func setSparse(s *Segment) {
	s.sparse.Store(true)
	s.index.dense = true
}

func newSegment(o Options, base int64) *Segment {
	if o.IndexIntervalBytes <= 0 {
		o.IndexIntervalBytes = defaultIndexInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Segment{o: o, base: base}
	s.next.Store(base)
	s.maxTimestamp.Store(NoTimestamp)
	s.horizon.Store(NoTimestamp)
	s.refs.Store(1)
	return s
}

// BaseOffset is the first offset the segment may hold; it gives the files their names.
func (s *Segment) BaseOffset() int64 { return s.base }

// NextOffset is the offset behind the last batch.
func (s *Segment) NextOffset() int64 { return s.next.Load() }

// SizeBytes is the size of the log file as far as readers see it.
func (s *Segment) SizeBytes() int64 { return s.size.Load() }

// MaxTimestamp is the largest timestamp of a record (ms), or NoTimestamp.
func (s *Segment) MaxTimestamp() int64 { return s.maxTimestamp.Load() }

// Compacted is what was said to Finish.
func (s *Segment) Compacted() bool { return s.compacted.Load() }

// DeleteHorizon is the earliest time (ms) that a batch names as the end of its
// tombstones' stay (KIP-534), or NoTimestamp.
func DeleteHorizon(s *Segment) int64 { return s.horizon.Load() }

// noteHorizon takes down the delete horizon of a batch, which only compaction gives.
func noteHorizon(s *Segment, h *record.Header) {
	if horizon, ok := h.DeleteHorizon(); ok && s.sparse.Load() {
		if known := s.horizon.Load(); known == NoTimestamp || horizon < known {
			s.horizon.Store(horizon)
		}
	}
}

// Sparse reports whether offsets may be missing between batches.
func (s *Segment) Sparse() bool { return s.sparse.Load() }

// Path is the path of the log file.
func (s *Segment) Path() string { return s.o.path(s.base, LogSuffix) }

// Fits reports whether n more bytes that end before offset end can be appended.
func (s *Segment) Fits(n int, end int64) bool {
	return s.size.Load()+int64(n) <= MaxBytes && end-s.base <= math.MaxUint32
}

// Append writes whole batches at the end, in one write. Their base offsets
// are set from next on, their leader epoch to epoch, in place. The caller has
// checked that they are batches. It returns the offset behind the last one.
//
// After a failed write the file is as it was before (a full disk leaves a
// part of a write behind, which is cut off), or the error is ErrUncertain.
func (s *Segment) Append(batches []byte, next int64, epoch int32) (int64, error) {
	at := s.size.Load()
	if at == 0 { // nothing can be missing
		s.sparse.Store(false)
		s.index.dense = false
	}
	for b := batches; len(b) > 0; {
		h, err := record.ParseHeader(b)
		if err != nil {
			return 0, err
		}
		record.PutBase(b, next, epoch)
		next += int64(h.LastOffsetDelta) + 1
		b = b[h.Size():]
	}
	return next, s.write(batches, at, next)
}

// AppendAsIs writes whole batches at the end that keep their offsets, which must grow.
func (s *Segment) AppendAsIs(batches []byte) error {
	next := s.next.Load()
	for b := batches; len(b) > 0; {
		h, err := record.ParseHeader(b)
		if err != nil {
			return err
		}
		if h.BaseOffset < next {
			return fmt.Errorf("batch at offset %d after offset %d", h.BaseOffset, next-1)
		}
		next = h.LastOffset() + 1
		b = b[h.Size():]
	}
	return s.write(batches, s.size.Load(), next)
}

func (s *Segment) write(batches []byte, at, next int64) error {
	if _, err := s.log.WriteAt(batches, at); err != nil {
		err = fmt.Errorf("append to %s: %w", s.Path(), err)
		if errors.Is(err, vfs.ErrNotOpened) { // and so not written
			return err
		}
		// Whole batches may have been written, which a restart would take for appended ones; n does not tell (vfs.File).
		if cut := s.log.Truncate(at); cut != nil {
			err = fmt.Errorf("%w: %w; cutting off what was written of it: %w", ErrUncertain, err, cut)
		}
		return err
	}
	maxTimestamp := s.maxTimestamp.Load()
	for b, position := batches, at; len(b) > 0; {
		h, err := record.ParsePrefix(b)
		if err != nil {
			return err
		}
		s.index.note(h.BaseOffset, position, h.Size(), maxTimestamp)
		maxTimestamp = max(maxTimestamp, h.MaxTimestamp)
		noteHorizon(s, &h)
		position += int64(h.Size())
		b = b[h.Size():]
	}
	s.index.publish(func() {
		s.maxTimestamp.Store(maxTimestamp)
		s.next.Store(next)
		s.size.Store(at + int64(len(batches)))
	})
	return nil
}

// Seal says that nothing will be appended any more: the next Sync completes
// the indexes. A sparse segment may end at an offset behind its last batch: next, if that is larger.
func (s *Segment) Seal(next int64) {
	s.next.Store(max(next, s.next.Load()))
	s.sealed.Store(true)
}

// WriteOut has the disk begin with what was appended since the last call, but for
// the last page, which would have to be written again. It promises nothing: see vfs.File.
func WriteOut(s *Segment) {
	const pageBytes = 4096
	end := s.size.Load() &^ (pageBytes - 1)
	if from := s.writtenOut.Swap(end); from < end {
		s.log.WriteOut(from, end-from)
	}
}

// Sync makes what has been appended before the call durable and then brings
// the indexes up to that point. A failure to write an index is logged, not
// returned: an index can be rebuilt. After an error the segment must not be
// synced again. The names of the files are the caller's to make durable.
func (s *Segment) Sync() error {
	sealed := s.sealed.Load() // before the size: nothing is appended after it
	m := s.index.snapshot(func() mark {
		return mark{position: s.size.Load(), next: s.next.Load(), maxTimestamp: s.maxTimestamp.Load()}
	})
	m.sealed, m.sparse, m.compacted, m.horizon = sealed, s.sparse.Load(), s.compacted.Load(), s.horizon.Load()
	if s.index.upToDate(m) {
		return nil
	}
	if err := s.log.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.Path(), err)
	}
	if err := s.index.store(m); err != nil && !s.warned.Swap(true) {
		s.o.Logger.Warn("index not written; it will be rebuilt from the log if it is missing after a restart",
			"file", s.o.path(s.base, IndexSuffix), "error", err)
	}
	return nil
}

// Finish seals a segment that was made by CreateSparse: it ends at offset
// next. compacted says that nothing in it is left to be compacted by itself.
// Then it is synced.
func (s *Segment) Finish(next int64, compacted bool) error {
	s.compacted.Store(compacted)
	s.Seal(next)
	return s.Sync()
}

// Acquire keeps the files open until Release; false means that they are closed already.
func (s *Segment) Acquire() bool {
	for {
		n := s.refs.Load()
		if n <= 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release undoes one Acquire.
func (s *Segment) Release() {
	if s.refs.Add(-1) == 0 {
		if err := errors.Join(s.log.Close(), s.index.close()); err != nil {
			s.o.Logger.Warn("closing a segment", "file", s.Path(), "error", err)
		}
	}
}

// Close releases the reference that Create or Open took: the files are closed
// as soon as nobody reads them. Nothing is synced.
func (s *Segment) Close() { s.Release() }

// MoveTo gives the files of a segment that was finished another suffix: see
// Move. Afterwards the segment goes by the new names.
func (s *Segment) MoveTo(suffix string) error {
	if err := Move(s.o, s.base, suffix); err != nil {
		return err
	}
	s.o.Suffix, s.index.o.Suffix = suffix, suffix
	return nil
}

// Move gives the files of a segment another suffix than o.Suffix, the log
// first, durably: without its indexes a log is whole, without its log an index
// is not. Missing files are passed over, so that it can be repeated.
func Move(o Options, base int64, suffix string) error {
	for _, file := range []string{LogSuffix, IndexSuffix, TimeIndexSuffix} {
		to := Options{Dir: o.Dir, Suffix: suffix}.path(base, file)
		if err := o.FS.Rename(o.path(base, file), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := o.FS.SyncDir(o.Dir); err != nil {
			return err
		}
	}
	return nil
}

// RemoveIndexes removes the indexes of a segment, durably, so that its log
// can be replaced. The open segment reads on.
func RemoveIndexes(o Options, base int64) error {
	for _, file := range []string{TimeIndexSuffix, IndexSuffix} {
		if err := o.FS.Remove(o.path(base, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return o.FS.SyncDir(o.Dir)
}

// Rename gives the files of a segment another suffix (see Options.Suffix).
// Missing files are passed over, so that it can be repeated after a crash.
func Rename(fsys vfs.FS, dir string, base int64, from, to string) error {
	return eachFile(base, func(name string) error {
		return fsys.Rename(filepath.Join(dir, name+from), filepath.Join(dir, name+to))
	})
}

// Remove removes the files of a segment; missing ones are passed over.
func Remove(o Options, base int64) error {
	return eachFile(base, func(name string) error {
		return o.FS.Remove(filepath.Join(o.Dir, name+o.Suffix))
	})
}
