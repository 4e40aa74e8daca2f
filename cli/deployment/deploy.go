package deployment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/plugin"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/urfave/cli/v2"
)

// pluginPrefix names a ready-made plugin instead of a file.
const pluginPrefix = "plugin:"

// unset is the value of a number that was not given.
const unset = math.MinInt

type deployOptions struct {
	env          *command.Env
	admin        connect.Admin
	source       string
	name         string
	from, to     cli.StringSlice
	config       cli.StringSlice
	assets       cli.StringSlice
	start        string
	onError      string
	createTopics bool
	partitions   int
	memory       string
	fuel         int64
	wallTime     time.Duration
	outputBytes  string
	logLines     int
	delivery     string
	retries      int
	failLimit    string
	until        string
	onlyNew      bool
	dryRun       bool
}

// NewDeploy makes the command.
func NewDeploy(env *command.Env) *cli.Command {
	o := &deployOptions{env: env}
	return command.New(env, command.Spec{
		Name: "deploy", Usage: "run a module between topics", Category: category,
		Args: "FILE.wasm|plugin:NAME", MinArgs: 1, MaxArgs: 1,
		Description: `The module gets every record of the --from topics, in order within a partition, and writes to the --to topics. The
deployment is a consumer group of its name, survives restarts of the server, and goes on where it stopped. Without --start it
begins with records that come from now on. A record that the module rejects or crashes on goes to NAME.dlq.

Under the name of a deployment that is there, this makes its next version. The new one is compiled and has to start before anything
changes; then it takes over at the end of a transaction, without leaving the group: no record is lost, handled by both or handled
twice. If it does not start, the old one goes on. Other inputs or another delivery need a restart, from the committed offsets. See history
and rollback, and --dry-run for what would happen.

With --until the run is bounded: it ends by itself when it has got there.`,
		Examples: `millstream deploy shout.wasm --name shout --from notes --to notes.loud --create-topics
millstream deploy plugin:translate --name spanish --from notes --to notes.es --config to=es --start earliest
millstream deploy plugin:route --name by-country --from orders --to es=orders.es --to fr=orders.fr --config on=field:country
millstream deploy shout-2.wasm --name shout --from notes --to notes.loud --dry-run
millstream deploy fix.wasm --name repair --from notes --to notes.fixed --create-topics --start 2026-01-31T00:00:00Z --until end`,
		Flags:    o.flags(),
		Required: []string{"name", "from", "to"},
		Complete: o.complete,
		Run: func(ctx context.Context, args []string) error {
			o.source = args[0]
			return o.run(ctx)
		},
	})
}

func (o *deployOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "`NAME` of the deployment and of its consumer group", Destination: &o.name},
		&cli.StringSliceFlag{Name: "from", Usage: "read `TOPIC`; may be repeated", Destination: &o.from},
		&cli.StringSliceFlag{Name: "to", Usage: "write to `[OUTPUT=]TOPIC`; may be repeated", Destination: &o.to},
		&cli.StringSliceFlag{Name: "config", Usage: "config value `KEY=VALUE`; may be repeated", Destination: &o.config},
		&cli.StringSliceFlag{Name: "asset", Usage: "file for the module, `NAME=FILE`; may be repeated", Destination: &o.assets},
		&cli.StringFlag{Name: "start", Usage: "`POSITION` of the first record: latest, earliest, an offset, an RFC 3339 time, or a duration ago such as 10m", DefaultText: "latest, or as the version before", Destination: &o.start},
		&cli.StringFlag{Name: "until", Usage: "`END` of a bounded run: end (of every input as it is when the run begins) or an RFC 3339 time", DefaultText: "none", Destination: &o.until},
		&cli.StringFlag{Name: "on-error", Usage: "`POLICY` for records that fail: dead-letter, skip or stop", Value: deploy.OnErrorDeadLetter, Destination: &o.onError},
		&cli.IntFlag{Name: "retries", Usage: "try a record `N` times more that the module crashes on, before it has failed", Value: unset, DefaultText: strconv.Itoa(deploy.DefaultRetries), Destination: &o.retries},
		&cli.StringFlag{Name: "fail-limit", Usage: "stop when this share of records has failed within this time, `PERCENT/WINDOW`; 100%: never", DefaultText: deploy.FailureLimit{}.String(), Destination: &o.failLimit},
		&cli.StringFlag{Name: "delivery", Usage: "`KIND` of delivery: exactly-once or at-least-once", Value: deploy.DeliveryExactlyOnce, Destination: &o.delivery},
		&cli.BoolFlag{Name: "new", Usage: "refuse a name that is taken, instead of making its next version", Destination: &o.onlyNew, DisableDefaultText: true},
		&cli.BoolFlag{Name: "dry-run", Usage: "only show what would change", Destination: &o.dryRun, DisableDefaultText: true},
		&cli.BoolFlag{Name: "create-topics", Usage: "create inputs and outputs that do not exist", Destination: &o.createTopics, DisableDefaultText: true},
		&cli.IntFlag{Name: "partitions", Usage: "`NUMBER` of partitions of created topics", DefaultText: "as the first input has", Destination: &o.partitions},
		&cli.StringFlag{Name: "memory", Usage: "`SIZE` of memory that one instance may use", DefaultText: "64MiB", Destination: &o.memory},
		&cli.Int64Flag{Name: "fuel", Usage: "`UNITS` of work per record, about one loop iteration each", DefaultText: "50000000", Destination: &o.fuel},
		&cli.DurationFlag{Name: "wall-time", Usage: "`DURATION` that one call may take", DefaultText: "1s", Destination: &o.wallTime},
		&cli.StringFlag{Name: "output-bytes", Usage: "`SIZE` that one call may write", DefaultText: "8MiB and 8 times its input", Destination: &o.outputBytes},
		&cli.IntFlag{Name: "log-lines", Usage: "`LINES` a second that an instance may log", DefaultText: "100", Destination: &o.logLines},
		o.admin.Flag(),
	}
}

func (o *deployOptions) complete(_ context.Context, args []string) []string {
	if len(args) > 0 {
		return nil
	}
	var out []string
	for _, name := range plugin.Ready() {
		out = append(out, pluginPrefix+name)
	}
	return out
}

func (o *deployOptions) run(ctx context.Context) error {
	spec, err := o.spec()
	if err != nil {
		return err
	}
	assets, err := o.readAssets()
	if err != nil {
		return err
	}
	wasm, err := o.module()
	if err != nil {
		return err
	}
	client, err := o.admin.Open()
	if err != nil {
		return err
	}
	defer client.Close()
	if o.dryRun {
		return o.plan(ctx, client, spec, wasm, assets)
	}
	status, info, err := o.deploy(ctx, client, spec, wasm, assets)
	if err != nil {
		return client.Explain(err)
	}
	if o.env.JSON {
		return o.env.PrintJSON(status)
	}
	o.tell(status, info)
	return nil
}

// uploads are the calls that bring modules and assets: to be stored, or only to be tried.
type uploads struct {
	module func(context.Context, io.Reader, int64) (*admin.ModuleInfo, error)
	asset  func(context.Context, io.Reader, int64) (*admin.AssetInfo, error)
}

// deploy uploads what the deployment needs, then asks for it.
func (o *deployOptions) deploy(ctx context.Context, client *connect.AdminClient, spec deploy.Spec, wasm []byte, assets map[string][]byte) (*admin.Status, *admin.ModuleInfo, error) {
	progress := terminal.NewProgress(o.env.Err, o.env.ErrTerminal && !o.env.JSON, "uploading and compiling "+o.source)
	defer progress.Done()
	info, err := o.upload(ctx, uploads{client.UploadModule, client.UploadAsset}, progress, &spec, wasm, assets)
	if err != nil {
		return nil, nil, err
	}
	progress.Set("starting " + spec.Name)
	status, err := client.Deploy(ctx, o.request(spec))
	return status, info, err
}

func (o *deployOptions) request(spec deploy.Spec) admin.DeployRequest {
	return admin.DeployRequest{Spec: spec, CreateTopics: o.createTopics, Partitions: o.partitions, New: o.onlyNew}
}

// upload brings module and assets and puts their digests into spec.
func (o *deployOptions) upload(ctx context.Context, to uploads, progress *terminal.Progress, spec *deploy.Spec, wasm []byte, assets map[string][]byte) (*admin.ModuleInfo, error) {
	info, err := to.module(ctx, bytes.NewReader(wasm), int64(len(wasm)))
	if refusal, ok := errors.AsType[*admin.Problem](err); ok && refusal.Status == http.StatusUnprocessableEntity {
		return nil, fmt.Errorf("%s: %w", o.source, err)
	}
	if err != nil {
		return nil, err
	}
	spec.Module = info.Digest
	spec.Assets = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(assets)) {
		progress.Set("uploading asset " + name)
		a, err := to.asset(ctx, bytes.NewReader(assets[name]), int64(len(assets[name])))
		if err != nil {
			return nil, fmt.Errorf("asset %s: %w", name, err)
		}
		spec.Assets[name] = a.Digest
	}
	return info, nil
}

// tell prints what runs now and how to look at it.
func (o *deployOptions) tell(s *admin.Status, info *admin.ModuleInfo) {
	for _, w := range info.Warnings {
		o.env.Notef("warning: %s\n", w)
	}
	style := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	name := s.Spec.Name
	o.env.Printf("%s is %s: %s\n", style.Bold(name), colouredPhase(style, s.Phase), route(s.Spec))
	tell(o.env, s.Reason)
	module := o.source
	if m := info.Manifest; m != nil {
		module = strings.TrimSpace(m.Name + " " + m.Version)
	}
	o.env.Printf("  module %s, %s, %s\n", module, terminal.Size(int64(info.SizeBytes)), shortDigest(info.Digest))
	switch {
	case s.Unchanged:
		o.env.Printf("  nothing changed: this is version %d already\n", s.Spec.Version)
	case s.Spec.Version > 1:
		o.env.Printf("  version %d, in place of version %d\n", s.Spec.Version, s.Spec.Version-1)
	}
	o.env.Printf("\n")
	t := terminal.NewTable(o.env.Out)
	t.Row("  millstream status "+name, "how it does")
	t.Row("  millstream logs "+name+" --follow", "what it says")
	if s.Spec.Version > 1 && !s.Unchanged {
		t.Row("  millstream rollback "+name, "back to the version before")
	}
	if len(s.Spec.Outputs) > 0 {
		t.Row("  millstream consume "+s.Spec.Outputs[0].Topic+" --follow", "what comes out")
	}
	_ = t.Flush()
}

// shortDigest shortens a digest for people.
func shortDigest(digest string) string {
	const digits = len("sha256:") + 12
	return digest[:min(digits, len(digest))]
}

// module reads the file or the ready-made plugin.
func (o *deployOptions) module() ([]byte, error) {
	if name, ok := strings.CutPrefix(o.source, pluginPrefix); ok {
		return plugin.OpenReady(name)
	}
	wasm, err := readBounded(o.source, admin.MaxModuleBytes)
	if errors.Is(err, fs.ErrNotExist) {
		e := command.NotFoundf("file %s does not exist", o.source)
		if slices.Contains(plugin.Ready(), o.source) {
			return nil, e.WithFix("the ready-made plugin is called %s%s", pluginPrefix, o.source)
		}
		return nil, e.WithFix("build it: millstream build DIR; ready-made ones: millstream plugin list")
	}
	if errors.Is(err, syscall.EISDIR) {
		return nil, command.Failedf("%w", err).WithFix("build what is in it: millstream build %s, and deploy the .wasm file", o.source)
	}
	if err != nil {
		return nil, command.Failedf("%w", err)
	}
	if len(wasm) == 0 {
		return nil, command.Failedf("file %s is empty", o.source).WithFix("build it again: millstream build DIR -o %s", o.source)
	}
	return wasm, nil
}

func (o *deployOptions) readAssets() (map[string][]byte, error) {
	pairs, err := pairs("asset", "NAME=FILE", o.assets.Value())
	if err != nil {
		return nil, err
	}
	assets := map[string][]byte{}
	for name, file := range pairs {
		b, err := readBounded(file, admin.MaxAssetBytes)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, command.NotFoundf("--asset %s: file %s does not exist", name, file)
		}
		if err != nil {
			return nil, command.Failedf("--asset %s: %w", name, err)
		}
		assets[name] = b
	}
	return assets, nil
}

// readBounded reads a file, unless the server would not take so large a one.
func readBounded(name string, maxBytes int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("file %s is too large: a server takes %s", name, terminal.Size(maxBytes))
	}
	return b, err
}
