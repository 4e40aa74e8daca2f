package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// closeTimeout bounds an orderly stop. What is not finished then is recovered at the next start.
const closeTimeout = 20 * time.Second

// Process is a running server: everything below one data directory, serving on two ports.
type Process struct {
	Brokers   string // host:port that clients connect to
	AdminURL  string
	ClusterID string

	failed chan error // a listener that ended by itself
	ready  atomic.Bool
	// closers run in reverse order.
	closers []closer
}

type closer struct {
	what  string
	close func(context.Context) error
}

// Start opens everything below o.DataDir and serves. Errors carry exit codes.
// On success the caller must Close. Modules are compiled in child processes, so
// the executable's main function must call compile.Main first.
func Start(ctx context.Context, o Options) (_ *Process, err error) {
	p := &Process{failed: make(chan error, 2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	// Both ports first: that one is taken should be known before any file is touched.
	kafka, err := p.listen("listen", o.Listen)
	if err != nil {
		return nil, err
	}
	web, err := p.listen("admin", o.Admin)
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
		GroupConfigs: o.GroupConfigs,
	})
	if err != nil {
		return nil, explainOpen(o.DataDir, err)
	}
	p.closes("broker", b.Close)
	p.ClusterID = b.ClusterID()
	go p.serve("Kafka clients", func() error { return b.Serve(kafka) })
	r, err := p.openRuntime(ctx, b, o, metrics)
	if err != nil {
		return nil, err
	}
	info := admin.Info{
		Version: o.Version, ClusterID: p.ClusterID, Brokers: []string{p.Brokers}, DataDir: o.DataDir, StartedAt: time.Now(),
	}
	api := admin.NewServer(r, info, metricsHandler(metrics), p.readiness)
	p.closes("admin API", api.Close)
	go p.serve("the admin API", func() error { return api.Serve(web) })
	p.ready.Store(true)
	return p, nil
}

func (p *Process) openRuntime(ctx context.Context, b *broker.Broker, o Options, metrics prometheus.Registerer) (*runtime.Runtime, error) {
	h, err := host.New(ctx, host.Options{
		CacheDir: filepath.Join(o.DataDir, "cache"), Logger: o.Logger, ChildProcess: true,
	})
	if err != nil {
		return nil, fmt.Errorf("host of modules: %w", err)
	}
	p.closes("host of modules", h.Close)
	r, err := runtime.Open(ctx, runtime.Options{
		Engine: embedded.New(b.Topics(), b.Groups(), b.Transactions(), embedded.Options{Logger: o.Logger}), Host: h, Logger: o.Logger, Metrics: metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("runtime: %w", err)
	}
	p.closes("runtime", r.Close)
	return r, nil
}

func metricsHandler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true})
}

func (p *Process) listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, explainListen(flag, address, err)
	}
	p.closes(address, func(context.Context) error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

func (p *Process) closes(what string, f func(context.Context) error) {
	p.closers = append(p.closers, closer{what, f})
}

func (p *Process) serve(what string, serve func() error) {
	err := serve()
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		p.failed <- fmt.Errorf("serving %s: %w", what, err)
	}
}

func (p *Process) readiness() error {
	if !p.ready.Load() {
		return errors.New("starting or stopping")
	}
	return nil
}

// Close stops serving, finishes what is in flight and makes it durable.
func (p *Process) Close() error {
	p.ready.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i].close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.closers[i].what, err))
		}
	}
	p.closers = nil
	return errors.Join(errs...)
}
