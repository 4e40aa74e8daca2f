package txn

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// endings count the transactions that have ended since the coordinator was opened.
type endings struct{ commits, aborts, timeouts atomic.Int64 }

// count takes down a transaction whose markers are all written.
func (e *endings) count(before, after State) {
	switch {
	case before == after:
	case before == StatePrepareCommit:
		e.commits.Add(1)
	case before == StatePrepareAbort:
		e.aborts.Add(1)
	}
}

// collector shows the transactions at a scrape; nothing but the endings is kept for it.
type collector struct {
	c *Coordinator

	open, oldest, ended, timeouts *prometheus.Desc
}

// NewCollector returns the metrics of all transactions.
func NewCollector(c *Coordinator) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_"+name, help, labels, nil)
	}
	return &collector{
		c:        c,
		open:     desc("transactions_open", "Transactions that are open or being ended."),
		oldest:   desc("transaction_oldest_open_seconds", "Age of the oldest of them; 0 if there is none."),
		ended:    desc("transactions_total", "Transactions ended since the start.", "outcome"),
		timeouts: desc("transaction_timeouts_total", "Transactions aborted since the start because their producers did not end them in time."),
	}
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.open, m.oldest, m.ended, m.timeouts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	open, oldest := 0, time.Duration(0)
	now := time.Now()
	for _, t := range m.c.all() {
		t.mu.RLock()
		if !t.dead && !t.state.idle() {
			open++
			oldest = max(oldest, now.Sub(t.started))
		}
		t.mu.RUnlock()
	}
	ch <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, float64(open))
	ch <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, oldest.Seconds())
	e := &m.c.ended
	ch <- prometheus.MustNewConstMetric(m.ended, prometheus.CounterValue, float64(e.commits.Load()), "commit")
	ch <- prometheus.MustNewConstMetric(m.ended, prometheus.CounterValue, float64(e.aborts.Load()), "abort")
	ch <- prometheus.MustNewConstMetric(m.timeouts, prometheus.CounterValue, float64(e.timeouts.Load()))
}
