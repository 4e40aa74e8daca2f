package txn

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Versions of Kafka's stored formats. Values of version 1 carry what V2 needs.
const (
	keyVersion   = 0
	valueVersion = 1
)

// encode returns a transactional id's record in Kafka's stored format; without metadata it is a tombstone.
func encode(id string, m *metadata) (key, value []byte) {
	k := kmsg.TxnMetadataKey{Version: keyVersion, TransactionalID: id}
	key = k.AppendTo(nil)
	if m == nil {
		return key, nil
	}
	v := kmsg.NewTxnMetadataValue()
	v.Version = valueVersion
	v.ProducerID, v.ProducerEpoch = m.producer.ID, m.producer.Epoch
	v.TimeoutMillis = int32(m.timeout.Milliseconds())
	v.State = kmsg.TransactionState(m.state)
	v.LastUpdateTimestamp, v.StartTimestamp = m.updated.UnixMilli(), -1
	if !m.started.IsZero() {
		v.StartTimestamp = m.started.UnixMilli()
	}
	v.PreviousProducerID, v.NextProducerID, v.NextProducerEpoch = m.previousID, m.next.ID, m.next.Epoch
	v.ClientTransactionVersion = int16(m.version)
	for _, tp := range sorted(m.partitions) {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != tp.Topic {
			t := kmsg.NewTxnMetadataValueTopic()
			t.Topic = tp.Topic
			v.Topics = append(v.Topics, t)
		}
		t := &v.Topics[len(v.Topics)-1]
		t.Partitions = append(t.Partitions, tp.Partition)
	}
	return key, v.AppendTo(nil)
}

// decode reads a record of the journal; the metadata of a tombstone is nil.
func decode(key, value []byte) (id string, m *metadata, err error) {
	var k kmsg.TxnMetadataKey
	if version, ok := versionOf(key); !ok || version != keyVersion {
		return "", nil, fmt.Errorf("%w: key of %d bytes with version %d", errForeignRecord, len(key), version)
	}
	if err := k.ReadFrom(key); err != nil {
		return "", nil, fmt.Errorf("%w: key: %w", errForeignRecord, err)
	}
	if value == nil {
		return k.TransactionalID, nil, nil
	}
	if version, ok := versionOf(value); !ok || version > valueVersion {
		return "", nil, fmt.Errorf("%w: value of %d bytes with version %d, at most %d is known", errForeignRecord, len(value), version, valueVersion)
	}
	if !wellFormed(value) {
		return "", nil, fmt.Errorf("%w: value of %d bytes is malformed", errForeignRecord, len(value))
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return "", nil, fmt.Errorf("%w: value: %w", errForeignRecord, err)
	}
	if v.State < 0 || v.State >= kmsg.TransactionState(StateDead) || v.ProducerID < 0 || v.ProducerEpoch < 0 || v.TimeoutMillis < 0 {
		return "", nil, fmt.Errorf("%w: state %d of producer %d with epoch %d and timeout %d", errForeignRecord, v.State, v.ProducerID, v.ProducerEpoch, v.TimeoutMillis)
	}
	m = &metadata{
		producer:   Producer{v.ProducerID, v.ProducerEpoch},
		previousID: v.PreviousProducerID,
		next:       Producer{v.NextProducerID, v.NextProducerEpoch},
		lastEpoch:  -1,
		timeout:    time.Duration(v.TimeoutMillis) * time.Millisecond,
		state:      State(v.State),
		updated:    time.UnixMilli(v.LastUpdateTimestamp),
		version:    Version(v.ClientTransactionVersion),
	}
	if m.next.ID >= 0 && m.next.Epoch < 0 {
		m.next.Epoch = 0 // Kafka 4.0 does not store it
	}
	if v.StartTimestamp >= 0 {
		m.started = time.UnixMilli(v.StartTimestamp)
	}
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			if m.partitions == nil {
				m.partitions = make(map[Partition]struct{})
			}
			m.partitions[Partition{Topic: t.Topic, Partition: p}] = struct{}{}
		}
	}
	return k.TransactionalID, m, nil
}

// wellFormed walks a value of a flexible version, whose counts kmsg takes at their word.
func wellFormed(value []byte) bool {
	if version, _ := versionOf(value); version < 1 {
		return true
	}
	r := kbin.Reader{Src: value}
	r.Span(2 + 8 + 2 + 4 + 1) // up to the state
	for topics := r.CompactArrayLen(); topics > 0 && r.Ok(); topics-- {
		r.Span(int(r.Uvarint()) - 1) // name
		r.Span(4 * max(0, int(r.CompactArrayLen())))
		skipTags(&r)
	}
	r.Span(8 + 8) // times
	skipTags(&r)
	return r.Ok() && len(r.Src) == 0
}

func skipTags(r *kbin.Reader) {
	for tags := r.Uvarint(); tags > 0 && r.Ok(); tags-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}

func versionOf(b []byte) (version int16, ok bool) {
	if len(b) < 2 {
		return -1, false
	}
	version = int16(b[0])<<8 | int16(b[1])
	return version, version >= 0
}

// sorted lists partitions by topic and number.
func sorted(partitions map[Partition]struct{}) []Partition {
	out := make([]Partition, 0, len(partitions))
	for tp := range partitions {
		out = append(out, tp)
	}
	slices.SortFunc(out, comparePartitions)
	return out
}
