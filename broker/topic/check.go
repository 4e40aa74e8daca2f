package topic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// noTimestamp is the timestamp of a record without one.
const noTimestamp = -1

// Positions in a batch header that are rewritten in place.
const (
	crcAt          = 17
	attributesAt   = 21
	maxTimestampAt = 35
	timestampBit   = 1 << 3
	maxCodec       = record.Zstd
)

// InvalidRecordsError names the records for which a batch was refused.
type InvalidRecordsError struct {
	Indexes []int // positions in the batch, the first maxInvalidRecords of them
	Reason  string
}

// maxInvalidRecords bounds the list in an error, and so in a response.
const maxInvalidRecords = 100

func (e *InvalidRecordsError) Error() string {
	return fmt.Sprintf("%s: record %v of the batch: %s", ErrInvalidBatch, e.Indexes, e.Reason)
}

func (e *InvalidRecordsError) Unwrap() error { return ErrInvalidBatch }

// survey is what a walk over the records of a batch finds out.
type survey struct {
	minTimestamp, maxTimestamp int64
	keyless                    []int // records without a key
}

// checker checks the batches of clients. It is shared by all partitions.
type checker struct {
	scratch       sync.Pool // *[]byte
	recompressors sync.Pool // *recompressor
	unpacking     unpacking
	crc           *crc32.Table
}

func newChecker() *checker {
	return &checker{crc: crc32.MakeTable(crc32.Castagnoli), unpacking: newUnpacking()}
}

// clientBatch checks everything that a client may have got wrong in the one
// batch b, before anything of it is written, and sets in place what the broker
// decides: type and maximum of the timestamps.
func (c *checker) clientBatch(b []byte, s *settings, now time.Time) (record.Header, error) {
	h, err := record.ParseHeader(b)
	if err != nil {
		return h, err
	}
	if err := checkHeader(&h, len(b)); err != nil {
		return h, err
	}
	if int64(h.Size()) > s.maxMessageBytes {
		return h, fmt.Errorf("%w: batch of %d bytes, %s is %d", ErrMessageTooLarge, h.Size(), ConfigMaxMessageBytes, s.maxMessageBytes)
	}
	if err := record.CheckCRC(b); err != nil {
		return h, err
	}
	if h.LogAppendTime() {
		// Not the client's to say; with the bit set, the records' own timestamps would not be looked at.
		b[attributesAt+1] &^= timestampBit
	}
	found, err := c.survey(b, &h, s.log.Compact)
	if err != nil {
		return h, err
	}
	if len(found.keyless) > 0 {
		return h, &InvalidRecordsError{Indexes: found.keyless, Reason: "a compacted topic takes no record without a key"}
	}
	if s.logAppendTime {
		return h, nil
	}
	if err := checkTimestamps(found, s, now.UnixMilli()); err != nil {
		return h, err
	}
	if h.LogAppendTime() || h.MaxTimestamp != found.maxTimestamp {
		c.setTimestamps(b, &h, false, found.maxTimestamp)
	}
	return h, nil
}

// checkHeader checks what the header alone tells.
func checkHeader(h *record.Header, size int) error {
	switch {
	case h.Size() != size:
		return fmt.Errorf("%w: %d bytes behind the batch, want exactly one batch", ErrInvalidBatch, size-h.Size())
	case h.Count <= 0:
		return fmt.Errorf("%w: record count %d", ErrInvalidBatch, h.Count)
	case h.LastOffsetDelta != h.Count-1:
		return fmt.Errorf("%w: last offset delta %d with %d records", ErrInvalidBatch, h.LastOffsetDelta, h.Count)
	case h.Control():
		return fmt.Errorf("%w: control batch from a client", ErrInvalidBatch)
	case h.Codec() > maxCodec:
		return fmt.Errorf("%w: unknown compression %d", ErrInvalidBatch, h.Codec())
	case h.ProducerID < -1, h.ProducerID >= 0 && (h.ProducerEpoch < 0 || h.BaseSequence < 0):
		return fmt.Errorf("%w: producer id %d with epoch %d and sequence %d", ErrInvalidBatch, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	case h.Transactional() && h.ProducerID < 0:
		return fmt.Errorf("%w: transactional batch without a producer id", ErrInvalidBatch)
	}
	return nil
}

func checkTimestamps(found survey, s *settings, now int64) error {
	// The subtractions cannot overflow: both limits are at least zero.
	if after := found.maxTimestamp; after > now && after-now > s.afterMaxMillis {
		return fmt.Errorf("%w: %d ms after the broker's clock, message.timestamp.after.max.ms is %d", ErrInvalidTimestamp, after-now, s.afterMaxMillis)
	}
	if before := found.minTimestamp; before != noTimestamp && s.beforeMaxMillis != math.MaxInt64 && before < now-s.beforeMaxMillis {
		return fmt.Errorf("%w: timestamp %d is older than message.timestamp.before.max.ms, which is %d", ErrInvalidTimestamp, before, s.beforeMaxMillis)
	}
	return nil
}

// setTimestamps rewrites what says whose the timestamps are, and the checksum that covers it.
func (c *checker) setTimestamps(b []byte, h *record.Header, logAppendTime bool, maxTimestamp int64) {
	h.Attributes &^= timestampBit
	if logAppendTime {
		h.Attributes |= timestampBit
	}
	h.MaxTimestamp = maxTimestamp
	binary.BigEndian.PutUint16(b[attributesAt:], uint16(h.Attributes))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(maxTimestamp))
	h.CRC = crc32.Checksum(b[attributesAt:h.Size()], c.crc)
	binary.BigEndian.PutUint32(b[crcAt:], h.CRC)
}

// survey walks the records and checks that they are what the header says.
func (c *checker) survey(b []byte, h *record.Header, wantKeys bool) (survey, error) {
	if h.Codec() == record.None {
		return surveyPlain(b[record.HeaderBytes:h.Size()], h, wantKeys)
	}
	var found survey
	err := c.unpacking.run(func(maxBytes int) (err error) {
		found, err = c.surveyPacked(b, h, wantKeys, maxBytes)
		return err
	})
	return found, err
}

func (c *checker) surveyPacked(b []byte, h *record.Header, wantKeys bool, maxBytes int) (survey, error) {
	p, _ := c.scratch.Get().(*[]byte)
	if p == nil {
		p = new([]byte)
	}
	it, grown, err := record.Iterate(b, *p, maxBytes)
	defer func() {
		if cap(grown) <= keepUnpackedBytes {
			*p = grown
			c.scratch.Put(p)
		}
	}()
	if err != nil {
		return survey{}, refuse(err)
	}
	found := survey{minTimestamp: math.MaxInt64, maxTimestamp: noTimestamp}
	var r record.Record
	n := int64(0)
	for it.Next(&r) {
		if r.Offset-h.BaseOffset != n {
			return found, fmt.Errorf("%w: record %d has offset delta %d", ErrInvalidBatch, n, r.Offset-h.BaseOffset)
		}
		found.add(int(n), r.Timestamp, wantKeys && r.Key == nil)
		n++
	}
	if err := it.Err(); err != nil {
		return found, refuse(err)
	}
	if n != int64(h.Count) {
		return found, fmt.Errorf("%w: %d records, the header says %d", ErrInvalidBatch, n, h.Count)
	}
	return found, nil
}

// refuse tells bytes that a client made wrong (the checksum is right) from bytes that got damaged.
func refuse(err error) error {
	if errors.Is(err, record.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrMessageTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalidBatch, err)
}

func (s *survey) add(index int, timestamp int64, keyless bool) {
	s.minTimestamp = min(s.minTimestamp, timestamp)
	s.maxTimestamp = max(s.maxTimestamp, timestamp)
	if keyless && len(s.keyless) < maxInvalidRecords {
		s.keyless = append(s.keyless, index)
	}
}
