package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/serve"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/kafka"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// startTimeout bounds what a start waits for the cluster.
const startTimeout = time.Minute

// Process is a running worker.
type Process struct {
	*serve.Process
	Brokers   string // the cluster's own addresses, as it tells them
	AdminURL  string
	ClusterID string
}

// Start connects to the cluster, takes up its deployments and serves the admin API. Errors carry
// exit codes. On success the caller must Close. Modules are compiled in child processes, so
// the executable's main function must call compile.Main first.
func Start(ctx context.Context, o Options) (_ *Process, err error) {
	p := &Process{Process: serve.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	web, err := p.Listen("admin", o.Admin)
	if err != nil {
		return nil, err
	}
	p.AdminURL = "http://" + web.Addr().String()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	brokers, err := p.greet(starting, &o)
	if err != nil {
		return nil, err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r, err := p.openRuntime(ctx, starting, o, metrics)
	if err != nil {
		return nil, o.explain(err, len(brokers))
	}
	info := admin.Info{Version: o.Version, ClusterID: p.ClusterID, Brokers: brokers, StartedAt: time.Now()}
	api := admin.NewServer(r, info, serve.Metrics(metrics), p.Readiness)
	p.Closes("admin API", serve.Within(serve.RequestsTimeout, api.Close))
	p.Serve("the admin API", func() error { return api.Serve(web) })
	p.SetReady()
	return p, nil
}

// greet finds out who the cluster is, with errors that are better than those of trying to work with it.
func (p *Process) greet(ctx context.Context, o *Options) ([]string, error) {
	client, err := o.Brokers.Admin(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	metadata, err := patient(ctx, o.Logger, client.BrokerMetadata)
	if err != nil {
		return nil, o.explain(err, 0)
	}
	p.ClusterID = metadata.Cluster
	brokers := addresses(metadata.Brokers)
	p.Brokers = strings.Join(brokers, ",")
	return brokers, nil
}

// A broker that is being restarted accepts connections and cuts them. That it does so for greetTime means something else.
const (
	greetTime  = 5 * time.Second
	greetPause = 250 * time.Millisecond
)

// patient asks until there is an answer; brokers that close connections without one are asked again for greetTime.
func patient[A any](ctx context.Context, logger *slog.Logger, ask func(context.Context) (A, error)) (A, error) {
	for deadline, first := time.Now().Add(greetTime), true; ; first = false {
		answer, err := ask(ctx)
		if !connect.Cut(err) || time.Now().After(deadline) {
			return answer, err
		}
		if first {
			logger.Warn("the brokers close connections, trying again", "for", greetTime, "error", err)
		}
		timer := time.NewTimer(greetPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer, err
		}
	}
}

func addresses(list kadm.BrokerDetails) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	return out
}

func (p *Process) openRuntime(ctx, starting context.Context, o Options, metrics prometheus.Registerer) (*runtime.Runtime, error) {
	h, err := host.New(ctx, host.Options{CacheDir: o.CacheDir, Logger: o.Logger, ChildProcess: true})
	if err != nil {
		return nil, command.Failedf("host of modules: %w", err).WithFix("take another directory: --cache DIR")
	}
	p.Closes("host of modules", h.Close)
	e, err := p.openEngine(starting, o)
	if err != nil {
		return nil, err
	}
	r, err := runtime.Open(starting, runtime.Options{Engine: e, Host: h, Logger: o.Logger, Metrics: metrics, Only: o.Only})
	if err != nil {
		return nil, fmt.Errorf("runtime: %w", err)
	}
	p.Closes("runtime", serve.Within(o.drainTimeout(), r.Close))
	return r, nil
}

// drainTimeout is how long guests get at the end.
func (o *Options) drainTimeout() time.Duration {
	if o.Child {
		return serve.ChildDrainTimeout
	}
	return serve.DrainTimeout
}

func (p *Process) openEngine(ctx context.Context, o Options) (engine.Engine, error) {
	encryption, err := o.Brokers.TLS()
	if err != nil {
		return nil, err
	}
	login, err := o.Brokers.Login()
	if err != nil {
		return nil, err
	}
	e, closeEngine, err := kafka.New(ctx, kafka.Options{
		Brokers: strings.Split(p.Brokers, ","), TLS: encryption,
		SASL:   kafka.SASL{Mechanism: login.Mechanism, User: login.User, Password: login.Password},
		Logger: o.Logger, SessionTimeout: o.SessionTimeout,
	})
	if err != nil {
		return nil, err
	}
	p.Closes("connections to the cluster", closeEngine)
	return e, nil
}

// explain says what the cluster does not let a worker do.
func (o *Options) explain(err error, brokers int) error {
	var known *command.Error
	if errors.As(err, &known) {
		return err
	}
	fail := func(fix string, args ...any) error {
		return command.Failedf("worker on %s: %w", o.Brokers.Addresses, err).WithFix(fix, args...)
	}
	internal := runtime.CatalogTopic + " and " + runtime.LogsTopic
	switch {
	case errors.Is(err, kerr.InvalidReplicationFactor), errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend):
		return fail("the cluster has %d brokers: set its default.replication.factor and min.insync.replicas to what they can keep,\nor create the topics %s (the first with cleanup.policy=compact) yourself, one partition each", brokers, internal)
	case errors.Is(err, kerr.PolicyViolation):
		return fail("the cluster does not allow topics like these: create %s (the first with cleanup.policy=compact)\nas its policy wants them, one partition each, and start again", internal)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fail("give the user Create, Read, Write and Describe on the topics %s (kafka-acls --add),\nor log in as another: --sasl-user", internal)
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return fail("give the user Write and Describe on transactional ids that begin with millstream-\n(kafka-acls --add --transactional-id millstream- --resource-pattern-type prefixed)")
	case errors.Is(err, kerr.UnsupportedVersion):
		return fail("the cluster must be Kafka 2.5 or newer, or as able")
	case errors.Is(err, context.DeadlineExceeded):
		return &command.Error{
			Code: command.CodeUnreachable, Err: fmt.Errorf("worker on %s: the cluster did not do what was asked within %s: %w", o.Brokers.Addresses, startTimeout, err),
			Fix: "are all its brokers up, and can they be reached from here by the addresses that they advertise?",
		}
	}
	return o.Brokers.Explain(err, "worker on "+o.Brokers.Addresses)
}
