package worker

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// retrying says that a step is tried again because of err.
func (p *writer) retrying(what string, err error) {
	if p.troubled = true; p.tries == 0 {
		p.troubledAt = time.Now()
	}
	p.tries++
	since := ""
	if p.tries > 1 {
		since = fmt.Sprintf(" (%d times since %s)", p.tries, p.troubledAt.UTC().Format(time.TimeOnly+"Z"))
	}
	p.w.setTrouble(p.session, fmt.Errorf("%s partition %d: %s%s: %w", p.tp.Topic, p.tp.Partition, what, since, err))
	p.w.config.Stats.Retries.Add(1)
	level := slog.LevelDebug
	if time.Since(p.warnedAt) >= warnInterval {
		level, p.warnedAt = slog.LevelWarn, time.Now()
	}
	p.w.logger.Log(p.hard, level, what+", trying again", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
}

// remadeInput tells once for each topic that it was made anew. What that is to a bounded run is told by recognize.
func (w *Worker) remadeInput(tp engine.TopicPartition) {
	if w.Ends() != nil {
		return
	}
	w.mu.Lock()
	before := w.remade[tp.Topic]
	w.remade[tp.Topic] = time.Now()
	w.mu.Unlock()
	if time.Since(before) >= warnInterval {
		w.events.Event(slog.LevelWarn, fmt.Sprintf("input topic %q was made anew, what it holds is read as of a new one", tp.Topic))
	}
}

// warnInterval is between warnings about trouble that goes on.
const warnInterval = time.Minute

// recovered says that trouble which was warned of is over.
func (p *writer) recovered() {
	p.untroubled()
	p.tries = 0
	if !p.warnedAt.IsZero() {
		p.warnedAt = time.Time{}
		p.w.logger.Info("outputs are written again", "topic", p.tp.Topic, "partition", p.tp.Partition)
	}
}

func (p *writer) untroubled() {
	if p.troubled {
		p.troubled = false
		p.w.setTrouble(p.session, nil)
	}
}
