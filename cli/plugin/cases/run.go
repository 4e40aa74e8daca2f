package cases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/sdk/abi"
)

// Result is what became of a case.
type Result struct {
	Case     Case
	Failures []string // empty: passed; each one line or several
	Logs     []string // what the guest printed, at most maxLogLines
	Took     time.Duration
}

const (
	maxLogLines = 50
	caseTopic   = "input"
	seed        = 1 // of the guest's randomness: the same in every run
)

// Run runs one case in a fresh instance of a program.
func Run(ctx context.Context, p *host.Program, c Case) Result {
	started := time.Now()
	r := Result{Case: c}
	run := &run{c: c, result: &r}
	run.do(ctx, p)
	r.Took = time.Since(started)
	return r
}

type run struct {
	c       Case
	result  *Result
	outputs []string
	now     time.Time
}

func (r *run) failf(format string, args ...any) {
	r.result.Failures = append(r.result.Failures, fmt.Sprintf(format, args...))
}

func (r *run) log(level slog.Level, line string) {
	if len(r.result.Logs) < maxLogLines {
		r.result.Logs = append(r.result.Logs, strings.ToLower(level.String())+": "+line)
	}
}

func (r *run) do(ctx context.Context, p *host.Program) {
	manifest := p.Report().Manifest
	setup, err := r.setup(manifest)
	if err != nil {
		r.failf("%v", err)
		return
	}
	if err := r.deployable(p.Report()); err != nil && r.c.Error == "" {
		r.failf("deploy would refuse this: %v", err)
		return
	}
	instance, err := p.Instantiate(ctx, setup, r.log)
	if r.c.Error != "" {
		r.expectError(err)
	} else if err != nil {
		r.failf("setup failed: %v", err)
	}
	if err != nil {
		return
	}
	defer instance.Close(ctx)
	if r.c.Error != "" {
		return
	}
	got, rejects, err := r.process(ctx, instance)
	if err != nil {
		r.failf("%v", err)
		return
	}
	for i, name := range r.outputs {
		r.compareOutput(name, r.c.Output[name], got[i])
	}
	r.compareRejects(rejects)
}

// setup is what the case tells the guest, with the manifest's defaults.
func (r *run) setup(m *module.Manifest) (host.Setup, error) {
	r.now = r.c.Now
	r.outputs = r.c.Outputs
	if r.outputs == nil {
		r.outputs = outputNames(m)
	}
	for name := range r.c.Output {
		if !slices.Contains(r.outputs, name) {
			return host.Setup{}, fmt.Errorf("the case expects output %q, the module has %s", name, strings.Join(r.outputs, ", "))
		}
	}
	assets := map[string][]byte{}
	for name, path := range r.c.Assets {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(r.c.File), filepath.FromSlash(path)))
		if err != nil {
			return host.Setup{}, fmt.Errorf("asset %s: %w", name, err)
		}
		assets[name] = b
	}
	return host.Setup{
		Deployment: "test", Inputs: []string{caseTopic}, Outputs: r.outputs,
		Config: deploy.Spec{Config: r.c.Config}.EffectiveConfig(m), Assets: assets,
	}, nil
}

// deployable checks config, assets and outputs of the case as those of a deployment.
func (r *run) deployable(report *module.Report) error {
	s := deploy.Spec{Name: "test", Module: report.Digest.String(), Inputs: []string{caseTopic}, Config: r.c.Config, Assets: map[string]string{}}
	for _, name := range r.outputs {
		s.Outputs = append(s.Outputs, deploy.Output{Name: name, Topic: "output"})
	}
	for name := range r.c.Assets {
		s.Assets[name] = report.Digest.String()
	}
	return s.WithDefaults(report.Manifest).Validate(report.Manifest)
}

func outputNames(m *module.Manifest) []string {
	if m == nil || len(m.Outputs) == 0 {
		return []string{"out"}
	}
	var names []string
	for _, o := range m.Outputs {
		names = append(names, o.Name)
	}
	return names
}

func (r *run) expectError(err error) {
	var refused *host.SetupError
	switch {
	case err == nil:
		r.failf("setup succeeded\n  want  an error that contains %q", r.c.Error)
	case !errors.As(err, &refused):
		r.failf("setup failed, but the guest did not refuse by itself\n  want  an error that contains %q\n  got   %v", r.c.Error, err)
	case !strings.Contains(refused.Message, r.c.Error):
		r.failf("setup failed with another message\n  want  …%q…\n  got   %q", r.c.Error, refused.Message)
	}
}

// output is a record as the guest put it out.
type output struct {
	Record
	input     int
	timestamp int64 // ms
}

// process runs the whole input as one batch; the result is by output index.
func (r *run) process(ctx context.Context, instance *host.Instance) ([][]output, []host.Reject, error) {
	got := make([][]output, len(r.outputs))
	if len(r.c.Input) == 0 {
		return got, nil, nil
	}
	var records []byte
	timestamps := make([]int64, len(r.c.Input))
	for i := range r.c.Input {
		records = abi.AppendRecord(records, r.record(i))
		timestamps[i] = r.timestamp(i)
	}
	area, err := instance.Input(ctx, len(records))
	if err != nil {
		return nil, nil, fmt.Errorf("the guest has no room for %d bytes of input: %w", len(records), err)
	}
	copy(area, records)
	result, err := instance.Process(ctx, host.Batch{
		Count: len(r.c.Input), SizeBytes: len(records), Now: r.now, Seed: seed, Timestamps: timestamps,
	})
	if n := instance.DroppedLines(); n > 0 {
		r.log(slog.LevelWarn, fmt.Sprintf("%d lines were dropped: a deployment's limit is %d in a second", n, host.DefaultLimits().LogLines))
	}
	if err != nil {
		return nil, nil, err
	}
	var o abi.Output
	for result.Outputs.Next(&o) {
		got[o.Index] = append(got[o.Index], newOutput(&o))
	}
	return got, slices.Clone(result.Rejects), nil
}

func (r *run) record(i int) *abi.Record {
	in := r.c.Input[i]
	rec := &abi.Record{Offset: int64(i), Timestamp: r.timestamp(i), Key: in.Key, Value: in.Value, HeaderCount: len(in.Headers)}
	for _, h := range in.Headers {
		rec.Headers = abi.AppendHeader(rec.Headers, h.Name, h.Value)
	}
	return rec
}

// timestamp is the event time of input i in ms.
func (r *run) timestamp(i int) int64 {
	if t := r.c.Input[i].Timestamp; t != nil {
		return t.UnixMilli()
	}
	return r.now.UnixMilli()
}

func newOutput(o *abi.Output) output {
	out := output{input: o.Input, timestamp: o.Timestamp}
	out.Key, out.Value = slices.Clone(o.Key), slices.Clone(o.Value)
	if o.Key != nil && out.Key == nil {
		out.Key = []byte{}
	}
	if o.Value != nil && out.Value == nil {
		out.Value = []byte{}
	}
	for rest := o.Headers; ; {
		name, value, next, ok := abi.NextHeader(rest)
		if !ok {
			return out
		}
		h := Header{Name: string(name)}
		if value != nil {
			h.Value = append([]byte{}, value...)
		}
		out.Headers = append(out.Headers, h)
		rest = next
	}
}
