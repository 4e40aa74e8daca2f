package topic

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millstream-io/millstream/broker/cleaner"
	"github.com/millstream-io/millstream/broker/commitlog"
)

// defaultCleanInterval lies between two rounds of the janitor (Kafka's log.cleaner.backoff.ms).
const defaultCleanInterval = 15 * time.Second

// janitor drives retention, compaction and the upkeep of producers in the
// background: all logs, one after the other, round after round.
type janitor struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (j *janitor) start(t *Topics) {
	interval := t.o.CleanInterval
	if interval <= 0 {
		interval = defaultCleanInterval
	}
	ctx, cancel := context.WithCancel(context.Background())
	j.cancel = cancel
	c := cleaner.New(cleaner.Options{Logger: t.logger})
	j.done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				for t.clean(ctx, c) {
				}
			}
		}
	})
}

func (j *janitor) stop() {
	j.cancel()
	j.done.Wait()
}

// clean is one round; more says that a log has not had its turn to the end. A
// log that fails does not keep the others from being cleaned.
func (t *Topics) clean(ctx context.Context, c *cleaner.Cleaner) (more bool) {
	now := time.Now()
	for _, p := range t.allPartitions() {
		if ctx.Err() != nil {
			return false
		}
		start := p.log.Bounds().Start
		r, err := c.Clean(ctx, p.log, p.knowsProducer)
		t.logCleaning(ctx, p.log, err)
		more = more || r.More && err == nil
		if r.Compacted > 0 {
			p.retainAborted(r.Compacted, r.AbortMarkers)
		}
		if p.log.Bounds().Start != start {
			p.waiters.wake()
		}
		p.expireProducers(now)
		if err := p.saveProducers(false); err != nil {
			t.logger.Warn("snapshot of producers was not written; an unclean stop would take longer to recover from", "error", err)
		}
	}
	_, err := c.Clean(ctx, t.meta.Log(), nil)
	t.logCleaning(ctx, t.meta.Log(), err)
	return more
}

func (t *Topics) logCleaning(ctx context.Context, l *commitlog.Log, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, commitlog.ErrClosed) {
		t.logger.Error("log was not cleaned", "log", l.Dir(), "error", err)
	}
}

func (t *Topics) allPartitions() []*Partition {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []*Partition
	for _, lt := range t.byName {
		for _, p := range lt.partitions {
			if p.damage == nil {
				out = append(out, p)
			}
		}
	}
	return out
}
