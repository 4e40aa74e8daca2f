package group

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// TestConsumerStoredFormat pins the bytes to Kafka's format of __consumer_offsets.
func TestConsumerStoredFormat(t *testing.T) {
	id := topic.ID{0xaa, 15: 0xbb}
	uuid := append(append([]byte{0xaa}, make([]byte, 14)...), 0xbb)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	tests := []struct {
		name       string
		e          entry
		key, value []byte
	}{
		{"group", consumerEntry("g", consumerRecord{kind: recordGroup, epoch: 5, basis: 0x0102}),
			[]byte{0, 3, 0, 1, 'g'}, []byte{0, 0, 0, 0, 0, 5, 1, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2}},
		{"group tombstone", consumerTombstone("g", consumerRecord{kind: recordGroup}), []byte{0, 3, 0, 1, 'g'}, nil},
		{"dynamic member", memberEntry("g", "mm", memberMetadata{clientID: "c", clientHost: "/h", topics: []string{"t", "u"}, rebalanceTimeout: 256 * time.Millisecond}),
			[]byte{0, 5, 0, 1, 'g', 0, 2, 'm', 'm'},
			[]byte{0, 0, 0, 0, 2, 'c', 3, '/', 'h', 3, 2, 't', 2, 'u', 0, 0, 0, 1, 0, 0, 0}},
		{"static member", memberEntry("g", "m", memberMetadata{instanceID: "i", rackID: "r", regex: ".*", assignor: "range", rebalanceTimeout: time.Millisecond}),
			[]byte{0, 5, 0, 1, 'g', 0, 1, 'm'},
			[]byte{0, 0, 2, 'i', 2, 'r', 1, 1, 1, 3, '.', '*', 0, 0, 0, 1, 6, 'r', 'a', 'n', 'g', 'e', 0}},
		{"member tombstone", consumerTombstone("g", consumerRecord{kind: recordMember, member: "m"}), []byte{0, 5, 0, 1, 'g', 0, 1, 'm'}, nil},
		{"target epoch", consumerEntry("g", consumerRecord{kind: recordTarget, epoch: 7}), []byte{0, 6, 0, 1, 'g'}, []byte{0, 0, 0, 0, 0, 7, 0}},
		{"target", targetEntry("g", "m", Partitions{id: {0, 2}}), []byte{0, 7, 0, 1, 'g', 0, 1, 'm'},
			join([]byte{0, 0, 2}, uuid, []byte{3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0})},
		{"current", currentEntry("g", "m", memberAssignment{epoch: 3, previousEpoch: 2, state: memberUnrevoked, assigned: Partitions{id: {1}}, revoking: Partitions{}}),
			[]byte{0, 8, 0, 1, 'g', 0, 1, 'm'},
			join([]byte{0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2}, uuid, []byte{2, 0, 0, 0, 1, 0, 1, 0})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			key, value := test.e.encode()
			if !bytes.Equal(key, test.key) || !bytes.Equal(value, test.value) || (value == nil) != (test.value == nil) {
				t.Errorf("encoded as\n% x → % x, want\n% x → % x", key, value, test.key, test.value)
			}
			back, err := decodeEntry(key, value)
			if err != nil || !reflect.DeepEqual(back, test.e) {
				t.Errorf("decoded as %+v, %v, want %+v", back.consumer, err, test.e.consumer)
			}
		})
	}
}

// Tags that a later version of Kafka may add are passed over.
func TestConsumerRecordsWithTags(t *testing.T) {
	key, value := memberEntryBytes()
	tagged := append(value[:len(value)-1:len(value)-1], 2, 0, 1, 0xff, 9, 2, 1, 2)
	want, err := decodeEntry(key, value)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeEntry(key, tagged); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("decoded as %+v, %v, want %+v", got.consumer, err, want.consumer)
	}
}

func memberEntryBytes() (key, value []byte) {
	e := memberEntry("g", "m", memberMetadata{clientID: "c", topics: []string{"t"}})
	return e.encode()
}

func TestForeignConsumerRecords(t *testing.T) {
	key, value := memberEntryBytes()
	endless := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	tests := []struct {
		name       string
		key, value []byte
	}{
		{"partition metadata, which Kafka wrote before 4.1", []byte{0, 4, 0, 1, 'g'}, []byte{0, 0, 1, 0}},
		{"key cut short", key[:len(key)-1], value},
		{"key too long", append(bytes.Clone(key), 0), value},
		{"value cut short", key, value[:len(value)-3]},
		{"value too long", key, append(bytes.Clone(value), 0)},
		{"value of a version to come", key, append([]byte{0, 1}, value[2:]...)},
		{"topics without end", key, append([]byte{0, 0, 0, 0, 1, 1}, endless...)},
		{"tags without end", key, append(bytes.Clone(value[:len(value)-1]), endless...)},
		{"partitions without end", []byte{0, 7, 0, 1, 'g', 0, 1, 'm'}, append([]byte{0, 0}, endless...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if e, err := decodeEntry(test.key, test.value); !errors.Is(err, errForeignEntry) {
				t.Errorf("answer is %+v, %v", e.consumer, err)
			}
		})
	}
}

func FuzzConsumerRecord(f *testing.F) {
	id := topic.ID{1}
	for _, e := range []entry{
		consumerEntry("g", consumerRecord{kind: recordGroup, epoch: 5, basis: 1}),
		memberEntry("g", "m", memberMetadata{instanceID: "i", topics: []string{"t"}, regex: ".*", rebalanceTimeout: time.Second}),
		targetEntry("g", "m", Partitions{id: {0, 2}}),
		currentEntry("g", "m", memberAssignment{epoch: 3, previousEpoch: 2, state: memberUnreleased, assigned: Partitions{id: {1}}}),
	} {
		key, value := e.encode()
		f.Add(key, value)
		f.Add(key, []byte(nil))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := decodeEntry(key, value)
		if err != nil || e.consumer == nil {
			return
		}
		k, v := e.encode()
		again, err := decodeEntry(k, v)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v became %+v, %v", e.consumer, again.consumer, err)
		}
		// Whatever the journal says, a group can be replayed from it and described.
		l := ledger{group: e.group, offsets: map[TopicPartition]Offset{}}
		l.apply(e)
		l.apply(again)
		if l.consumer != nil {
			l.consumer.state()
		}
	})
}
