package broker

import (
	"math"
	"sync"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// maxTopicSeries bounds the topics that have series of their own; the others
// are summed up under otherTopics.
const (
	maxTopicSeries = 200
	otherTopics    = "other topics"
)

// metrics are the broker's. What the log counts is collected when it is asked
// for, so that appends and reads pay for nothing but a counter of their own.
type metrics struct {
	registerer prometheus.Registerer
	topics     *topic.Topics
	groups     prometheus.Collector
	txns       prometheus.Collector
	name       func(key int16) string

	requests    *prometheus.HistogramVec
	bytes       *prometheus.CounterVec
	connections prometheus.Gauge

	mu    sync.RWMutex
	byKey map[int16]*requestMetrics

	appendedBytes, appendedRecords, readBytes, logBytes, partitions, stableLag, freeBytes *prometheus.Desc
}

// requestMetrics are the series of one kind of request.
type requestMetrics struct {
	seconds           prometheus.Observer
	received, written prometheus.Counter
}

func newMetrics(topics *topic.Topics, groups, txns prometheus.Collector, name func(int16) string) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_"+name, help, labels, nil)
	}
	return &metrics{
		topics: topics,
		groups: groups,
		txns:   txns,
		name:   name,
		byKey:  make(map[int16]*requestMetrics),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "millstream_request_seconds",
			Help:    "Time from the last byte of a request to the last of its response, with what it waited for data or members.",
			Buckets: []float64{.0001, .0005, .002, .01, .05, .2, 1, 5}, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		}, []string{"request"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millstream_request_bytes_total", Help: "Bytes of requests and their responses.",
		}, []string{"request", "direction"}),
		connections:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "millstream_connections", Help: "Open client connections."}),
		appendedBytes:   desc("log_appended_bytes_total", "Bytes appended to the log since the start.", "topic"),
		appendedRecords: desc("log_appended_records_total", "Records appended to the log since the start.", "topic"),
		readBytes:       desc("log_read_bytes_total", "Bytes read from the log since the start.", "topic"),
		logBytes:        desc("log_size_bytes", "Size of the log on disk.", "topic"),
		partitions:      desc("partitions", "Partitions.", "topic"),
		stableLag: desc("log_stable_lag_records",
			"Offsets between the last stable offset, where readers of committed records stop, and the high watermark; of the partition that has most.", "topic"),
		freeBytes: desc("log_free_bytes", "Room that is left on the disk of the log; where that is known."),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	m.registerer = r
	for _, c := range []prometheus.Collector{m, m.groups, m.txns, m.requests, m.bytes, m.connections} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// unregister lets another broker of this process have the registry.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range []prometheus.Collector{m, m.groups, m.txns, m.requests, m.bytes, m.connections} {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) accepted(delta int) { m.connections.Add(float64(delta)) }

func (m *metrics) observe(x wire.Exchange) {
	r := m.request(x.Key)
	r.seconds.Observe(x.Duration.Seconds())
	r.received.Add(float64(x.RequestBytes))
	r.written.Add(float64(x.ResponseBytes))
}

// request returns the series of a key. Only served keys are observed, so there are few.
func (m *metrics) request(key int16) *requestMetrics {
	m.mu.RLock()
	r := m.byKey[key]
	m.mu.RUnlock()
	if r != nil {
		return r
	}
	name := m.name(key)
	r = &requestMetrics{seconds: m.requests.WithLabelValues(name),
		received: m.bytes.WithLabelValues(name, "received"), written: m.bytes.WithLabelValues(name, "sent")}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byKey[key] = r
	return r
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.appendedBytes, m.appendedRecords, m.readBytes, m.logBytes, m.partitions, m.stableLag, m.freeBytes} {
		ch <- d
	}
}

// topicSums are the numbers of one topic, or of all without a series of their own: sums, but for stableLag, which is the largest.
type topicSums struct{ appendedBytes, appendedRecords, readBytes, logBytes, partitions, stableLag int64 }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	var rest topicSums
	for i, info := range m.topics.List() {
		var sums topicSums
		into := &sums
		if i >= maxTopicSeries {
			into = &rest
		}
		m.add(into, info)
		if into == &sums {
			m.send(ch, info.Name, sums)
		}
	}
	if rest.partitions > 0 {
		m.send(ch, otherTopics, rest)
	}
	if _, free, err := m.topics.Disk(); err == nil && free < math.MaxInt64 {
		ch <- prometheus.MustNewConstMetric(m.freeBytes, prometheus.GaugeValue, float64(free))
	}
}

func (m *metrics) add(sums *topicSums, info topic.Info) {
	for i := range int32(info.Partitions) {
		p, err := m.topics.Partition(info.Name, i)
		if err != nil {
			continue // deleted meanwhile
		}
		s := p.Stats()
		sums.appendedBytes += s.AppendedBytes.Load()
		sums.appendedRecords += s.AppendedRecords.Load()
		sums.readBytes += s.ReadBytes.Load()
		sums.logBytes += p.SizeBytes()
		at := p.Offsets()
		sums.stableLag = max(sums.stableLag, at.HighWatermark-at.LastStable)
		sums.partitions++
	}
}

func (m *metrics) send(ch chan<- prometheus.Metric, name string, s topicSums) {
	counter := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), name)
	}
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), name)
	}
	counter(m.appendedBytes, s.appendedBytes)
	counter(m.appendedRecords, s.appendedRecords)
	counter(m.readBytes, s.readBytes)
	gauge(m.logBytes, s.logBytes)
	gauge(m.partitions, s.partitions)
	gauge(m.stableLag, s.stableLag)
}
