package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The files of a segment with base offset 4711 are 00000000000000004711.log,
// .index and .timeindex. FORMAT.md draws them.
const (
	LogSuffix       = ".log"
	IndexSuffix     = ".index"
	TimeIndexSuffix = ".timeindex"
)

const (
	formatVersion = 1

	indexHeaderBytes = 1024 // header and two marks, each half in a sector of its own
	timeHeaderBytes  = 16
	fileHeaderBytes  = 16
	markBytes        = 48
	horizonBytes     = 12 // behind a mark whose flags say so
	pointBytes       = 12
	stampBytes       = 16
)

// markPositions are where the two marks lie in the .index file.
var markPositions = [2]int64{64, 512 + 64}

var (
	indexMagic = [4]byte{'M', 'S', 'I', 'X'}
	timeMagic  = [4]byte{'M', 'S', 'T', 'X'}
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errIndex says that an index file is damaged. It never leaves the package:
// an index is rebuilt from its log.
var errIndex = errors.New("index is damaged")

// FileName returns the name of one of a segment's files.
func FileName(base int64, suffix string) string { return fmt.Sprintf("%020d%s", base, suffix) }

// ParseFileName returns the base offset of a file with the given suffix.
func ParseFileName(name, suffix string) (base int64, ok bool) {
	if len(name) != 20+len(suffix) || name[20:] != suffix {
		return 0, false
	}
	for _, c := range []byte(name[:20]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if base > (1<<63-1-int64(c-'0'))/10 {
			return 0, false
		}
		base = base*10 + int64(c-'0')
	}
	return base, true
}

// mark says up to where a segment was synced, and how much of the indexes was
// written by then. Of the two in the file the one with the higher sequence counts.
type mark struct {
	sequence     uint64
	position     int64 // bytes of the log
	next         int64 // offset behind the last batch
	maxTimestamp int64
	points       uint32 // entries of the offset index
	stamps       uint32 // entries of the time index
	sealed       bool   // the segment is complete
	sparse       bool   // offsets may be missing between batches
	compacted    bool   // it was compacted as a whole
	horizon      int64  // earliest delete horizon of a batch, ms, or NoTimestamp
}

const (
	markSealed = 1 << iota
	markSparse
	markCompacted
	markHorizon
)

func (m *mark) append(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, m.sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(m.position))
	b = binary.BigEndian.AppendUint64(b, uint64(m.next))
	b = binary.BigEndian.AppendUint64(b, uint64(m.maxTimestamp))
	b = binary.BigEndian.AppendUint32(b, m.points)
	b = binary.BigEndian.AppendUint32(b, m.stamps)
	var flags uint32
	if m.sealed {
		flags |= markSealed
	}
	if m.sparse {
		flags |= markSparse
	}
	if m.compacted {
		flags |= markCompacted
	}
	if m.horizon != NoTimestamp {
		flags |= markHorizon
	}
	b = binary.BigEndian.AppendUint32(b, flags)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	if m.horizon != NoTimestamp {
		b = binary.BigEndian.AppendUint64(b, uint64(m.horizon))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	}
	return b
}

// parseMark reads a mark at the beginning of b, which has at least markBytes+horizonBytes.
func parseMark(b []byte) (mark, bool) {
	if crc32.Checksum(b[:44], castagnoli) != binary.BigEndian.Uint32(b[44:]) {
		return mark{}, false
	}
	flags := binary.BigEndian.Uint32(b[40:])
	m := mark{
		sequence:     binary.BigEndian.Uint64(b),
		position:     int64(binary.BigEndian.Uint64(b[8:])),
		next:         int64(binary.BigEndian.Uint64(b[16:])),
		maxTimestamp: int64(binary.BigEndian.Uint64(b[24:])),
		points:       binary.BigEndian.Uint32(b[32:]),
		stamps:       binary.BigEndian.Uint32(b[36:]),
		sealed:       flags&markSealed != 0,
		sparse:       flags&markSparse != 0,
		compacted:    flags&markCompacted != 0,
		horizon:      NoTimestamp,
	}
	if flags&markHorizon != 0 {
		if crc32.Checksum(b[:markBytes+8], castagnoli) != binary.BigEndian.Uint32(b[markBytes+8:]) {
			return mark{}, false
		}
		m.horizon = int64(binary.BigEndian.Uint64(b[markBytes:]))
	}
	return m, m.position >= 0 && m.next >= 0 && m.sequence > 0
}

// point is an entry of the offset index: the batch at position begins with offset base+rel.
type point struct{ rel, position uint32 }

// stamp is an entry of the time index: no batch before offset base+rel has a
// timestamp above timestamp (ms).
type stamp struct {
	timestamp int64
	rel       uint32
}

func (p point) append(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, p.rel)
	b = binary.BigEndian.AppendUint32(b, p.position)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parsePoint(b []byte) (point, error) {
	b = b[:pointBytes]
	if crc32.Checksum(b[:8], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return point{}, errIndex
	}
	return point{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

func (s stamp) append(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(s.timestamp))
	b = binary.BigEndian.AppendUint32(b, s.rel)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseStamp(b []byte) (stamp, error) {
	b = b[:stampBytes]
	if crc32.Checksum(b[:12], castagnoli) != binary.BigEndian.Uint32(b[12:]) {
		return stamp{}, errIndex
	}
	return stamp{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:])}, nil
}

func appendFileHeader(b []byte, magic [4]byte, base int64) []byte {
	b = append(b, magic[:]...)
	b = binary.BigEndian.AppendUint32(b, formatVersion)
	return binary.BigEndian.AppendUint64(b, uint64(base))
}

// checkFileHeader distinguishes damage, which a rebuild mends, from a version of the future, which it would destroy.
func checkFileHeader(b []byte, magic [4]byte, base int64, path string) error {
	if len(b) < fileHeaderBytes || [4]byte(b[:4]) != magic || int64(binary.BigEndian.Uint64(b[8:])) != base {
		return errIndex
	}
	if v := binary.BigEndian.Uint32(b[4:]); v != formatVersion {
		return fmt.Errorf("%w: %s has format version %d, this program knows %d", ErrVersion, path, v, formatVersion)
	}
	return nil
}
