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
	// Of the whole deployment.
	failures, transactions, lag, phase, owned, replacing *prometheus.Desc
	// Of each partition that this process works on, and of no other: their number is bounded by what it can do.
	partitionLag, partitionIn, partitionOut, partitionLatency, partitionCommitted *prometheus.Desc
}

func newCollector(r *Runtime) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_deployment_"+name, help, append([]string{"deployment"}, labels...), nil)
	}
	c := &collector{
		runtime:      r,
		failures:     desc("failed_records_total", "Records that got the error policy, by what failed.", "kind"),
		transactions: desc("transactions_total", "Transactions ended; what was in an aborted one is read again.", "outcome"),
		lag:          desc("lag_records", "Offsets between the committed ones and the ends of all its partitions, whoever works on them."),
		phase:        desc("phase", "1 for the phase the deployment is in.", "phase"),
		owned:        desc("partitions", "Input partitions this process works on."),
		replacing:    desc("replacing_partitions", "Partitions of this process that have not changed over to the newest version yet."),

		partitionLag:       desc("partition_lag_records", "Offsets between the committed one and the end of the partition.", "topic", "partition"),
		partitionIn:        desc("partition_records_in_total", "Input records committed since this process has the partition.", "topic", "partition"),
		partitionOut:       desc("partition_records_out_total", "Output records committed since this process has the partition.", "topic", "partition"),
		partitionLatency:   desc("partition_latency_seconds", "From reading the oldest record of the last transaction until its outputs were committed.", "topic", "partition"),
		partitionCommitted: desc("partition_last_commit_timestamp_seconds", "When the last transaction was committed.", "topic", "partition"),
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
		{"record_retries_total", "Further tries of records on which the guest trapped.", func(s *worker.Stats) int64 { return s.RecordRetries.Load() }},
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
	for _, d := range []*prometheus.Desc{
		c.failures, c.transactions, c.lag, c.phase, c.owned, c.replacing,
		c.partitionLag, c.partitionIn, c.partitionOut, c.partitionLatency, c.partitionCommitted,
	} {
		out <- d
	}
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
	count(c.transactions, d.stats.Commits.Load(), "committed")
	count(c.transactions, d.stats.Aborts.Load(), "aborted")
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
	owned, lag := 0, int64(0)
	for tp, p := range s.Partitions {
		lag += p.Lag(s.Spec)
		if p.Running {
			owned++
			c.collectPartition(out, d.name, tp, p, p.Lag(s.Spec))
		}
	}
	if err == nil {
		gauge(c.lag, float64(lag))
	}
	gauge(c.owned, float64(owned))
	gauge(c.replacing, float64(s.Replacing))
}

func (c *collector) collectPartition(out chan<- prometheus.Metric, deployment string, tp engine.TopicPartition, p PartitionStatus, lag int64) {
	labels := []string{deployment, tp.Topic, strconv.Itoa(int(tp.Partition))}
	out <- prometheus.MustNewConstMetric(c.partitionLag, prometheus.GaugeValue, float64(lag), labels...)
	w := p.Worker
	if w == nil {
		return // it runs in a process of its own, which has the rest
	}
	out <- prometheus.MustNewConstMetric(c.partitionIn, prometheus.CounterValue, float64(w.Records), labels...)
	out <- prometheus.MustNewConstMetric(c.partitionOut, prometheus.CounterValue, float64(w.Outputs), labels...)
	if w.CommittedAt.IsZero() {
		return
	}
	out <- prometheus.MustNewConstMetric(c.partitionLatency, prometheus.GaugeValue, w.Latency.Seconds(), labels...)
	out <- prometheus.MustNewConstMetric(c.partitionCommitted, prometheus.GaugeValue, float64(w.CommittedAt.UnixMilli())/1000, labels...)
}
