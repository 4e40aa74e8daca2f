package meta

import (
	"errors"
	"testing"
)

// FuzzApply applies any record: it is understood, passed over, or refused as corrupt.
func FuzzApply(f *testing.F) {
	for _, seed := range [][2]string{
		{clusterKey, `{"id":"AhR8v7A6bNfxHESmZO5rAg"}`},
		{producerIDsKey, `{"next":1000}`},
		{topicKey + "t", `{"id":"00000000000000000000000000000001","partitions":3,"configs":{"cleanup.policy":"compact"},"deleting":true}`},
		{topicKey, ``},
		{groupKey + "g", `{"configs":{"consumer.session.timeout.ms":"45000"}}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := &Store{topics: map[string]Topic{}, groups: map[string]map[string]string{}}
		if err := s.apply(key, value); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of no family: %v", err)
			}
			return
		}
		for name, topic := range s.topics {
			b, err := encodeTopic(topic)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := decodeTopic(name, b); err != nil || again.ID != topic.ID || again.Partitions != topic.Partitions || again.Deleting != topic.Deleting {
				t.Fatalf("%+v was stored and read as %+v, %v", topic, again, err)
			}
		}
	})
}
