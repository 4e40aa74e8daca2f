package isolation

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Collector shows the processes themselves.
func (s *Supervisor) Collector() prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("millstream_isolation_process_"+name, help, []string{"deployment"}, nil)
	}
	return &collector{
		supervisor: s,
		resident:   desc("resident_bytes", "Resident memory of the deployment's process."),
		restarts:   desc("restarts_total", "Processes of the deployment that ended by themselves or were killed for what they used."),
	}
}

type collector struct {
	supervisor         *Supervisor
	resident, restarts *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.resident
	out <- c.restarts
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for name, child := range c.supervisor.running() {
		out <- prometheus.MustNewConstMetric(c.resident, prometheus.GaugeValue, float64(child.residentBytes()), name)
		out <- prometheus.MustNewConstMetric(c.restarts, prometheus.CounterValue, float64(c.supervisor.restartsOf(name)), name)
	}
}

func (s *Supervisor) running() map[string]*child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.children)
}

func (s *Supervisor) restartsOf(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts[name]
}

// deploymentPrefix begins the names of what a process tells about its deployment.
const deploymentPrefix = "millstream_deployment_"

// ownFamilies are told by the parent, which sees them better.
func ownFamilies() []string {
	return []string{deploymentPrefix + "phase", deploymentPrefix + "lag_records", deploymentPrefix + "partitions"}
}

// scrapeTimeout bounds what a scrape waits for the processes.
const scrapeTimeout = 2 * time.Second

// Gatherer gives what own gathers, with the counters of deployments as their processes have them.
func (s *Supervisor) Gatherer(own prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := own.Gather()
		ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
		defer cancel()
		return merge(families, s.scrape(ctx)), err
	})
}

// scrape asks all processes; those that do not answer are left out.
func (s *Supervisor) scrape(ctx context.Context) map[string]map[string]*dto.MetricFamily {
	var (
		asking  sync.WaitGroup
		mu      sync.Mutex
		answers = map[string]map[string]*dto.MetricFamily{}
	)
	for name, c := range s.running() {
		asking.Go(func() {
			body := c.metrics(ctx)
			if body == nil {
				return
			}
			defer func() { _ = body.Close() }()
			parser := expfmt.NewTextParser(model.UTF8Validation)
			families, err := parser.TextToMetricFamilies(body)
			if err != nil {
				c.logger.Warn("metrics of the deployment's process", "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[name] = families
		})
	}
	asking.Wait()
	return answers
}

// merge puts each deployment's metrics of the answers in place of those that are there.
func merge(families []*dto.MetricFamily, answers map[string]map[string]*dto.MetricFamily) []*dto.MetricFamily {
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	for _, deployment := range slices.Sorted(maps.Keys(answers)) {
		for name, theirs := range answers[deployment] {
			if !strings.HasPrefix(name, deploymentPrefix) || slices.Contains(ownFamilies(), name) {
				continue
			}
			ours := byName[name]
			if ours == nil {
				ours = &dto.MetricFamily{Name: theirs.Name, Help: theirs.Help, Type: theirs.Type}
				byName[name] = ours
			}
			if ours.GetType() != theirs.GetType() {
				continue // another version of the executable
			}
			ours.Metric = slices.DeleteFunc(ours.Metric, func(m *dto.Metric) bool { return deploymentOf(m) == deployment })
			for _, m := range theirs.Metric {
				if deploymentOf(m) == deployment {
					ours.Metric = append(ours.Metric, m)
				}
			}
		}
	}
	out := make([]*dto.MetricFamily, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if len(byName[name].Metric) > 0 {
			out = append(out, byName[name])
		}
	}
	return out
}

func deploymentOf(m *dto.Metric) string {
	for _, l := range m.Label {
		if l.GetName() == "deployment" {
			return l.GetValue()
		}
	}
	return ""
}
