package abi

import (
	"encoding/binary"
	"fmt"
)

// Output is one decoded output record; its slices are views.
type Output struct {
	Input     int   // index of the input record in its batch
	Index     int   // output index: position in the setup block's outputs
	Timestamp int64 // ms since the epoch
	Key       []byte
	Value     []byte
	// Headers are HeaderCount headers in the flat form; see NextHeader.
	Headers     []byte
	HeaderCount int
}

// Outputs is a checked sequence of output records (never verdicts). Next
// fills o, whose slices are valid until the guest is called again.
type Outputs interface {
	Next(o *Output) bool
}

// Verdict is a reject entry: the guest's word against one input.
type Verdict struct {
	Input  int
	Reason []byte // UTF-8 by convention; a view
}

// AppendOutput appends a record entry to dst. With setTimestamp, o.Timestamp is
// the record's event time, otherwise the host takes the input's.
func AppendOutput(dst []byte, o *Output, setTimestamp bool) []byte {
	size := OutputHeaderBytes + len(o.Key) + len(o.Value) + len(o.Headers)
	le := binary.LittleEndian
	var h [OutputHeaderBytes]byte
	le.PutUint32(h[0:], uint32(size))
	h[4] = KindRecord
	if setTimestamp {
		h[5] = FlagTimestamp
		le.PutUint64(h[24:], uint64(o.Timestamp))
	}
	le.PutUint16(h[6:], uint16(o.Index))
	le.PutUint32(h[8:], uint32(o.Input))
	le.PutUint32(h[12:], uint32(lengthOf(o.Key)))
	le.PutUint32(h[16:], uint32(lengthOf(o.Value)))
	le.PutUint32(h[20:], uint32(o.HeaderCount))
	dst = append(dst, h[:]...)
	dst = append(dst, o.Key...)
	dst = append(dst, o.Value...)
	return append(dst, o.Headers...)
}

// AppendReject appends a reject entry to dst.
func AppendReject[S string | []byte](dst []byte, input int, reason S) []byte {
	le := binary.LittleEndian
	var h [OutputHeaderBytes]byte
	le.PutUint32(h[0:], uint32(OutputHeaderBytes+len(reason)))
	h[4] = KindReject
	le.PutUint32(h[8:], uint32(input))
	binary.LittleEndian.PutUint32(h[12:], 0xffff_ffff)
	le.PutUint32(h[16:], uint32(len(reason)))
	dst = append(dst, h[:]...)
	return append(dst, reason...)
}

// OutputChecker validates the output entries of one call of a guest, piece by
// piece: each Check takes bytes that must be whole entries, in the order the
// guest handed them over. Nothing of a call may be used before all its pieces
// passed. The zero value needs Reset; it may be reused without allocating.
type OutputChecker struct {
	// Verdicts are the rejected inputs so far, ascending; reasons are views of the pieces.
	Verdicts []Verdict
	// Count and SizeBytes are the record entries that stand: those of rejected inputs are not in them.
	Count     int
	SizeBytes int

	inputs  uint32 // records in the batch
	outputs uint32 // outputs of the deployment
	last    uint32 // input of the latest entry
	closed  bool   // that input has its verdict
	// What the latest input has put out so far, to take it back when it is rejected.
	lastCount, lastBytes int
}

// Reset prepares c for a call with the given number of input records, of a
// deployment with the given number of outputs.
func (c *OutputChecker) Reset(inputs, outputs int) {
	*c = OutputChecker{Verdicts: c.Verdicts[:0], inputs: uint32(inputs), outputs: uint32(outputs)}
}

// Check validates one piece. Errors: ErrMalformed, with the entry's position in
// the piece.
func (c *OutputChecker) Check(piece []byte) error {
	le := binary.LittleEndian
	for rest := piece; len(rest) > 0; {
		if len(rest) < OutputHeaderBytes {
			return c.malformed(piece, rest, "%d bytes are left where an entry's header has %d", len(rest), OutputHeaderBytes)
		}
		h := (*[OutputHeaderBytes]byte)(rest)
		first := le.Uint64(h[:])
		size, kind, flags, index := uint32(first), uint8(first>>32), uint8(first>>40), uint32(first>>48)
		input := le.Uint32(h[8:])
		if size < OutputHeaderBytes || uint64(size) > uint64(len(rest)) {
			return c.malformed(piece, rest, "entry says it has %d bytes, %d are left", size, len(rest))
		}
		if input >= c.inputs {
			return c.malformed(piece, rest, "input index %d of a batch of %d", input, c.inputs)
		}
		if input != c.last {
			if input < c.last {
				return c.malformed(piece, rest, "input index %d behind %d: entries must ascend", input, c.last)
			}
			c.last, c.closed, c.lastCount, c.lastBytes = input, false, 0, 0
		} else if c.closed {
			return c.malformed(piece, rest, "input %d has another entry behind its reject entry", input)
		}
		entry := rest[:size]
		// Most entries are records with neither a timestamp nor headers: one look is enough.
		if first>>32&0xffff == KindRecord && index < c.outputs {
			keyLen, valueLen := int32(le.Uint32(h[12:])), int32(le.Uint32(h[16:]))
			bare := OutputHeaderBytes + int64(max(keyLen, 0)) + int64(max(valueLen, 0))
			if min(keyLen, valueLen) >= Null && bare == int64(size) && le.Uint32(h[20:]) == 0 {
				c.add(int(size))
				rest = rest[size:]
				continue
			}
		}
		var err error
		switch kind {
		case KindRecord:
			err = c.checkRecord(piece, entry, flags, index)
		case KindReject:
			err = c.checkReject(piece, entry, flags, index)
		default:
			err = c.malformed(piece, rest, "kind %d is neither a record (%d) nor a reject (%d)", kind, KindRecord, KindReject)
		}
		if err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

func (c *OutputChecker) checkRecord(piece, entry []byte, flags uint8, index uint32) error {
	le := binary.LittleEndian
	keyLen, valueLen := int32(le.Uint32(entry[12:])), int32(le.Uint32(entry[16:]))
	headerCount := int(le.Uint32(entry[20:]))
	if index >= c.outputs {
		return c.malformed(piece, entry, "output index %d, the deployment has %d outputs", index, c.outputs)
	}
	if flags&^FlagTimestamp != 0 {
		return c.malformed(piece, entry, "unknown flags %#x", flags)
	}
	if timestamp := int64(le.Uint64(entry[24:])); flags&FlagTimestamp != 0 && timestamp < 0 {
		return c.malformed(piece, entry, "timestamp %d is before 1970", timestamp)
	}
	k, v := max(int(keyLen), 0), max(int(valueLen), 0)
	headerBytes := len(entry) - OutputHeaderBytes - k - v
	if keyLen < Null || valueLen < Null || headerBytes < 0 {
		return c.malformed(piece, entry, "key of %d and value of %d bytes in an entry of %d", keyLen, valueLen, len(entry))
	}
	if headerCount|headerBytes != 0 {
		if err := CheckHeaders(entry[len(entry)-headerBytes:], headerCount); err != nil {
			return c.malformed(piece, entry, "%w", err)
		}
	}
	c.add(len(entry))
	return nil
}

func (c *OutputChecker) add(size int) {
	c.Count++
	c.SizeBytes += size
	c.lastCount++
	c.lastBytes += size
}

func (c *OutputChecker) checkReject(piece, entry []byte, flags uint8, index uint32) error {
	le := binary.LittleEndian
	reason := entry[OutputHeaderBytes:]
	if flags != 0 || index != 0 || int32(le.Uint32(entry[12:])) != Null || le.Uint32(entry[20:]) != 0 || le.Uint64(entry[24:]) != 0 {
		return c.malformed(piece, entry, "reject entry with more than a reason")
	}
	if n := int32(le.Uint32(entry[16:])); int(n) != len(reason) {
		return c.malformed(piece, entry, "reason of %d bytes in an entry of %d", n, len(entry))
	}
	c.Count -= c.lastCount
	c.SizeBytes -= c.lastBytes
	c.closed = true
	c.Verdicts = append(c.Verdicts, Verdict{Input: int(c.last), Reason: reason[:len(reason):len(reason)]})
	return nil
}

func (c *OutputChecker) malformed(piece, rest []byte, format string, args ...any) error {
	at := cap(piece) - cap(rest)
	return fmt.Errorf("%w output entry at byte %d: %w", ErrMalformed, at, fmt.Errorf(format, args...))
}

// OutputIterator walks the record entries of pieces that passed an
// OutputChecker, leaving out rejected inputs. It implements Outputs.
type OutputIterator struct {
	rest       []byte
	tail       []byte
	verdicts   []Verdict
	timestamps []int64
	otherwise  int64
}

// Reset prepares it to walk the entries of first and then of second. verdicts
// are the checker's.
func (it *OutputIterator) Reset(first, second []byte, verdicts []Verdict) {
	*it = OutputIterator{rest: first, tail: second, verdicts: verdicts, otherwise: NoTimestamp}
}

// Stamp has outputs that set no timestamp get that of their input, and those of
// inputs beyond timestamps the other one. Without it they have NoTimestamp.
func (it *OutputIterator) Stamp(timestamps []int64, otherwise int64) {
	it.timestamps, it.otherwise = timestamps, otherwise
}

// Next implements Outputs.
func (it *OutputIterator) Next(o *Output) bool {
	le := binary.LittleEndian
	for {
		if len(it.rest) < OutputHeaderBytes {
			if len(it.tail) < OutputHeaderBytes {
				return false
			}
			it.rest, it.tail = it.tail, nil
		}
		h := (*[OutputHeaderBytes]byte)(it.rest)
		first := le.Uint64(h[:])
		size := int(uint32(first))
		input := int(le.Uint32(h[8:]))
		entry := it.rest[:size:size]
		it.rest = it.rest[size:]
		if uint8(first>>32) != KindRecord || len(it.verdicts) > 0 && it.rejected(input) {
			continue
		}
		o.Input = input
		o.Index = int(first >> 48)
		switch {
		case uint8(first>>40)&FlagTimestamp != 0:
			o.Timestamp = int64(le.Uint64(h[24:]))
		case input < len(it.timestamps):
			o.Timestamp = it.timestamps[input]
		default:
			o.Timestamp = it.otherwise
		}
		o.HeaderCount = int(le.Uint32(h[20:]))
		o.Key, o.Value = nil, nil
		at := OutputHeaderBytes
		if n := int(int32(le.Uint32(h[12:]))); n >= 0 {
			o.Key = entry[at : at+n : at+n]
			at += n
		}
		if n := int(int32(le.Uint32(h[16:]))); n >= 0 {
			o.Value = entry[at : at+n : at+n]
			at += n
		}
		o.Headers = entry[at:]
		return true
	}
}

func (it *OutputIterator) rejected(input int) bool {
	for len(it.verdicts) > 0 && it.verdicts[0].Input < input {
		it.verdicts = it.verdicts[1:]
	}
	return len(it.verdicts) > 0 && it.verdicts[0].Input == input
}
