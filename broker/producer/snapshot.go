package producer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// ErrSnapshot says that a snapshot cannot be used.
var ErrSnapshot = errors.New("producer snapshot cannot be used")

// A snapshot is: magic, CRC-32C of what follows, end offset (8 bytes), number
// of producers (4), and per producer: id (8), epoch (2), last update in ms (8),
// number of batches (1), and per batch: first and last sequence (4 each), base
// and last offset (8 each). Little endian.
const (
	snapshotMagic       = "MSPS0001"
	snapshotHeaderBytes = len(snapshotMagic) + 4
	producerBytes       = 8 + 2 + 8 + 1
	batchBytes          = 4 + 4 + 8 + 8
)

// AppendSnapshot appends the state's bytes to dst.
func (s *State) AppendSnapshot(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, snapshotMagic...)
	dst = append(dst, 0, 0, 0, 0)
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(s.end))
	dst = le.AppendUint32(dst, uint32(len(s.producers)))
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		p := s.producers[id]
		dst = le.AppendUint64(dst, uint64(id))
		dst = le.AppendUint16(dst, uint16(p.epoch))
		dst = le.AppendUint64(dst, uint64(p.updated))
		dst = append(dst, byte(p.count))
		for _, b := range p.window[:p.count] {
			dst = le.AppendUint32(dst, uint32(b.firstSequence))
			dst = le.AppendUint32(dst, uint32(b.lastSequence))
			dst = le.AppendUint64(dst, uint64(b.BaseOffset))
			dst = le.AppendUint64(dst, uint64(b.LastOffset))
		}
	}
	body := dst[from+snapshotHeaderBytes:]
	le.PutUint32(dst[from+len(snapshotMagic):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return dst
}

// ReadSnapshot returns the state that b holds, or ErrSnapshot.
func ReadSnapshot(b []byte) (*State, error) {
	if len(b) < snapshotHeaderBytes+12 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: %d bytes without its magic", ErrSnapshot, len(b))
	}
	le := binary.LittleEndian
	sum, body := le.Uint32(b[len(snapshotMagic):]), b[snapshotHeaderBytes:]
	if got := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); got != sum {
		return nil, fmt.Errorf("%w: checksum %08x, the bytes have %08x", ErrSnapshot, sum, got)
	}
	s := &State{end: int64(le.Uint64(body)), producers: make(map[int64]*producer)}
	count := le.Uint32(body[8:])
	body = body[12:]
	for range count {
		if len(body) < producerBytes {
			return nil, fmt.Errorf("%w: it ends early", ErrSnapshot)
		}
		p := &producer{epoch: int16(le.Uint16(body[8:])), updated: int64(le.Uint64(body[10:])), count: int(body[18])}
		s.producers[int64(le.Uint64(body))] = p
		body = body[producerBytes:]
		if p.count < 1 || p.count > windowBatches || len(body) < p.count*batchBytes {
			return nil, fmt.Errorf("%w: %d batches of a producer in %d bytes", ErrSnapshot, p.count, len(body))
		}
		for i := range p.window[:p.count] {
			p.window[i] = batch{firstSequence: int32(le.Uint32(body)), lastSequence: int32(le.Uint32(body[4:])),
				Position: Position{BaseOffset: int64(le.Uint64(body[8:])), LastOffset: int64(le.Uint64(body[16:]))}}
			body = body[batchBytes:]
		}
	}
	if len(body) != 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrSnapshot, len(body))
	}
	return s, nil
}
