package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Positions in a batch (Kafka protocol, "Record Batch").
const (
	posLength          = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21 // the checksum covers everything from here
	posLastOffsetDelta = 23
	posBaseTimestamp   = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posCount           = 57
)

// Magic is the one batch version that is known here.
const Magic = 2

// Attribute bits.
const (
	attrCodec         = 7
	attrLogAppendTime = 1 << 3
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
	attrDeleteHorizon = 1 << 6
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ParseHeader decodes the header of the batch at the start of b and checks
// that b holds the whole batch (ErrTruncated), and magic and lengths
// (ErrCorrupt). It does not check the CRC.
func ParseHeader(b []byte) (Header, error) {
	h, err := ParsePrefix(b)
	if err != nil {
		return Header{}, err
	}
	if len(b) < h.Size() {
		return Header{}, fmt.Errorf("%w: batch at offset %d has %d bytes, of which %d are there", ErrTruncated, h.BaseOffset, h.Size(), len(b))
	}
	return h, nil
}

// ParsePrefix is ParseHeader for a buffer that may end before the batch's
// records do: at least HeaderBytes must be there. It serves those who read
// headers only.
func ParsePrefix(b []byte) (Header, error) {
	if len(b) < HeaderBytes {
		return Header{}, fmt.Errorf("%w: %d of the header's %d bytes are there", ErrTruncated, len(b), HeaderBytes)
	}
	b = b[:HeaderBytes]
	h := Header{
		BaseOffset:           int64(binary.BigEndian.Uint64(b)),
		Length:               int32(binary.BigEndian.Uint32(b[posLength:])),
		PartitionLeaderEpoch: int32(binary.BigEndian.Uint32(b[posLeaderEpoch:])),
		Magic:                int8(b[posMagic]),
		CRC:                  binary.BigEndian.Uint32(b[posCRC:]),
		Attributes:           int16(binary.BigEndian.Uint16(b[posAttributes:])),
		LastOffsetDelta:      int32(binary.BigEndian.Uint32(b[posLastOffsetDelta:])),
		BaseTimestamp:        int64(binary.BigEndian.Uint64(b[posBaseTimestamp:])),
		MaxTimestamp:         int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])),
		ProducerID:           int64(binary.BigEndian.Uint64(b[posProducerID:])),
		ProducerEpoch:        int16(binary.BigEndian.Uint16(b[posProducerEpoch:])),
		BaseSequence:         int32(binary.BigEndian.Uint32(b[posBaseSequence:])),
		Count:                int32(binary.BigEndian.Uint32(b[posCount:])),
	}
	switch {
	case h.Magic != Magic:
		return Header{}, fmt.Errorf("%w: magic %d, only %d is supported", ErrCorrupt, h.Magic, Magic)
	case h.Length < HeaderBytes-LengthOverhead:
		return Header{}, fmt.Errorf("%w: length %d is less than the header's %d", ErrCorrupt, h.Length, HeaderBytes-LengthOverhead)
	case h.LastOffsetDelta < 0 || h.Count < 0 || int64(h.Count) > int64(h.LastOffsetDelta)+1:
		return Header{}, fmt.Errorf("%w: %d records with a last offset delta of %d", ErrCorrupt, h.Count, h.LastOffsetDelta)
	case h.BaseOffset < 0:
		return Header{}, fmt.Errorf("%w: base offset %d is negative", ErrCorrupt, h.BaseOffset)
	}
	return h, nil
}

// CheckCRC compares the checksum (CRC-32C over bytes 21 to the end) of the
// whole batch at the start of b. Bytes behind the batch are ignored.
func CheckCRC(b []byte) error {
	h, err := ParseHeader(b)
	if err != nil {
		return err
	}
	if sum := crc32.Checksum(b[posAttributes:h.Size()], castagnoli); sum != h.CRC {
		return fmt.Errorf("%w: checksum is %08x, the batch says %08x", ErrCorrupt, sum, h.CRC)
	}
	return nil
}

// PutBase writes base offset (bytes 0-7) and leader epoch (12-15): neither is
// covered by the checksum.
func PutBase(b []byte, baseOffset int64, leaderEpoch int32) {
	_ = b[posMagic]
	binary.BigEndian.PutUint64(b, uint64(baseOffset))
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(leaderEpoch))
}

// SetLogAppendTime marks the whole batch b as stamped by the broker at
// timestamp (ms): attribute bit 3 and the maximum timestamp are set, the
// checksum, which covers both, is computed anew. The base timestamp and the
// records stay as they are; readers take the maximum for every record.
func SetLogAppendTime(b []byte, timestamp int64) error {
	h, err := ParseHeader(b)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(h.Attributes)|attrLogAppendTime)
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(timestamp))
	putCRC(b[:h.Size()])
	return nil
}

// DeleteHorizon returns the time (ms) from which on tombstones of a compacted
// batch may be dropped (KIP-534): attribute bit 6 says that the base timestamp
// is that time.
func (h *Header) DeleteHorizon() (ms int64, ok bool) {
	return h.BaseTimestamp, h.Attributes&attrDeleteHorizon != 0
}

// SetCodec says how the records of a batch in the making are compressed.
func (h *Header) SetCodec(c Codec) {
	h.Attributes = h.Attributes&^attrCodec | int16(c)&attrCodec
}

// SetDeleteHorizon makes the base timestamp the delete horizon. The batch has
// to be built anew (Builder.ResetFrom): its records' timestamps count from it.
func (h *Header) SetDeleteHorizon(ms int64) {
	h.BaseTimestamp = ms
	h.Attributes |= attrDeleteHorizon
}

// ClearDeleteHorizon makes the base timestamp an ordinary one again; as with SetDeleteHorizon the batch has to be built anew.
func (h *Header) ClearDeleteHorizon() { h.Attributes &^= attrDeleteHorizon }

// putCRC computes the checksum of the batch that b is.
func putCRC(b []byte) {
	binary.BigEndian.PutUint32(b[posCRC:], crc32.Checksum(b[posAttributes:], castagnoli))
}

// put encodes h, except the checksum, into the first HeaderBytes of b.
func (h *Header) put(b []byte) {
	b = b[:HeaderBytes]
	binary.BigEndian.PutUint64(b, uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(b[posLength:], uint32(h.Length))
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(h.PartitionLeaderEpoch))
	b[posMagic] = byte(h.Magic)
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(b[posLastOffsetDelta:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[posBaseTimestamp:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[posProducerID:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[posProducerEpoch:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[posBaseSequence:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[posCount:], uint32(h.Count))
}
