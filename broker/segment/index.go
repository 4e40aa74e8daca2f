package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/millstream-io/millstream/broker/vfs"
)

// index is the pair of sparse indexes of one segment. While the segment grows
// they are in memory; store brings them to the files. Once a sealed segment
// is stored the memory is given back and lookups read the files.
type index struct {
	o    Options
	base int64

	// mu guards the entries in memory, and makes size, next offset and
	// maximum timestamp of the segment change together.
	mu     sync.RWMutex
	points []point
	stamps []stamp
	onDisk bool // the entries are in the files only: counts below say how many
	count  mark // points and stamps of an index on disk

	// Used by the appender only.
	dense     bool // an entry for each batch
	since     int  // bytes after the last entry
	lastStamp int64

	// storeMu is held by who writes the files.
	storeMu    sync.Mutex
	offsets    vfs.File
	times      vfs.File
	last       mark // what was stored last
	headerless bool // the files have to be created anew
}

func (x *index) create(o Options, base int64) error {
	x.o, x.base, x.lastStamp = o, base, math.MinInt64
	x.headerless = true
	x.last.next = base
	x.last.maxTimestamp, x.last.horizon = NoTimestamp, NoTimestamp
	return x.createFiles()
}

func (x *index) createFiles() error {
	if x.offsets == nil {
		f, err := x.o.FS.Create(x.o.path(x.base, IndexSuffix))
		if err != nil {
			return err
		}
		x.offsets = f
		vfs.MarkExpendable(f) // an index can be rebuilt
	} else if err := x.offsets.Truncate(0); err != nil {
		return err
	}
	if x.times == nil {
		f, err := x.o.FS.Create(x.o.path(x.base, TimeIndexSuffix))
		if err != nil {
			return err
		}
		x.times = f
		vfs.MarkExpendable(f)
	} else if err := x.times.Truncate(0); err != nil {
		return err
	}
	if err := writeAt(x.offsets, appendFileHeader(nil, indexMagic, x.base), 0); err != nil {
		return err
	}
	if err := writeAt(x.times, appendFileHeader(nil, timeMagic, x.base), 0); err != nil {
		return err
	}
	x.headerless = false
	return nil
}

func writeAt(f vfs.File, b []byte, at int64) error {
	_, err := f.WriteAt(b, at)
	return err
}

// note takes down a batch that was appended at position; maxTimestamp is that
// of everything before it.
func (x *index) note(offset, position int64, size int, maxTimestamp int64) {
	if x.dense || x.since >= x.o.IndexIntervalBytes {
		rel := uint32(offset - x.base)
		x.mu.Lock()
		x.points = append(x.points, point{rel, uint32(position)})
		if maxTimestamp > x.lastStamp && maxTimestamp != NoTimestamp {
			x.stamps = append(x.stamps, stamp{maxTimestamp, rel})
			x.lastStamp = maxTimestamp
		}
		x.mu.Unlock()
		x.since = 0
	}
	x.since += size
}

func (x *index) publish(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
}

func (x *index) snapshot(f func() mark) mark {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return f()
}

// upToDate reports whether m was stored already.
func (x *index) upToDate(m mark) bool {
	x.storeMu.Lock()
	defer x.storeMu.Unlock()
	return (x.last.sequence > 0 || m.position == 0) && x.last.position == m.position && x.last.sealed == m.sealed
}

// store writes the entries for the first m.position bytes of the log, which
// are durable, and the mark m. For a sealed segment the files are synced, so
// that a restart finds it complete, and the memory is given back.
func (x *index) store(m mark) error {
	x.storeMu.Lock()
	defer x.storeMu.Unlock()
	return x.storeLocked(m)
}

// storeLocked is store for who holds storeMu.
func (x *index) storeLocked(m mark) error {
	x.mu.RLock()
	points, stamps, onDisk := x.points, x.stamps, x.onDisk
	x.mu.RUnlock()
	if onDisk {
		return nil
	}
	points = points[:sort.Search(len(points), func(i int) bool { return int64(points[i].position) >= m.position })]
	stamps = stamps[:sort.Search(len(stamps), func(i int) bool { return x.base+int64(stamps[i].rel) >= m.next })]
	if x.headerless {
		if err := x.createFiles(); err != nil {
			return err
		}
		x.last.points, x.last.stamps = 0, 0
	}
	var b []byte
	for _, p := range points[x.last.points:] {
		b = p.append(b)
	}
	if err := writeAt(x.offsets, b, indexHeaderBytes+int64(x.last.points)*pointBytes); err != nil {
		return err
	}
	b = b[:0]
	for _, s := range stamps[x.last.stamps:] {
		b = s.append(b)
	}
	if err := writeAt(x.times, b, timeHeaderBytes+int64(x.last.stamps)*stampBytes); err != nil {
		return err
	}
	if m.sealed {
		if err := errors.Join(x.offsets.Sync(), x.times.Sync()); err != nil {
			return err
		}
	}
	m.points, m.stamps, m.sequence = uint32(len(points)), uint32(len(stamps)), x.last.sequence+1
	if err := writeAt(x.offsets, m.append(b[:0]), markPositions[m.sequence%2]); err != nil {
		return err
	}
	x.last = m
	if !m.sealed {
		return nil
	}
	if err := x.offsets.Sync(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.points, x.stamps, x.onDisk, x.count = nil, nil, true, m
	return nil
}

func (x *index) close() error {
	var err error
	if x.offsets != nil {
		err = x.offsets.Close()
	}
	if x.times != nil {
		err = errors.Join(err, x.times.Close())
	}
	return err
}

// open reads what the files say: the newest mark. errIndex means that they
// are missing or damaged and the log must be scanned.
func (x *index) open(o Options, base int64) error {
	x.o, x.base, x.lastStamp = o, base, math.MinInt64
	x.last = mark{next: base, maxTimestamp: NoTimestamp, horizon: NoTimestamp}
	var err error
	for _, f := range []struct {
		file   *vfs.File
		suffix string
	}{{&x.offsets, IndexSuffix}, {&x.times, TimeIndexSuffix}} {
		*f.file, err = o.FS.Open(o.path(base, f.suffix))
		if errors.Is(err, fs.ErrNotExist) {
			*f.file, x.headerless = nil, true
		} else if err != nil {
			return err
		} else {
			vfs.MarkExpendable(*f.file)
		}
	}
	if x.headerless {
		return errIndex
	}
	b := make([]byte, indexHeaderBytes)
	n, err := x.times.ReadAt(b[:fileHeaderBytes], 0)
	if err == nil {
		err = checkFileHeader(b[:n], timeMagic, base, x.times.Path())
	}
	if err == nil {
		if n, err = x.offsets.ReadAt(b, 0); err == io.EOF {
			err = nil
		}
		if err == nil {
			err = checkFileHeader(b[:n], indexMagic, base, x.offsets.Path())
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errIndex) {
		x.headerless = true
		return errIndex
	}
	if err != nil {
		return err
	}
	clear(b[n:])
	for _, at := range markPositions {
		if m, ok := parseMark(b[at:]); ok && m.sequence > x.last.sequence {
			x.last = m
		}
	}
	return nil
}

// load reads the entries that the last mark promises into memory.
func (x *index) load() error {
	points, err := readEntries(x.offsets, indexHeaderBytes, int(x.last.points), pointBytes, parsePoint)
	if err != nil {
		return err
	}
	stamps, err := readEntries(x.times, timeHeaderBytes, int(x.last.stamps), stampBytes, parseStamp)
	if err != nil {
		return err
	}
	if !slices.IsSortedFunc(points, func(a, b point) int { return int(int64(a.position) - int64(b.position)) }) {
		return errIndex
	}
	x.points, x.stamps = points, stamps
	if n := len(stamps); n > 0 {
		x.lastStamp = stamps[n-1].timestamp
	}
	x.since = int(x.last.position)
	if n := len(points); n > 0 {
		x.since -= int(points[n-1].position)
	}
	return nil
}

func readEntries[E any](f vfs.File, at int64, count, size int, parse func([]byte) (E, error)) ([]E, error) {
	if count == 0 {
		return nil, nil // the file may end before the place of the first one
	}
	fileBytes, err := f.Size()
	if err != nil {
		return nil, err
	}
	if at+int64(count)*int64(size) > fileBytes {
		return nil, errIndex
	}
	b := make([]byte, count*size)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, err
	}
	out := make([]E, count)
	for i := range out {
		if out[i], err = parse(b[i*size:]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reset forgets everything, so that the log can be noted again from its start.
func (x *index) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.points, x.stamps, x.onDisk = nil, nil, false
	x.since, x.lastStamp = 0, math.MinInt64
	x.headerless = true
}

// floor returns the last entry with an offset of at most offset. Without one it is the start of the log.
func (x *index) floor(offset int64, scratch []byte) (point, error) {
	rel := offset - x.base
	return x.lastPoint(func(p point) bool { return int64(p.rel) <= rel }, scratch)
}

// before returns the last entry at a position of at most position.
func (x *index) before(position int64) (point, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.onDisk {
		return point{}, false
	}
	i := sort.Search(len(x.points), func(i int) bool { return int64(x.points[i].position) > position })
	if i == 0 {
		return point{}, false
	}
	return x.points[i-1], true
}

// lastPoint returns the last entry for which ok holds; it holds for a beginning of the entries.
func (x *index) lastPoint(ok func(point) bool, scratch []byte) (point, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var at int
	if !x.onDisk {
		at = sort.Search(len(x.points), func(i int) bool { return !ok(x.points[i]) })
		if at == 0 {
			return point{}, nil
		}
		return x.points[at-1], nil
	}
	var found point
	low, high := 0, int(x.count.points)
	for low < high {
		mid := int(uint(low+high) / 2)
		p, err := readEntry(x.offsets, indexHeaderBytes+int64(mid)*pointBytes, scratch[:pointBytes], parsePoint)
		if err != nil {
			return point{}, err
		}
		if ok(p) {
			found, low = p, mid+1
		} else {
			high = mid
		}
	}
	return found, nil
}

// entries calls each with the entries from the one for position on, until it
// returns false; errIndex if there is none for it.
func (x *index) entries(position int64, scratch []byte, each func(point) bool) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	count := len(x.points)
	at := func(i int) (point, error) { return x.points[i], nil }
	if x.onDisk {
		count = int(x.count.points)
		at = func(i int) (point, error) {
			return readEntry(x.offsets, indexHeaderBytes+int64(i)*pointBytes, scratch[:pointBytes], parsePoint)
		}
	}
	low, high := 0, count
	for low < high {
		mid := int(uint(low+high) / 2)
		p, err := at(mid)
		if err != nil {
			return err
		}
		if int64(p.position) < position {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for i := low; i < count; i++ {
		p, err := at(i)
		if err != nil {
			return err
		}
		if i == low && int64(p.position) != position {
			break
		}
		if !each(p) {
			return nil
		}
	}
	return errIndex
}

// stampBefore returns the offset from which on a batch may have timestamp or more.
func (x *index) stampBefore(timestamp int64, scratch []byte) (int64, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !x.onDisk {
		i := sort.Search(len(x.stamps), func(i int) bool { return x.stamps[i].timestamp >= timestamp })
		if i == 0 {
			return x.base, nil
		}
		return x.base + int64(x.stamps[i-1].rel), nil
	}
	found := x.base
	low, high := 0, int(x.count.stamps)
	for low < high {
		mid := int(uint(low+high) / 2)
		s, err := readEntry(x.times, timeHeaderBytes+int64(mid)*stampBytes, scratch[:stampBytes], parseStamp)
		if err != nil {
			return 0, err
		}
		if s.timestamp < timestamp {
			found, low = x.base+int64(s.rel), mid+1
		} else {
			high = mid
		}
	}
	return found, nil
}

func readEntry[E any](f vfs.File, at int64, scratch []byte, parse func([]byte) (E, error)) (E, error) {
	if _, err := f.ReadAt(scratch, at); err != nil {
		var none E
		if err == io.EOF {
			return none, errIndex
		}
		return none, fmt.Errorf("read %s: %w", f.Path(), err)
	}
	return parse(scratch)
}
