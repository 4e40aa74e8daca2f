// Package server holds the server command: a broker and a runtime in one
// process, with everything wired together.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/serve"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/urfave/cli/v2"
)

// Options of a server. Process starts one with them too.
type Options struct {
	DataDir           string
	Listen            string // host:port of the Kafka protocol
	Advertise         string // host:port told to clients; "": the listener's
	Admin             string // host:port of the admin API
	DefaultPartitions int
	NoAutoCreate      bool
	Insecure          bool
	GroupConfigs      map[string]string // settings of consumer groups by Kafka's names
	Isolation         Isolation
	Logger            *slog.Logger
	Version           string
}

type serverOptions struct {
	env *command.Env
	Options
	groupConfigs cli.StringSlice
	log          serve.Log
	isolation    isolationFlags
}

// New makes the command.
func New(env *command.Env, version string) *cli.Command {
	o := &serverOptions{env: env}
	o.Version = version
	return command.New(env, command.Spec{
		Name: "server", Usage: "run a broker and the runtime on this machine", Category: "Run it",
		Description: `Without flags it just works: data in $XDG_DATA_HOME/millstream (or ~/.local/share/millstream), listening for this
machine only. Ctrl-C or SIGTERM stops it: what is in flight is finished and made durable; a second one ends it at once, and nothing that was
acknowledged is lost either. With --json it prints one line with its addresses when it is ready.`,
		Examples: `millstream server
millstream server --data /var/lib/millstream --default-partitions 4
millstream server --listen 127.0.0.1:0 --admin 127.0.0.1:0 --json`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "keep everything in `DIR`", DefaultText: "the user's data directory", EnvVars: []string{"MILLSTREAM_DATA"}, Destination: &o.DataDir},
			&cli.StringFlag{Name: "listen", Usage: "`HOST:PORT` for Kafka clients; port 0: a free one", Value: "127.0.0.1:9092", Destination: &o.Listen},
			&cli.StringFlag{Name: "advertise", Usage: "`HOST:PORT` that clients are told to connect to", DefaultText: "the one listened on", Destination: &o.Advertise},
			&cli.StringFlag{Name: "admin", Usage: "`HOST:PORT` of the admin API, /metrics and /healthz", Value: "127.0.0.1:9644", Destination: &o.Admin},
			&cli.IntFlag{Name: "default-partitions", Usage: "`NUMBER` of partitions of topics that do not say", Value: 1, Destination: &o.DefaultPartitions},
			&cli.BoolFlag{Name: "no-auto-create", Usage: "do not create topics on first use", Destination: &o.NoAutoCreate, DisableDefaultText: true},
			&cli.StringSliceFlag{Name: "group-config", Usage: "setting of consumer groups, `KEY=VALUE` by Kafka's names, as group.consumer.session.timeout.ms=45000; may be repeated", Destination: &o.groupConfigs},
			&cli.BoolFlag{Name: "insecure", Usage: "listen beyond this machine although nobody is asked for a password", Destination: &o.Insecure, DisableDefaultText: true},
		}, append(o.isolation.flags(), o.log.Flags()...)...),
		Run: func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

func (o *serverOptions) run(ctx context.Context) error {
	started := time.Now()
	if err := o.complete(); err != nil {
		return err
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
func (o *serverOptions) complete() error {
	var err error
	if o.Logger, err = o.log.Logger(o.env.Err); err != nil {
		return err
	}
	if o.DefaultPartitions < 1 {
		return command.Usagef("--default-partitions %d: a topic has at least one partition", o.DefaultPartitions)
	}
	if o.Isolation, err = o.isolation.parse(); err != nil {
		return err
	}
	o.GroupConfigs = map[string]string{}
	for _, pair := range o.groupConfigs.Value() {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return command.Usagef("--group-config %q is not KEY=VALUE", pair)
		}
		o.GroupConfigs[k] = v
	}
	if err := o.checkAddresses(); err != nil {
		return err
	}
	if o.DataDir == "" {
		dir, err := dataDir(o.env.Getenv)
		if err != nil {
			return err
		}
		o.DataDir = dir
	}
	return nil
}

// dataDir is where the XDG base directory specification puts an application's data.
func dataDir(getenv func(string) string) (string, error) {
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "millstream"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", command.Usagef("neither HOME nor XDG_DATA_HOME is set").WithFix("say where to keep data: --data DIR")
	}
	return filepath.Join(home, ".local", "share", "millstream"), nil
}

func (o *serverOptions) announce(p *Process, took time.Duration) error {
	if o.env.JSON {
		return o.env.PrintJSON(map[string]any{
			"brokers": p.Brokers, "admin": p.AdminURL, "data_dir": o.DataDir, "cluster_id": p.ClusterID,
			"version": o.Version, "pid": os.Getpid(), "started_in_seconds": took.Seconds(),
		})
	}
	s := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	o.env.Printf("%s is ready (%s)\n\n", s.Bold("millstream "+o.Version), terminal.Duration(took))
	o.env.Printf("  Kafka clients   %s\n", p.Brokers)
	o.env.Printf("  admin API       %s   (/metrics, /healthz)\n", p.AdminURL)
	o.env.Printf("  data            %s\n\n", o.DataDir)
	if p.Brokers != "127.0.0.1:9092" || p.AdminURL != "http://127.0.0.1:9644" {
		o.env.Printf("  export MILLSTREAM_BROKERS=%s MILLSTREAM_ADMIN=%s\n", p.Brokers, p.AdminURL)
	}
	o.env.Printf("  millstream deploy plugin:translate --name spanish --from notes --to notes.es --config to=es --create-topics\n")
	o.env.Printf("  echo 'good morning' | millstream produce notes && millstream consume notes.es --follow\n\n")
	o.env.Printf("Ctrl-C stops it.\n")
	return nil
}

// checkAddresses refuses to serve strangers by accident.
func (o *serverOptions) checkAddresses() error {
	for _, a := range []struct{ flag, address string }{{"listen", o.Listen}, {"admin", o.Admin}} {
		if err := serve.CheckAddress(a.flag, a.address, o.Insecure); err != nil {
			return err
		}
	}
	host, _, _ := net.SplitHostPort(o.Listen)
	if ip := net.ParseIP(host); o.Advertise == "" && (host == "" || (ip != nil && ip.IsUnspecified())) {
		return command.Usagef("--listen %s is no address that clients could be told to connect to", o.Listen).
			WithFix("add --advertise HOST:PORT with the name by which clients reach this machine")
	}
	if o.Advertise != "" {
		if host, _, err := net.SplitHostPort(o.Advertise); err != nil || host == "" {
			return command.Usagef("--advertise %q is not HOST:PORT", o.Advertise)
		}
	}
	return nil
}

// explainOpen says why a data directory cannot be used.
func explainOpen(dir string, err error) error {
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return command.Conflictf("data directory %s is in use by another server: %w", dir, err).
			WithFix("use that server (millstream list), stop it, or take another directory: --data DIR")
	case errors.Is(err, os.ErrPermission):
		return command.Failedf("data directory %s: %w", dir, err).WithFix("make it writable for this user, or take another: --data DIR")
	case errors.Is(err, vfs.ErrNoSpace):
		return command.Failedf("data directory %s: %w", dir, err).WithFix("free space on that disk, or take another: --data DIR")
	}
	return fmt.Errorf("data directory %s: %w", dir, err)
}
