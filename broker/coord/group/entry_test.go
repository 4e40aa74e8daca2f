package group

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"time"
)

// TestStoredFormat pins the bytes to Kafka's format of __consumer_offsets.
func TestStoredFormat(t *testing.T) {
	commitTime := time.UnixMilli(0x0102030405)
	tests := []struct {
		name       string
		e          entry
		key, value []byte
	}{
		{"offset", offsetEntry("g", TopicPartition{"tp", 3}, Offset{Offset: 9, LeaderEpoch: 2, Metadata: "m", CommitTime: commitTime}),
			[]byte{0, 1, 0, 1, 'g', 0, 2, 't', 'p', 0, 0, 0, 3},
			[]byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 1, 'm', 0, 0, 0, 1, 2, 3, 4, 5}},
		{"offset tombstone", offsetTombstone("g", TopicPartition{"tp", 3}), []byte{0, 1, 0, 1, 'g', 0, 2, 't', 'p', 0, 0, 0, 3}, nil},
		{"group", groupEntry("g", storedGroup{protocolType: "consumer", generation: 5, protocol: "range", leader: "a", changed: commitTime}),
			[]byte{0, 2, 0, 1, 'g'},
			append(append([]byte{0, 3, 0, 8}, "consumer"...), append([]byte{0, 0, 0, 5, 0, 5, 'r', 'a', 'n', 'g', 'e', 0, 1, 'a'},
				0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 0)...)},
		{"group tombstone", groupTombstone("g"), []byte{0, 2, 0, 1, 'g'}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			key, value := test.e.encode()
			if !bytes.Equal(key, test.key) || !bytes.Equal(value, test.value) || (value == nil) != (test.value == nil) {
				t.Errorf("encoded as\n% x → % x, want\n% x → % x", key, value, test.key, test.value)
			}
			back, err := decodeEntry(key, value)
			if err != nil || !reflect.DeepEqual(back, test.e) {
				t.Errorf("decoded as %+v, %v, want %+v", back, err, test.e)
			}
		})
	}
}

func TestForeignEntries(t *testing.T) {
	offsetKey, _ := (&entry{group: "g", isOffset: true, partition: TopicPartition{"t", 0}}).encode()
	tests := []struct {
		name       string
		key, value []byte
	}{
		{"no key", nil, []byte("x")},
		{"unknown key version", []byte{0, 3, 0, 1, 'g'}, []byte{0, 0}},
		{"key cut short", offsetKey[:5], nil},
		{"value cut short", offsetKey, []byte{0, 3, 0}},
		{"flexible value, whose tags nobody should count", offsetKey, append([]byte{0, 4}, bytes.Repeat([]byte{0xff}, 40)...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := decodeEntry(test.key, test.value); !errors.Is(err, errForeignEntry) {
				t.Errorf("answer is %v", err)
			}
		})
	}
}

// allocated returns the bytes that f allocates; what other goroutines do meanwhile counts too.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// slackBytes is what decoding may take whatever it decodes.
const slackBytes = 1 << 20

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range []entry{
		offsetEntry("g", TopicPartition{"t", 1}, Offset{Offset: 1, Metadata: "m", CommitTime: time.UnixMilli(1)}),
		groupEntry("g", storedGroup{protocolType: "consumer", changed: time.UnixMilli(1)}),
	} {
		key, value := e.encode()
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var e entry
		var err error
		if took, most := allocated(func() { e, err = decodeEntry(key, value) }), 16*(len(key)+len(value))+slackBytes; took > most {
			t.Fatalf("decoding takes %d bytes, want at most %d", took, most)
		}
		if err != nil {
			return
		}
		k, v := e.encode()
		again, err := decodeEntry(k, v)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v became %+v, %v", e, again, err)
		}
	})
}

func FuzzConsumerProtocol(f *testing.F) {
	s := Subscription{Topics: []string{"a", "b"}, Owned: []TopicPartition{{"a", 1}, {"b", 0}, {"a", 2}}, Generation: 3, UserData: []byte("u")}
	f.Add(s.Encode())
	f.Add(EncodeAssignment(s.Owned))
	f.Add(append([]byte{0, 3, 0, 0, 0x10, 0}, make([]byte, 9000)...)) // many topics without a name
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, decode := range map[string]func(){"subscription": func() { _, _ = DecodeSubscription(b) }, "assignment": func() { _, _ = DecodeAssignment(b) }} {
			if took, most := allocated(decode), 16*len(b)+slackBytes; took > most {
				t.Fatalf("decoding the %s takes %d bytes, want at most %d", name, took, most)
			}
		}
		if s, err := DecodeSubscription(b); err == nil {
			again, err := DecodeSubscription(s.Encode())
			if err != nil || len(again.Topics) != len(s.Topics) || len(again.Owned) != len(s.Owned) {
				t.Errorf("%+v became %+v, %v", s, again, err)
			}
		}
		if a, err := DecodeAssignment(b); err == nil {
			again, err := DecodeAssignment(EncodeAssignment(a))
			if err != nil || len(again) != len(a) {
				t.Errorf("%v became %v, %v", a, again, err)
			}
		}
	})
}

func TestSubscriptionOfOldVersions(t *testing.T) {
	v1 := []byte{0, 1, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 2}
	s, err := DecodeSubscription(v1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Generation != 7 || len(s.Owned) != 1 || s.Owned[0] != (TopicPartition{"t", 2}) {
		t.Errorf("decoded as %+v", s)
	}
	v0, err := DecodeSubscription([]byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff})
	if err != nil || v0.Generation != -1 || len(v0.Topics) != 1 || v0.UserData != nil {
		t.Errorf("decoded as %+v, %v", v0, err)
	}
}

// TestShardOf compares with Java's Utils.abs("…".hashCode()) % 50; the hash code of the
// last one is the smallest integer, which has no absolute value and counts as 0.
func TestShardOf(t *testing.T) {
	for name, want := range map[string]int{"": 0, "a": 47, "console-consumer": 40, "grün": 49, "polygenelubricants": 0} {
		if got := shardOf(name, 50); got != want {
			t.Errorf("shardOf(%q) is %d, want %d", name, got, want)
		}
	}
}
