package runtime

import (
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
)

// rates tells how many records per second the partitions of a deployment commit,
// over the time since the last but one sample. It is safe for concurrent use.
type rates struct {
	mu            sync.Mutex
	older, recent sample
}

// sample is what the partitions had committed at one moment.
type sample struct {
	at      time.Time
	records map[engine.TopicPartition]int64
}

// note takes a sample; it is called every retryInterval.
func (r *rates) note(partitions []worker.PartitionSnapshot, now time.Time) {
	records := make(map[engine.TopicPartition]int64, len(partitions))
	for _, p := range partitions {
		records[p.TopicPartition] = p.Records
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.older, r.recent = r.recent, sample{now, records}
}

// of returns records per second by partition; those without a sample have none.
func (r *rates) of(partitions []worker.PartitionSnapshot, now time.Time) map[engine.TopicPartition]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := r.older
	if from.at.IsZero() {
		from = r.recent
	}
	seconds := now.Sub(from.at).Seconds()
	rates := map[engine.TopicPartition]float64{}
	for _, p := range partitions {
		before, ok := from.records[p.TopicPartition]
		if ok && p.Records >= before && seconds > 0 { // a session that began meanwhile counts from 0
			rates[p.TopicPartition] = float64(p.Records-before) / seconds
		}
	}
	return rates
}
