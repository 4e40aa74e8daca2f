package record

// ParseHeader decodes the header of the batch at the start of b and checks
// that b holds the whole batch (ErrTruncated), and magic and lengths (ErrCorrupt). It does not check the CRC.
func ParseHeader(b []byte) (Header, error) { panic("stub") }

// CheckCRC compares the checksum (CRC-32C over bytes 21 to the end) of the whole batch b.
func CheckCRC(b []byte) error { panic("stub") }

// PutBase writes base offset (bytes 0-7) and leader epoch (12-15): neither is covered by the checksum.
func PutBase(b []byte, baseOffset int64, leaderEpoch int32) { panic("stub") }

// Iter walks the records of a batch without allocating.
type Iter struct{}

// Iterate returns an iterator over the records of the whole batch b. Compressed
// records are decompressed into scratch (grown as needed, at most maxBytes, else ErrTooLarge);
// the returned slice is to be passed in again next time.
func Iterate(b []byte, scratch []byte, maxBytes int) (it Iter, grown []byte, err error) {
	panic("stub")
}

// Next decodes the next record into r and reports whether there was one.
func (it *Iter) Next(r *Record) bool { panic("stub") }

// Err returns what ended the iteration early (ErrCorrupt), or nil.
func (it *Iter) Err() error { panic("stub") }

// HeaderIter walks the encoded headers of one record.
type HeaderIter struct{}

// IterateHeaders starts a walk over r.Headers.
func IterateHeaders(r *Record) HeaderIter { panic("stub") }

// Next returns the next header. value is nil for a null one.
func (h *HeaderIter) Next() (name, value []byte, ok bool) { panic("stub") }

// Builder builds one batch in a buffer of its own that is used again after Reset. Usage:
// Reset, then per record Begin(ts,key,value,headerCount) and Header for each header, End; at last Finish.
type Builder struct{}

// Reset begins a new batch; dst is extended (its content before is kept, so batches can be put one behind the other).
func (w *Builder) Reset(dst []byte, codec Codec) { panic("stub") }

// Append adds a record with already known headers (encoded as in a batch); nil key or value = null. timestamp in ms.
func (w *Builder) Append(timestamp int64, key, value, encodedHeaders []byte, headerCount int) {
	panic("stub")
}

// AppendHeader encodes one header behind dst in the batch's form, for Append.
func AppendHeader(dst, name, value []byte) []byte { panic("stub") }

// Count and SizeBytes tell what has been added so far (uncompressed).
func (w *Builder) Count() int     { panic("stub") }
func (w *Builder) SizeBytes() int { panic("stub") }

// Finish writes the header and the checksum and returns dst with the batch appended.
// producer id, epoch and sequence are -1 unless set by SetProducer before.
func (w *Builder) Finish() []byte { panic("stub") }

// SetProducer sets producer id, epoch, base sequence and whether the batch is transactional.
func (w *Builder) SetProducer(id int64, epoch int16, baseSequence int32, transactional bool) {
	panic("stub")
}
