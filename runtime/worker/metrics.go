package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// histograms are one deployment's; nil without metrics.
type histograms struct {
	call    prometheus.Observer
	commit  prometheus.Observer
	latency prometheus.Observer // from the event
	through prometheus.Observer // from reading
}

func (h *histograms) observeCall(took time.Duration) {
	if h.call != nil {
		h.call.Observe(took.Seconds())
	}
}

func (h *histograms) observeCommit(took, latency, eventAge time.Duration) {
	if h.commit == nil {
		return
	}
	h.commit.Observe(took.Seconds())
	h.through.Observe(latency.Seconds())
	h.latency.Observe(eventAge.Seconds())
}

// Metrics are the histograms of all deployments of a process. They are
// safe for concurrent use; the only label is the name of the deployment.
type Metrics struct {
	call    *prometheus.HistogramVec
	commit  *prometheus.HistogramVec
	latency *prometheus.HistogramVec
	through *prometheus.HistogramVec
}

// NewMetrics registers the histograms of deployments.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "millstream", Subsystem: "deployment", Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		}, []string{"deployment"})
	}
	m := &Metrics{
		call:    histogram("call_duration_seconds", "Time of one call of the guest, a batch of records.", .0001, .001, .01, .1, 1),
		commit:  histogram("commit_duration_seconds", "Time to commit a transaction: outputs, dead letters and the input offset.", .0001, .001, .01, .1, 1),
		latency: histogram("event_latency_seconds", "Age of the newest record of a transaction, by its own timestamp, when its outputs were committed.", .001, .01, .1, 1, 10, 60),
		through: histogram("processing_latency_seconds", "From when the oldest record of a transaction was read, which is when it was appended unless there is a lag, until its outputs were committed.", .001, .01, .1, 1, 10),
	}
	for _, c := range []prometheus.Collector{m.call, m.commit, m.latency, m.through} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// NewStats returns the statistics of a deployment, with its histograms; m may be nil.
func (m *Metrics) NewStats(deployment string) *Stats {
	s := &Stats{}
	if m != nil {
		s.histograms = histograms{
			call:    m.call.WithLabelValues(deployment),
			commit:  m.commit.WithLabelValues(deployment),
			latency: m.latency.WithLabelValues(deployment),
			through: m.through.WithLabelValues(deployment),
		}
	}
	return s
}

// Forget deletes the histograms of a deployment that is no more.
func (m *Metrics) Forget(deployment string) {
	if m == nil {
		return
	}
	for _, v := range []*prometheus.HistogramVec{m.call, m.commit, m.latency, m.through} {
		v.DeleteLabelValues(deployment)
	}
}

// Unregister takes the histograms off the registry.
func (m *Metrics) Unregister(r prometheus.Registerer) {
	for _, v := range []*prometheus.HistogramVec{m.call, m.commit, m.latency, m.through} {
		r.Unregister(v)
	}
}
