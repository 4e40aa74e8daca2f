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
// and last offset (8 each). Then the number of open transactions (4), each with
// producer id and first offset (8 each), and the number of aborted ones (4),
// each with producer id, first, last and stable offset (8 each). Little endian.
const (
	snapshotMagic       = "MSPS0002"
	snapshotHeaderBytes = len(snapshotMagic) + 4
	producerBytes       = 8 + 2 + 8 + 1
	batchBytes          = 4 + 4 + 8 + 8
	openBytes           = 8 + 8
	abortedBytes        = 4 * 8
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
	dst = le.AppendUint32(dst, uint32(len(s.open)))
	for _, o := range s.open {
		dst = le.AppendUint64(le.AppendUint64(dst, uint64(o.producerID)), uint64(o.first))
	}
	dst = le.AppendUint32(dst, uint32(len(s.aborted)))
	for _, a := range s.aborted {
		for _, v := range [...]int64{a.ProducerID, a.First, a.Last, a.stable} {
			dst = le.AppendUint64(dst, uint64(v))
		}
	}
	body := dst[from+snapshotHeaderBytes:]
	le.PutUint32(dst[from+len(snapshotMagic):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return dst
}

// ReadSnapshot returns the state that b holds, or ErrSnapshot.
func ReadSnapshot(b []byte) (*State, error) {
	if len(b) < snapshotHeaderBytes+8 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: %d bytes without its magic", ErrSnapshot, len(b))
	}
	sum, body := binary.LittleEndian.Uint32(b[len(snapshotMagic):]), b[snapshotHeaderBytes:]
	if got := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); got != sum {
		return nil, fmt.Errorf("%w: checksum %08x, the bytes have %08x", ErrSnapshot, sum, got)
	}
	s := &State{end: int64(binary.LittleEndian.Uint64(body)), producers: make(map[int64]*producer)}
	rest, err := s.readProducers(body[8:])
	if err == nil {
		rest, err = s.readTransactions(rest)
	}
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrSnapshot, len(rest))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *State) readProducers(body []byte) (rest []byte, err error) {
	count, body, err := readCount(body, producerBytes)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	for range count {
		if len(body) < producerBytes {
			return nil, fmt.Errorf("%w: it ends early", ErrSnapshot)
		}
		p := &producer{epoch: int16(le.Uint16(body[8:])), updated: int64(le.Uint64(body[10:])), count: int(body[18])}
		s.producers[int64(le.Uint64(body))] = p
		body = body[producerBytes:]
		if p.count > windowBatches || len(body) < p.count*batchBytes {
			return nil, fmt.Errorf("%w: %d batches of a producer in %d bytes", ErrSnapshot, p.count, len(body))
		}
		for i := range p.window[:p.count] {
			p.window[i] = batch{firstSequence: int32(le.Uint32(body)), lastSequence: int32(le.Uint32(body[4:])),
				Position: Position{BaseOffset: int64(le.Uint64(body[8:])), LastOffset: int64(le.Uint64(body[16:]))}}
			body = body[batchBytes:]
		}
	}
	return body, nil
}

func (s *State) readTransactions(body []byte) (rest []byte, err error) {
	le := binary.LittleEndian
	count, body, err := readCount(body, openBytes)
	if err != nil {
		return nil, err
	}
	for range count {
		o := openTransaction{producerID: int64(le.Uint64(body)), first: int64(le.Uint64(body[8:]))}
		p := s.producers[o.producerID]
		if p == nil || p.open {
			return nil, fmt.Errorf("%w: open transaction of producer %d, which is unknown or has another", ErrSnapshot, o.producerID)
		}
		p.open = true
		s.open = append(s.open, o)
		body = body[openBytes:]
	}
	if count, body, err = readCount(body, abortedBytes); err != nil {
		return nil, err
	}
	for range count {
		at := func(i int) int64 { return int64(le.Uint64(body[8*i:])) }
		s.aborted = append(s.aborted, Aborted{ProducerID: at(0), First: at(1), Last: at(2), stable: at(3)})
		body = body[abortedBytes:]
	}
	return body, nil
}

// readCount reads how many things of at least size bytes follow.
func readCount(body []byte, size int) (count uint32, rest []byte, err error) {
	if len(body) < 4 {
		return 0, nil, fmt.Errorf("%w: it ends early", ErrSnapshot)
	}
	count, rest = binary.LittleEndian.Uint32(body), body[4:]
	if uint64(count)*uint64(size) > uint64(len(rest)) {
		return 0, nil, fmt.Errorf("%w: it ends early", ErrSnapshot)
	}
	return count, rest, nil
}
