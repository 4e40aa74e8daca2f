package record

import (
	"encoding/binary"
	"fmt"
)

// Marker is what a control batch says of the transaction of its producer that
// it ends (Kafka protocol, "Control Batches").
type Marker struct {
	Commit           bool // else it was aborted
	CoordinatorEpoch int32
}

// Types of control records; others than these two do not end a transaction.
const (
	controlAbort  = 0
	controlCommit = 1
)

// Sizes of the key {version, type} and the value {version, coordinator epoch}
// of a marker; both versions are 0. Later versions may add fields behind.
const (
	markerKeyBytes   = 4
	markerValueBytes = 6
)

// AppendMarker appends the control batch that ends a producer's transaction; timestamp in ms.
func AppendMarker(dst []byte, producerID int64, producerEpoch int16, m Marker, timestamp int64) []byte {
	var key [markerKeyBytes]byte
	var value [markerValueBytes]byte
	if m.Commit {
		binary.BigEndian.PutUint16(key[2:], controlCommit)
	}
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	var b Builder
	b.Reset(dst, None)
	b.Append(timestamp, key[:], value[:], nil, 0)
	b.SetProducer(producerID, producerEpoch, -1, true)
	b.SetControl()
	return b.Finish()
}

// ParseMarker reads the control batch at the start of b; ok is false if it is
// of a kind that does not end a transaction. A control batch that compaction
// has emptied is of that kind.
func ParseMarker(b []byte) (m Marker, ok bool, err error) {
	it, _, err := Iterate(b, nil, maxControlBytes)
	if err != nil {
		return m, false, err
	}
	var r Record
	if !it.Next(&r) {
		return m, false, it.Err()
	}
	if len(r.Key) < markerKeyBytes {
		return m, false, fmt.Errorf("%w: control record with a key of %d bytes", ErrCorrupt, len(r.Key))
	}
	kind := binary.BigEndian.Uint16(r.Key[2:])
	if kind != controlAbort && kind != controlCommit {
		return m, false, nil
	}
	if len(r.Value) < markerValueBytes {
		return m, false, fmt.Errorf("%w: transaction marker with a value of %d bytes", ErrCorrupt, len(r.Value))
	}
	return Marker{Commit: kind == controlCommit, CoordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:]))}, true, nil
}

// maxControlBytes caps what a control batch may unpack to; they are never compressed.
const maxControlBytes = 4096
