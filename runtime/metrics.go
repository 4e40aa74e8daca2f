package runtime

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/prometheus/client_golang/prometheus"
)

// lagTimeout bounds what a scrape waits for the engine.
const lagTimeout = 2 * time.Second

func (r *Runtime) register(registry prometheus.Registerer) error {
	metrics, err := worker.NewMetrics(registry)
	if err != nil {
		return err
	}
	r.metrics = metrics
	r.lag = newCollector(r)
	return registry.Register(r.lag)
}

// counter is a number of worker.Stats as a metric.
type counter struct {
	desc  *prometheus.Desc
	value func(*worker.Stats) int64
}

// collector shows at a scrape what deployments count and how far behind they
// are; nothing is kept twice, and a deployment that is deleted is gone.
type collector struct {
	runtime  *Runtime
	counters []counter
	failures *prometheus.Desc
	lag      *prometheus.Desc
	phase    *prometheus.Desc
	owned    *prometheus.Desc
}

func newCollector(r *Runtime) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_deployment_"+name, help, append([]string{"deployment"}, labels...), nil)
	}
	c := &collector{
		runtime:  r,
		failures: desc("failed_records_total", "Records that got the error policy, by what failed.", "kind"),
		lag:      desc("lag_records", "Offsets between the committed one and the end of the partition.", "topic", "partition"),
		phase:    desc("phase", "1 for the phase the deployment is in.", "phase"),
		owned:    desc("partitions", "Input partitions this process works on."),
	}
	for _, m := range []struct {
		name, help string
		value      func(*worker.Stats) int64
	}{
		{"records_in_total", "Input records whose outcome is committed.", func(s *worker.Stats) int64 { return s.RecordsIn.Load() }},
		{"records_out_total", "Output records written.", func(s *worker.Stats) int64 { return s.RecordsOut.Load() }},
		{"bytes_in_total", "Bytes of input records, as guests see them.", func(s *worker.Stats) int64 { return s.BytesIn.Load() }},
		{"bytes_out_total", "Bytes of output records, as guests write them.", func(s *worker.Stats) int64 { return s.BytesOut.Load() }},
		{"dead_letters_total", "Records sent to the dead letter topic.", func(s *worker.Stats) int64 { return s.DeadLetters.Load() }},
		{"skipped_records_total", "Failed records dropped under the policy skip.", func(s *worker.Stats) int64 { return s.Skipped.Load() }},
		{"fuel_total", "Fuel used by calls that went well.", func(s *worker.Stats) int64 { return s.Fuel.Load() }},
		{"traps_total", "Calls of the guest that were stopped.", func(s *worker.Stats) int64 { return s.Traps.Load() }},
		{"instance_restarts_total", "Guest instances replaced after a stop.", func(s *worker.Stats) int64 { return s.Restarts.Load() }},
		{"retries_total", "Batches given up and read again, such as on a full disk.", func(s *worker.Stats) int64 { return s.Retries.Load() }},
	} {
		c.counters = append(c.counters, counter{desc(m.name, m.help), m.value})
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.counters {
		out <- m.desc
	}
	out <- c.failures
	out <- c.lag
	out <- c.phase
	out <- c.owned
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(c.runtime.ctx, lagTimeout)
	defer cancel()
	for _, d := range c.runtime.all() {
		c.collectStats(out, d)
		c.collectStatus(ctx, out, d)
	}
}

func (c *collector) collectStats(out chan<- prometheus.Metric, d *deployment) {
	count := func(desc *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), append([]string{d.name}, labels...)...)
	}
	for _, m := range c.counters {
		count(m.desc, m.value(d.stats))
	}
	count(c.failures, d.stats.Rejected.Load(), "reject")
	count(c.failures, d.stats.Trapped.Load(), "trap")
	count(c.failures, d.stats.Refused.Load(), "output")
}

// collectStatus leaves the lag out when the engine cannot tell it: a scrape does not fail for it.
func (c *collector) collectStatus(ctx context.Context, out chan<- prometheus.Metric, d *deployment) {
	gauge := func(desc *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, n, append([]string{d.name}, labels...)...)
	}
	s, err := c.runtime.status(ctx, d)
	if err != nil && !errors.Is(err, engine.ErrUnknownTopic) && ctx.Err() == nil {
		c.runtime.logger.Debug("lag of a deployment", "deployment", d.name, "error", err)
	}
	gauge(c.phase, 1, s.Phase)
	owned := 0
	for tp, p := range s.Partitions {
		gauge(c.lag, float64(p.Lag(s.Spec)), tp.Topic, strconv.Itoa(int(tp.Partition)))
		if p.Running {
			owned++
		}
	}
	gauge(c.owned, float64(owned))
}
