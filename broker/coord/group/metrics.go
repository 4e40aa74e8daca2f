package group

import (
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/prometheus/client_golang/prometheus"
)

// maxGroupSeries bounds the groups that have series of their own; the others
// are summed up under otherGroups.
const (
	maxGroupSeries = 200
	otherGroups    = "other groups"
)

// collector shows the groups at a scrape; nothing is kept for it.
type collector struct {
	c      *Coordinator
	topics *topic.Topics

	groups, members, lag *prometheus.Desc
}

// Collector returns the metrics of all groups. Lag is measured against topics.
func (c *Coordinator) Collector(topics *topic.Topics) prometheus.Collector {
	desc := func(name, help string, label string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_"+name, help, []string{label}, nil)
	}
	return &collector{
		c: c, topics: topics,
		groups:  desc("groups", "Consumer groups, by state.", "state"),
		members: desc("group_members", "Members of a consumer group.", "group"),
		lag:     desc("group_lag_records", "Offsets between what a group has committed and the ends of the partitions.", "group"),
	}
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.groups
	ch <- m.members
	ch <- m.lag
}

// census is what is counted of one group.
type census struct {
	state   string
	members int
	offsets map[TopicPartition]int64
}

func censusOf(g *anyGroup) census {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := census{state: g.listing().State, members: len(g.members), offsets: make(map[TopicPartition]int64, len(g.offsets))}
	if g.consumer != nil {
		count.members = len(g.consumer.members)
	}
	for tp, o := range g.offsets {
		count.offsets[tp] = o.Offset
	}
	return count
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value int64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), label)
	}
	states := map[string]int64{}
	var otherMembers, otherLag int64
	all := m.c.all()
	for i, g := range all {
		count := censusOf(g)
		if count.state == StateDead.String() {
			continue
		}
		states[count.state]++
		members, lag := int64(count.members), m.lagOf(count.offsets)
		if i >= maxGroupSeries {
			otherMembers, otherLag = otherMembers+members, otherLag+lag
			continue
		}
		gauge(m.members, members, g.id)
		gauge(m.lag, lag, g.id)
	}
	if len(all) > maxGroupSeries {
		gauge(m.members, otherMembers, otherGroups)
		gauge(m.lag, otherLag, otherGroups)
	}
	for state, n := range states {
		gauge(m.groups, n, state)
	}
}

func (m *collector) lagOf(offsets map[TopicPartition]int64) (lag int64) {
	for tp, at := range offsets {
		p, err := m.topics.Partition(tp.Topic, tp.Partition)
		if err != nil {
			continue // deleted meanwhile
		}
		bounds := p.Offsets()
		lag += max(0, bounds.HighWatermark-max(at, bounds.LogStart))
	}
	return lag
}
