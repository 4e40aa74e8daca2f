// Package worker holds the worker command: a runtime over somebody else's
// brokers, with everything wired together.
package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/serve"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/urfave/cli/v2"
)

// Options of a worker.
type Options struct {
	Brokers  connect.Brokers
	Admin    string // host:port of the admin API
	CacheDir string // of compiled modules
	Only     string // the one deployment to run; "": all
	Child    bool   // of a server, which waits for it when it stops
	// SessionTimeout is how long the groups wait for a sign of life of this worker.
	SessionTimeout time.Duration
	Insecure       bool
	Logger         *slog.Logger
	Version        string
}

type workerOptions struct {
	env *command.Env
	Options
	log serve.Log
}

// New makes the command.
func New(env *command.Env, version string) *cli.Command {
	o := &workerOptions{env: env}
	o.Version = version
	return command.New(env, command.Spec{
		Name: "worker", Usage: "run deployments against a Kafka cluster", Category: "Run it",
		Description: `It has no broker of its own: modules, deployments, logs and dead letters are topics of the cluster, which may be
Apache Kafka or what speaks its protocol. Any number of workers share the deployments: each deployment is a consumer group, and when a worker
comes, goes or dies, the others take its partitions over. What a server does, a worker does: the same commands talk to any worker's admin
API. Ctrl-C or SIGTERM stops it: what is in hand is finished and committed; a second one ends it at once, and nothing is lost or done
twice. With --json it prints one line with its addresses when it is ready.

On the cluster it needs the rights to create the topics __millstream_catalog, __millstream_logs and NAME.dlq, to read inputs, to write
outputs, and to use the groups and transactional ids that begin with a deployment's name or with millstream-.`,
		Examples: `millstream worker --brokers k1:9092,k2:9092
millstream worker --brokers k1:9093 --tls-ca ca.pem --sasl-mechanism scram-sha-512 --sasl-user mill --sasl-password-file pw
MILLSTREAM_ADMIN=http://127.0.0.1:9644 millstream deploy shout.wasm --name shout --from notes --to notes.loud`,
		Flags: o.flags(),
		Run:   func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

func (o *workerOptions) flags() []cli.Flag {
	flags := append(o.Brokers.AllFlags(o.env),
		&cli.StringFlag{Name: "admin", Usage: "`HOST:PORT` of the admin API, /metrics, /healthz and /readyz", Value: "127.0.0.1:9644", Destination: &o.Admin},
		&cli.StringFlag{Name: "cache", Usage: "keep compiled modules in `DIR`; workers may share it", DefaultText: "the user's cache directory", EnvVars: []string{"MILLSTREAM_CACHE"}, Destination: &o.CacheDir},
		&cli.DurationFlag{Name: "session-timeout", Usage: "others take the partitions over when this worker has given no sign of life for this `DURATION`; the brokers bound it (group.min.session.timeout.ms, group.max.session.timeout.ms)", Value: defaultSessionTimeout, Destination: &o.SessionTimeout},
		&cli.BoolFlag{Name: "insecure", Usage: "let the admin API be reached from beyond this machine although nobody is asked for a password", Destination: &o.Insecure, DisableDefaultText: true},
		// These two are for the server, which runs deployments in workers of its own.
		&cli.StringFlag{Name: "only", Usage: "run only the deployment `NAME`", Destination: &o.Only, Hidden: true},
		&cli.BoolFlag{Name: "until-input-ends", Usage: "stop when standard input is closed", Destination: &o.Child, Hidden: true},
	)
	return append(flags, o.log.Flags()...)
}

const defaultSessionTimeout = 30 * time.Second

// errParent: who started this process has gone.
var errParent = errors.New("standard input was closed")

func (o *workerOptions) run(ctx context.Context) error {
	started := time.Now()
	if err := o.complete(); err != nil {
		return err
	}
	if o.Child {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			_, _ = io.Copy(io.Discard, o.env.In)
			cancel(errParent)
		}()
	}
	p, err := Start(ctx, o.Options)
	if err != nil {
		return err
	}
	if err := o.announce(p, time.Since(started)); err != nil {
		return errors.Join(err, p.Close())
	}
	return p.UntilStopped(ctx, o.env)
}

// complete fills in and checks what the flags left open.
func (o *workerOptions) complete() error {
	var err error
	if o.Logger, err = o.log.Logger(o.env.Err); err != nil {
		return err
	}
	if err := serve.CheckAddress("admin", o.Admin, o.Insecure); err != nil {
		return err
	}
	if o.SessionTimeout < time.Second || o.SessionTimeout > 30*time.Minute {
		return command.Usagef("--session-timeout %s is not from 1s to 30m", o.SessionTimeout)
	}
	if o.CacheDir == "" {
		o.CacheDir, err = cacheDir(o.env.Getenv)
	}
	return err
}

// cacheDir is where the XDG base directory specification puts what can be made again.
func cacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "millstream", "modules"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", command.Usagef("neither HOME nor XDG_CACHE_HOME is set").WithFix("say where to keep compiled modules: --cache DIR")
	}
	return filepath.Join(home, ".cache", "millstream", "modules"), nil
}

func (o *workerOptions) announce(p *Process, took time.Duration) error {
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{
			"brokers": p.Brokers, "admin": p.AdminURL, "cluster_id": p.ClusterID,
			"version": o.Version, "pid": os.Getpid(), "started_in_seconds": took.Seconds(),
		})
	}
	s := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	o.env.Printf("%s is ready (%s)\n\n", s.Bold("millstream worker "+o.Version), terminal.Duration(took))
	o.env.Printf("  cluster         %s (%s)\n", p.ClusterID, p.Brokers)
	o.env.Printf("  admin API       %s   (/metrics, /healthz, /readyz)\n\n", p.AdminURL)
	o.env.Printf("  export MILLSTREAM_BROKERS=%s MILLSTREAM_ADMIN=%s\n\n", o.Brokers.Addresses, p.AdminURL)
	o.env.Printf("Ctrl-C stops it.\n")
	return nil
}
