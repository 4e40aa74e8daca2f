package group

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memJournal is a journal in memory that a test can make slow or fail. What
// crash returns has only what was durable.
type memJournal struct {
	mu      sync.Mutex
	logs    [][][2][]byte // shard → records (key, value)
	durable []int64
	refuse  error         // append fails
	gate    chan struct{} // waitDurable waits until it is closed
}

func newMemJournal(shards int) *memJournal {
	return &memJournal{logs: make([][][2][]byte, shards), durable: make([]int64, shards)}
}

func (j *memJournal) shards() int { return len(j.logs) }

func (j *memJournal) append(shard int, entries []entry) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refuse != nil {
		return 0, j.refuse
	}
	for i := range entries {
		key, value := entries[i].encode()
		j.logs[shard] = append(j.logs[shard], [2][]byte{key, value})
	}
	return int64(len(j.logs[shard])), nil
}

func (j *memJournal) waitDurable(ctx context.Context, shard int, end int64) error {
	j.mu.Lock()
	gate := j.gate
	if j.durable[shard] >= end {
		gate = nil
	}
	j.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.durable[shard] = max(j.durable[shard], end)
	return nil
}

func (j *memJournal) replay(_ context.Context, shard int, f func(entry)) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.logs[shard] {
		e, err := decodeEntry(r[0], r[1])
		if errors.Is(err, errForeignEntry) {
			continue
		}
		if err != nil {
			return 0, err
		}
		f(e)
	}
	return int64(len(j.logs[shard])), nil
}

// crash returns the journal as a power cut would leave it.
func (j *memJournal) crash() *memJournal {
	j.mu.Lock()
	defer j.mu.Unlock()
	after := newMemJournal(len(j.logs))
	for i := range j.logs {
		after.logs[i] = append(after.logs[i], j.logs[i][:j.durable[i]]...)
		after.durable[i] = j.durable[i]
	}
	return after
}

// block makes waitDurable wait for what is not durable yet, until the returned function is called.
func (j *memJournal) block() (release func()) {
	gate := make(chan struct{})
	j.mu.Lock()
	j.gate = gate
	j.mu.Unlock()
	return func() {
		j.mu.Lock()
		j.gate = nil
		j.mu.Unlock()
		close(gate)
	}
}
