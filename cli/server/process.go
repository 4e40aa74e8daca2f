package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/cli/serve"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/isolation"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Process is a running server: everything below one data directory, serving on two ports.
type Process struct {
	Brokers   string // host:port that clients connect to
	AdminURL  string
	ClusterID string

	*serve.Process
	supervisor *isolation.Supervisor // nil: guests run in this process
}

// Start opens everything below o.DataDir and serves. Errors carry exit codes.
// On success the caller must Close. Modules are compiled in child processes, so
// the executable's main function must call compile.Main first.
func Start(ctx context.Context, o Options) (_ *Process, err error) {
	p := &Process{Process: serve.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	// Both ports first: that one is taken should be known before any file is touched.
	kafka, err := p.Listen("listen", o.Listen)
	if err != nil {
		return nil, err
	}
	web, err := p.Listen("admin", o.Admin)
	if err != nil {
		return nil, err
	}
	p.Brokers, p.AdminURL = kafka.Addr().String(), "http://"+web.Addr().String()
	if o.Advertise != "" {
		p.Brokers = o.Advertise
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, explainOpen(o.DataDir, err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b, err := broker.Open(ctx, broker.Options{
		Dir: filepath.Join(o.DataDir, "broker"), Logger: o.Logger, Metrics: metrics,
		AdvertisedAddress: p.Brokers, NoAutoCreate: o.NoAutoCreate, DefaultPartitions: o.DefaultPartitions,
		GroupConfigs: o.GroupConfigs, Reserve: true,
	})
	if err != nil {
		return nil, explainOpen(o.DataDir, err)
	}
	p.Closes("broker", b.Close)
	p.ClusterID = b.ClusterID()
	p.Serve("Kafka clients", func() error { return b.Serve(kafka) })
	r, err := p.openRuntime(ctx, b, o, metrics)
	if err != nil {
		return nil, err
	}
	info := admin.Info{
		Version: o.Version, ClusterID: p.ClusterID, Brokers: []string{p.Brokers}, DataDir: o.DataDir, StartedAt: time.Now(),
	}
	api := admin.NewServer(r, info, serve.Metrics(p.gatherer(metrics)), p.Readiness)
	p.Closes("admin API", serve.Within(serve.RequestsTimeout, api.Close))
	p.Serve("the admin API", func() error { return api.Serve(web) })
	p.SetReady()
	return p, nil
}

func (p *Process) openRuntime(ctx context.Context, b *broker.Broker, o Options, metrics *prometheus.Registry) (*runtime.Runtime, error) {
	h, err := host.New(ctx, host.Options{
		CacheDir: filepath.Join(o.DataDir, "cache"), Logger: o.Logger, ChildProcess: true,
	})
	if err != nil {
		return nil, fmt.Errorf("host of modules: %w", err)
	}
	p.Closes("host of modules", h.Close)
	launcher, err := p.openLauncher(b, &o, metrics)
	if err != nil {
		return nil, err
	}
	r, err := runtime.Open(ctx, runtime.Options{
		Engine: embedded.New(b.Topics(), b.Groups(), b.Transactions(), embedded.Options{Logger: o.Logger}),
		Host:   h, Logger: o.Logger, Metrics: metrics, Launcher: launcher,
	})
	if err != nil {
		return nil, fmt.Errorf("runtime: %w", err)
	}
	p.Closes("runtime", serve.Within(serve.DrainTimeout, r.Close))
	return r, nil
}
