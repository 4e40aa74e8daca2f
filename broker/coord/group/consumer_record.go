package group

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kbin"
)

// The records of consumer groups have Kafka's stored formats, version 0. A key is
//
//	int16 kind, string group [, string member]
//
// and a value is int16 version followed by the fields of its kind, in the
// flexible encoding: strings and arrays are compact, structures end with tags.
//
//	3 ConsumerGroupMetadata                 int32 epoch; tag 0: int64 metadata hash
//	5 ConsumerGroupMemberMetadata           nullable string instance id, rack id; string client id, client host;
//	                                        []string topics; nullable string regex; int32 rebalance timeout ms;
//	                                        nullable string assignor; tag 0, of members that speak the classic protocol:
//	                                        nullable {int32 session timeout ms; []{string name, bytes metadata} protocols}
//	6 ConsumerGroupTargetAssignmentMetadata int32 assignment epoch
//	7 ConsumerGroupTargetAssignmentMember   []{uuid topic, []int32 partitions}
//	8 ConsumerGroupCurrentMemberAssignment  int32 epoch, previous epoch; int8 state;
//	                                        []{uuid topic, []int32 partitions} assigned, pending revocation
//
// A null value is a tombstone. Kinds 4 (partition metadata) and 16 (resolved
// regular expressions) are not written: what they hold follows from the topics.
type recordKind int16

const (
	recordGroup        recordKind = 3
	recordMember       recordKind = 5
	recordTarget       recordKind = 6
	recordTargetMember recordKind = 7
	recordCurrent      recordKind = 8
)

// consumerRecordVersion is the version of all values.
const consumerRecordVersion = 0

// basisTag carries the digest of what the target assignment depends on. Its bytes
// mean something to the one who wrote them only, in Kafka too.
const basisTag = 0

// classicTag carries what a member of the classic protocol has said.
const classicTag = 0

// consumerRecord is the part of an entry that consumer groups have.
type consumerRecord struct {
	kind     recordKind
	member   string // of recordMember, recordTargetMember, recordCurrent
	epoch    int32  // of recordGroup, recordTarget
	basis    int64  // of recordGroup
	metadata memberMetadata
	target   Partitions
	current  memberAssignment
}

func consumerEntry(group string, r consumerRecord) entry { return entry{group: group, consumer: &r} }

func consumerTombstone(group string, r consumerRecord) entry {
	return entry{group: group, consumer: &r, tombstone: true}
}

func memberEntry(group, member string, m memberMetadata) entry {
	return consumerEntry(group, consumerRecord{kind: recordMember, member: member, metadata: m})
}

func targetEntry(group, member string, p Partitions) entry {
	return consumerEntry(group, consumerRecord{kind: recordTargetMember, member: member, target: p})
}

func currentEntry(group, member string, a memberAssignment) entry {
	return consumerEntry(group, consumerRecord{kind: recordCurrent, member: member, current: a})
}

func (k recordKind) ofMember() bool {
	return k == recordMember || k == recordTargetMember || k == recordCurrent
}

func (k recordKind) known() bool { return k == recordGroup || k == recordTarget || k.ofMember() }

// encode returns the record's key and value; a nil value is a tombstone.
func (r *consumerRecord) encode(group string, tombstone bool) (key, value []byte) {
	key = kbin.AppendInt16(nil, int16(r.kind))
	key = kbin.AppendString(key, group)
	if r.kind.ofMember() {
		key = kbin.AppendString(key, r.member)
	}
	if tombstone {
		return key, nil
	}
	v := kbin.AppendInt16(nil, consumerRecordVersion)
	switch r.kind {
	case recordGroup:
		v = kbin.AppendInt32(v, r.epoch)
		v = kbin.AppendUvarint(v, 1) // tags
		v = kbin.AppendUvarint(v, basisTag)
		v = kbin.AppendUvarint(v, 8)
		return key, kbin.AppendInt64(v, r.basis)
	case recordTarget:
		v = kbin.AppendInt32(v, r.epoch)
	case recordMember:
		v = r.metadata.append(v)
		if c := r.metadata.classic; c != nil {
			return key, c.appendTag(v)
		}
	case recordTargetMember:
		v = r.target.append(v)
	case recordCurrent:
		v = kbin.AppendInt32(v, r.current.epoch)
		v = kbin.AppendInt32(v, r.current.previousEpoch)
		v = kbin.AppendInt8(v, int8(r.current.state))
		v = r.current.assigned.append(v)
		v = r.current.revoking.append(v)
	}
	return key, kbin.AppendUvarint(v, 0)
}

func (m *memberMetadata) append(dst []byte) []byte {
	dst = kbin.AppendCompactNullableString(dst, optional(m.instanceID))
	dst = kbin.AppendCompactNullableString(dst, optional(m.rackID))
	dst = kbin.AppendCompactString(dst, m.clientID)
	dst = kbin.AppendCompactString(dst, m.clientHost)
	dst = kbin.AppendCompactArrayLen(dst, len(m.topics))
	for _, t := range m.topics {
		dst = kbin.AppendCompactString(dst, t)
	}
	dst = kbin.AppendCompactNullableString(dst, optional(m.regex))
	dst = kbin.AppendInt32(dst, int32(min(m.rebalanceTimeout.Milliseconds(), math.MaxInt32)))
	return kbin.AppendCompactNullableString(dst, optional(m.assignor))
}

// appendTag appends the tags of a member's metadata: this one.
func (c *classicPart) appendTag(dst []byte) []byte {
	b := kbin.AppendInt8(nil, 1) // not null
	b = kbin.AppendInt32(b, int32(min(c.session.Milliseconds(), math.MaxInt32)))
	b = kbin.AppendCompactArrayLen(b, len(c.protocols))
	for i := range c.protocols {
		b = kbin.AppendCompactString(b, c.protocols[i].Name)
		b = kbin.AppendCompactBytes(b, c.protocols[i].Metadata)
		b = kbin.AppendUvarint(b, 0)
	}
	b = kbin.AppendUvarint(b, 0)
	dst = kbin.AppendUvarint(dst, 1)
	dst = kbin.AppendUvarint(dst, classicTag)
	dst = kbin.AppendUvarint(dst, uint32(len(b)))
	return append(dst, b...)
}

func readClassic(v *kbin.Reader) *classicPart {
	if v.Int8() < 0 {
		return nil
	}
	c := &classicPart{session: time.Duration(v.Int32()) * time.Millisecond}
	for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
		p := Protocol{Name: v.CompactString(), Metadata: bytes.Clone(v.CompactBytes())}
		readTags(v, func(uint32, *kbin.Reader) {})
		c.protocols = append(c.protocols, p)
	}
	if !v.Ok() || len(c.protocols) == 0 || c.session <= 0 {
		return nil // such a member could not live; it will be told that it is unknown
	}
	return c
}

func (p Partitions) append(dst []byte) []byte {
	dst = kbin.AppendCompactArrayLen(dst, len(p))
	for _, id := range p.Topics() {
		dst = kbin.AppendUuid(dst, id)
		dst = kbin.AppendCompactArrayLen(dst, len(p[id]))
		for _, partition := range p[id] {
			dst = kbin.AppendInt32(dst, partition)
		}
		dst = kbin.AppendUvarint(dst, 0)
	}
	return dst
}

// decodeConsumer reads a record of a consumer group.
func decodeConsumer(key, value []byte) (entry, error) {
	k := kbin.Reader{Src: key}
	r := consumerRecord{kind: recordKind(k.Int16())}
	e := entry{group: k.String(), consumer: &r}
	if r.kind.ofMember() {
		r.member = k.String()
	}
	if err := finished(&k); err != nil || !r.kind.known() {
		return entry{}, fmt.Errorf("%w: consumer group key of kind %d: %w", errForeignEntry, r.kind, err)
	}
	if value == nil {
		e.tombstone = true
		return e, nil
	}
	if err := checkValueVersion(value, consumerRecordVersion); err != nil {
		return entry{}, err
	}
	v := kbin.Reader{Src: value[2:]}
	r.decode(&v)
	readTags(&v, func(tag uint32, b *kbin.Reader) {
		if r.kind == recordGroup && tag == basisTag {
			r.basis = b.Int64()
		}
		if r.kind == recordMember && tag == classicTag {
			r.metadata.classic = readClassic(b)
		}
	})
	if err := finished(&v); err != nil {
		return entry{}, fmt.Errorf("%w: consumer group value of kind %d: %w", errForeignEntry, r.kind, err)
	}
	return e, nil
}

func (r *consumerRecord) decode(v *kbin.Reader) {
	switch r.kind {
	case recordGroup, recordTarget:
		r.epoch = v.Int32()
	case recordMember:
		r.metadata = readMetadata(v)
	case recordTargetMember:
		r.target = readPartitions(v)
	case recordCurrent:
		r.current = memberAssignment{epoch: v.Int32(), previousEpoch: v.Int32(), state: memberState(v.Int8())}
		r.current.assigned = readPartitions(v)
		r.current.revoking = readPartitions(v)
	}
}

func readMetadata(v *kbin.Reader) memberMetadata {
	m := memberMetadata{
		instanceID: value0(v.CompactNullableString()), rackID: value0(v.CompactNullableString()),
		clientID: v.CompactString(), clientHost: v.CompactString(),
	}
	for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
		m.topics = append(m.topics, v.CompactString())
	}
	m.regex = value0(v.CompactNullableString())
	m.rebalanceTimeout = time.Duration(v.Int32()) * time.Millisecond
	m.assignor = value0(v.CompactNullableString())
	return m
}

func readPartitions(v *kbin.Reader) Partitions {
	lists := map[topic.ID][]int32{}
	for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
		id := topic.ID(v.Uuid())
		for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
			if partition := v.Int32(); partition >= 0 {
				lists[id] = append(lists[id], partition)
			}
		}
		readTags(v, func(uint32, *kbin.Reader) {})
	}
	return PartitionsOf(lists)
}

// readTags hands the tags of a structure to f and stops where there is nothing more to read, whatever their count says.
func readTags(v *kbin.Reader, f func(tag uint32, b *kbin.Reader)) {
	for n := v.Uvarint(); n > 0 && v.Ok(); n-- {
		tag, size := v.Uvarint(), v.Uvarint()
		if uint64(size) > uint64(len(v.Src)) {
			v.Span(len(v.Src) + 1) // cut short
			return
		}
		f(tag, &kbin.Reader{Src: v.Span(int(size))})
	}
}

// finished says what is wrong with what was read: too short, or more than there should be.
func finished(r *kbin.Reader) error {
	if err := r.Complete(); err != nil {
		return err
	}
	if len(r.Src) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.Src))
	}
	return nil
}
