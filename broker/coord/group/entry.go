package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Versions of Kafka's stored formats that are written. Offset values of
// version 3 carry the leader epoch; group values of version 3 the time of the last
// state change and instance ids. Higher versions are flexible and are not read.
const (
	offsetKeyVersion   = 1
	groupKeyVersion    = 2
	offsetValueVersion = 3
	groupValueVersion  = 3
)

// errForeignEntry marks a record of the journal that this package did not write and cannot read.
var errForeignEntry = errors.New("not an entry of the group journal")

// entry is one record of the journal: an offset (partition set), a classic group's
// metadata, or one of a consumer group's records. tombstone removes what the key names.
type entry struct {
	group     string
	isOffset  bool
	partition TopicPartition
	offset    Offset
	metadata  storedGroup
	consumer  *consumerRecord
	tombstone bool
	txn       txnEntry
}

// storedGroup is what a group's metadata record keeps: enough to go on with the
// next generation and to know since when a group has been empty.
type storedGroup struct {
	protocolType string
	generation   int32
	protocol     string
	leader       string
	changed      time.Time
}

func offsetEntry(group string, tp TopicPartition, o Offset) entry {
	return entry{group: group, isOffset: true, partition: tp, offset: o}
}

func offsetTombstone(group string, tp TopicPartition) entry {
	return entry{group: group, isOffset: true, partition: tp, tombstone: true}
}

func groupEntry(group string, m storedGroup) entry {
	return entry{group: group, metadata: m}
}

func groupTombstone(group string) entry {
	return entry{group: group, tombstone: true}
}

// encode returns the record's key and value in Kafka's stored format; a nil value is a tombstone.
func (e *entry) encode() (key, value []byte) {
	if e.consumer != nil {
		return e.consumer.encode(e.group, e.tombstone)
	}
	if e.isOffset {
		k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: e.group, Topic: e.partition.Topic, Partition: e.partition.Partition}
		key = k.AppendTo(nil)
		if e.tombstone {
			return key, nil
		}
		v := kmsg.NewOffsetCommitValue()
		v.Version = offsetValueVersion
		v.Offset = e.offset.Offset
		v.LeaderEpoch = e.offset.LeaderEpoch
		v.Metadata = e.offset.Metadata
		v.CommitTimestamp = e.offset.CommitTime.UnixMilli()
		return key, v.AppendTo(nil)
	}
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: e.group}
	key = k.AppendTo(nil)
	if e.tombstone {
		return key, nil
	}
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType = e.metadata.protocolType
	v.Generation = e.metadata.generation
	v.Protocol = optional(e.metadata.protocol)
	v.Leader = optional(e.metadata.leader)
	v.CurrentStateTimestamp = e.metadata.changed.UnixMilli()
	return key, v.AppendTo(nil)
}

// decodeEntry reads a record of the journal. Records of kinds this package
// does not know give errForeignEntry; the caller decides what that means.
func decodeEntry(key, value []byte) (entry, error) {
	if len(key) < 2 {
		return entry{}, fmt.Errorf("%w: key of %d bytes", errForeignEntry, len(key))
	}
	switch version := int16(key[0])<<8 | int16(key[1]); version {
	case 0, offsetKeyVersion:
		return decodeOffset(key, value)
	case groupKeyVersion:
		return decodeGroup(key, value)
	default:
		return decodeConsumer(key, value)
	}
}

func decodeOffset(key, value []byte) (entry, error) {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(key); err != nil {
		return entry{}, fmt.Errorf("%w: offset key: %v", errForeignEntry, err)
	}
	e := offsetTombstone(k.Group, TopicPartition{Topic: k.Topic, Partition: k.Partition})
	if value == nil {
		return e, nil
	}
	if err := checkValueVersion(value, offsetValueVersion); err != nil {
		return entry{}, err
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil {
		return entry{}, fmt.Errorf("%w: offset value: %v", errForeignEntry, err)
	}
	e.tombstone = false
	e.offset = Offset{Offset: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata, CommitTime: time.UnixMilli(v.CommitTimestamp)}
	return e, nil
}

func decodeGroup(key, value []byte) (entry, error) {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(key); err != nil {
		return entry{}, fmt.Errorf("%w: group key: %v", errForeignEntry, err)
	}
	e := groupTombstone(k.Group)
	if value == nil {
		return e, nil
	}
	if err := checkValueVersion(value, groupValueVersion); err != nil {
		return entry{}, err
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return entry{}, fmt.Errorf("%w: group value: %v", errForeignEntry, err)
	}
	e.tombstone = false
	e.metadata = storedGroup{
		protocolType: v.ProtocolType,
		generation:   v.Generation,
		protocol:     value0(v.Protocol),
		leader:       value0(v.Leader),
		changed:      time.UnixMilli(v.CurrentStateTimestamp),
	}
	return e, nil
}

// checkValueVersion keeps flexible versions away from kmsg, whose tag reader trusts its input.
func checkValueVersion(value []byte, most int16) error {
	if len(value) < 2 {
		return fmt.Errorf("%w: value of %d bytes", errForeignEntry, len(value))
	}
	if version := int16(value[0])<<8 | int16(value[1]); version < 0 || version > most {
		return fmt.Errorf("%w: value version %d, at most %d is known", errForeignEntry, version, most)
	}
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func value0(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
