package kafka

import (
	"encoding/binary"
	"slices"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kbin"
)

// The response of Fetch is encoded by hand, so that the log reads its batches
// right into the response. fetch_encode_test.go holds it to kmsg's decoder.

// Versions in which the response of Fetch changed.
const (
	fetchLogStart    = 5
	fetchWithSession = 7
	fetchReplica     = 11
	fetchFlexible    = 12
	fetchTopicID     = 13
)

// The length in front of a partition's records is a varint of as many bytes as
// it needs. usualSizeBytes are kept free for it, enough for usualSizeMax bytes
// of records; a partition is not asked for more at once, because all of it
// would have to be moved. 2 MiB a partition are enough to make the cost of a
// request vanish.
const (
	usualSizeBytes = 3
	usualSizeMax   = 1<<21 - 2
)

// encode builds the response behind prefix.
func (f *fetchPlan) encode(prefix []byte) {
	f.bytes, f.failed, f.limited = 0, false, false
	topics := f.choose()
	flexible := f.version >= fetchFlexible
	b := kbin.AppendInt32(prefix, 0) // throttle time
	if f.version >= fetchWithSession {
		b = kbin.AppendInt16(b, f.errorCode)
		b = kbin.AppendInt32(b, f.sessionID)
	}
	b = appendArrayLen(b, topics, flexible)
	for i := 0; i < len(f.partitions); {
		p := f.partitions[i]
		next, answered := f.sameTopic(i)
		if answered == 0 {
			i = next
			continue
		}
		switch {
		case f.version >= fetchTopicID:
			b = kbin.AppendUuid(b, p.id)
		case flexible:
			b = kbin.AppendCompactString(b, p.name)
		default:
			b = kbin.AppendString(b, p.name)
		}
		b = appendArrayLen(b, answered, flexible)
		for ; i < next; i++ {
			if f.partitions[i].answered {
				b = f.encodePartition(b, f.partitions[i])
			}
		}
		if flexible {
			b = append(b, 0) // tags
		}
	}
	if flexible {
		b = append(b, 0) // tags
	}
	f.out = b
}

// choose marks the partitions that are in the answer and counts their topics.
// A topic whose partitions are not side by side is there as often as it is met.
func (f *fetchPlan) choose() (topics int) {
	for _, p := range f.partitions {
		p.answered, p.bytes = !f.newsOnly || p.hasNews(f.committed), 0
	}
	for i := 0; i < len(f.partitions); {
		next, answered := f.sameTopic(i)
		if answered > 0 {
			topics++
		}
		i = next
	}
	return topics
}

// sameTopic returns where the row of partitions of one topic ends that begins at i, and how many of it are in the answer.
func (f *fetchPlan) sameTopic(i int) (next, answered int) {
	first := f.partitions[i]
	for next = i; next < len(f.partitions); next++ {
		p := f.partitions[next]
		if p.id != first.id || p.name != first.name {
			break
		}
		if p.answered {
			answered++
		}
	}
	return next, answered
}

func appendArrayLen(b []byte, n int, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(b, n)
	}
	return kbin.AppendArrayLen(b, n)
}

// encodePartition reads the records first and fills in error and offsets
// behind: the high watermark must not be older than the records.
func (f *fetchPlan) encodePartition(b []byte, p *fetchPartition) []byte {
	flexible := f.version >= fetchFlexible
	b = kbin.AppendInt32(b, p.index)
	fixedAt := len(b)
	b = append(b, make([]byte, 2+8+8)...) // error, high watermark, last stable offset
	if f.version >= fetchLogStart {
		b = append(b, make([]byte, 8)...)
	}
	abortedAt := len(b)
	b = f.appendAborted(b, nil, flexible)
	abortedEnd := len(b)
	if f.version >= fetchReplica {
		b = kbin.AppendInt32(b, -1) // preferred read replica
	}
	b, records, err := f.appendRecords(b, p, flexible)
	if f.committed && records > 0 {
		// The list comes before the records that tell what is in it; few fetches have to move their records for it.
		if aborted := p.partition.Aborted(b[len(b)-records:]); len(aborted) > 0 {
			b = slices.Replace(b, abortedAt, abortedEnd, f.appendAborted(nil, aborted, flexible)...)
		}
	}
	if flexible {
		b = append(b, 0) // tags
	}
	if err != nil {
		f.failed = true
	}
	o := offsetsOf(p, err)
	if p.offsets = o; err != nil {
		p.offsets = unknownOffsets() // so that the end of the error is news
	}
	binary.BigEndian.PutUint16(b[fixedAt:], uint16(code(err)))
	binary.BigEndian.PutUint64(b[fixedAt+2:], uint64(o.HighWatermark))
	binary.BigEndian.PutUint64(b[fixedAt+10:], uint64(o.LastStable))
	if f.version >= fetchLogStart {
		binary.BigEndian.PutUint64(b[fixedAt+18:], uint64(o.LogStart))
	}
	return b
}

// appendAborted lists aborted transactions: null for readers of everything.
func (f *fetchPlan) appendAborted(b []byte, aborted []topic.AbortedTransaction, flexible bool) []byte {
	if flexible {
		b = kbin.AppendCompactNullableArrayLen(b, len(aborted), !f.committed)
	} else {
		b = kbin.AppendNullableArrayLen(b, len(aborted), !f.committed)
	}
	for _, a := range aborted {
		b = kbin.AppendInt64(b, a.ProducerID)
		b = kbin.AppendInt64(b, a.FirstOffset)
		if flexible {
			b = append(b, 0) // tags
		}
	}
	return b
}

// appendRecords appends a partition's records with their length in front; n is how many bytes they are.
func (f *fetchPlan) appendRecords(b []byte, p *fetchPartition, flexible bool) (out []byte, n int, err error) {
	lengthAt := len(b)
	reserved := 4
	if flexible {
		reserved = usualSizeBytes
	}
	b = append(b, make([]byte, reserved)...)
	from := len(b)
	b, err = f.read(p, b)
	n = len(b) - from
	f.bytes, p.bytes = f.bytes+n, n
	if !flexible {
		binary.BigEndian.PutUint32(b[lengthAt:], uint32(n))
		return b, n, err
	}
	// A compact length is 1 + n in a varint; the records move if it is not of the usual size.
	want := kbin.UvarintLen(uint32(n + 1))
	if want > reserved {
		b = append(b, make([]byte, want-reserved)...)
	}
	copy(b[lengthAt+want:], b[from:from+n])
	b = b[:lengthAt+want+n]
	binary.PutUvarint(b[lengthAt:lengthAt+want], uint64(n+1))
	return b, n, err
}
