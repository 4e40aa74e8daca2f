package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/isolation"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
)

// Isolation says where guests run.
type Isolation struct {
	ByProcess bool // else in the server's own process
	Limits    isolation.Limits
}

type isolationFlags struct {
	kind   string
	memory string
	cpus   int
}

// Values of --isolation.
const (
	isolationNone    = "none"
	isolationProcess = "process"
)

// Bounds of --isolation-memory: below, the process itself has no room.
const (
	minIsolationBytes = 128 << 20
	maxIsolationBytes = 1 << 40
)

func (f *isolationFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "isolation", Usage: "where modules run, `KIND`: none (in this process, the fastest) or process (each deployment in one of its own)", Value: isolationNone, EnvVars: []string{"MILLSTREAM_ISOLATION"}, Destination: &f.kind},
		&cli.StringFlag{Name: "isolation-memory", Usage: "with --isolation process, `SIZE` of memory that the process of a deployment may use; it is ended and started again when it uses more", Value: "512MiB", Destination: &f.memory},
		&cli.IntFlag{Name: "isolation-cpus", Usage: "with --isolation process, `NUMBER` of CPUs that the process of a deployment may use at once", Value: 1, Destination: &f.cpus},
	}
}

func (f *isolationFlags) parse() (Isolation, error) {
	bytes, err := terminal.ParseSize(f.memory)
	switch {
	case f.kind != isolationNone && f.kind != isolationProcess:
		return Isolation{}, command.Usagef("--isolation %q is unknown", f.kind).WithFix("it is none or process")
	case err != nil:
		return Isolation{}, command.Usagef("--isolation-memory: %w", err)
	case bytes < minIsolationBytes || bytes > maxIsolationBytes:
		return Isolation{}, command.Usagef("--isolation-memory %s is not from 128MiB to 1TiB", f.memory)
	case f.cpus < 1 || f.cpus > 1024:
		return Isolation{}, command.Usagef("--isolation-cpus %d is not from 1 to 1024", f.cpus)
	}
	return Isolation{ByProcess: f.kind == isolationProcess, Limits: isolation.Limits{MemoryBytes: bytes, CPUs: f.cpus}}, nil
}

// openLauncher makes the supervisor of the deployments' processes; nil if there are none.
func (p *Process) openLauncher(b *broker.Broker, o *Options, metrics prometheus.Registerer) (runtime.Launcher, error) {
	if !o.Isolation.ByProcess {
		return nil, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("--isolation process: %w", err)
	}
	cache := filepath.Join(o.DataDir, "cache")
	p.supervisor = isolation.New(isolation.Options{
		Executable: executable, CacheDir: cache, Limits: o.Isolation.Limits, Logger: o.Logger,
		Args: func(deployment string) []string {
			return []string{
				"worker", "--brokers", p.Brokers, "--only", deployment, "--admin", "127.0.0.1:0", "--cache", cache,
				"--until-input-ends", "--json", "--log-format", "json",
			}
		},
		Ended: func(deployment string) { evict(b.Groups(), deployment, o) },
	})
	if err := metrics.Register(p.supervisor.Collector()); err != nil {
		return nil, fmt.Errorf("--isolation process: %w", err)
	}
	p.Closes("processes of deployments", p.supervisor.Close)
	return p.supervisor, nil
}

// evict takes the members of a deployment's group out of it, since their process has died: the next one
// need not wait for their sessions to time out. One that is alive after all joins again.
func evict(groups *group.Coordinator, deployment string, o *Options) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	name := deploy.GroupName(deployment)
	d, err := groups.Describe(name)
	if err != nil {
		return // there is none
	}
	for _, m := range d.Members {
		id := group.Identity{Group: name, MemberID: m.MemberID, InstanceID: m.InstanceID}
		if err := groups.Leave(ctx, id, "its process has ended"); err != nil {
			o.Logger.Warn("taking a dead member out of its group", "group", name, "member", m.MemberID, "error", err)
		}
	}
}

// gatherer adds what the deployments' processes measure.
func (p *Process) gatherer(own prometheus.Gatherer) prometheus.Gatherer {
	if p.supervisor == nil {
		return own
	}
	return p.supervisor.Gatherer(own)
}
