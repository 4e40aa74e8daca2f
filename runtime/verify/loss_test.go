package verify

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// received is, by partition, the offset after the last record that a consumer was given.
type received map[string]int64

func (r received) take(record *kgo.Record) {
	key := keyOf(record.Topic, record.Partition)
	r[key] = max(r[key], record.Offset+1)
}

// lost returns whether err says that records which the consumer was given are gone from the log. franz-go counts
// a transaction's marker as consumed, but not the leader epoch in which it was written. When an epoch has
// written nothing but markers, it takes them for lost once the next leader is there, and reads them again.
func (r received) lost(err error) bool {
	loss, ok := errors.AsType[*kgo.ErrDataLoss](err)
	if !ok {
		return false
	}
	markersOnly := loss.ResetTo < loss.ConsumedTo && loss.ResetTo >= r[keyOf(loss.Topic, loss.Partition)]
	return !markersOnly
}

func TestLossIsOfRecordsNotOfMarkers(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		lost bool
	}{
		{"another error", errors.New("another"), false},
		{"markers after the last record", &kgo.ErrDataLoss{Topic: "t", Partition: 1, ConsumedTo: 12, ResetTo: 11}, false},
		{"markers up to the last record", &kgo.ErrDataLoss{Topic: "t", Partition: 1, ConsumedTo: 12, ResetTo: 10}, false},
		{"the last record", &kgo.ErrDataLoss{Topic: "t", Partition: 1, ConsumedTo: 12, ResetTo: 9}, true},
		{"nobody knows where the logs part", &kgo.ErrDataLoss{Topic: "t", Partition: 1, ConsumedTo: 12, ResetTo: 12}, true},
		{"a partition of which nothing was given", &kgo.ErrDataLoss{Topic: "t", Partition: 2, ConsumedTo: 12, ResetTo: 9}, false},
	} {
		r := received{}
		r.take(&kgo.Record{Topic: "t", Partition: 1, Offset: 9})
		r.take(&kgo.Record{Topic: "t", Partition: 1, Offset: 4})
		if got := r.lost(c.err); got != c.lost {
			t.Errorf("%s: lost %v, want %v", c.name, got, c.lost)
		}
	}
}
