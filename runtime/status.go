package runtime

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

// PhasePaused is the phase of a deployment that should not run; the others are those of package worker.
const PhasePaused = "paused"

// Status is a deployment and how it does; package admin shows it as JSON.
type Status struct {
	Spec       deploy.Spec
	Phase      string
	Reason     string
	Module     *module.Report // nil until it was compiled in this process
	Records    int64
	Outputs    int64
	Rejected   int64 // records that got the error policy: rejected, trapped on, or with an output too large
	Restarts   int64
	Partitions map[engine.TopicPartition]PartitionStatus
	Unchanged  bool // Deploy: all was as asked for already
}

// PartitionStatus is one input partition of a deployment.
type PartitionStatus struct {
	engine.Position
	Running bool // this process has a session for it
}

// Lag is how many offsets the group is behind the end of the partition; a
// group that has committed nothing is behind by the whole log when it starts at its beginning, else by nothing that is known.
func (p PartitionStatus) Lag(s deploy.Spec) int64 {
	from := p.Committed
	if from < 0 {
		from = p.LogEnd
		if s.Start == "earliest" {
			from = p.LogStart
		}
	}
	return max(0, p.LogEnd-max(from, p.LogStart))
}

// Status tells how a deployment does. Errors: deploy.ErrNotFound, the engine's.
func (r *Runtime) Status(ctx context.Context, name string) (Status, error) {
	d, err := r.lookup(name)
	if err != nil {
		return Status{}, err
	}
	return r.status(ctx, d)
}

// List tells how all deployments do, by name. An engine that cannot tell the
// positions of one leaves its partitions out and says so in its reason.
func (r *Runtime) List(ctx context.Context) ([]Status, error) {
	list := make([]Status, 0)
	for _, d := range r.all() {
		s, err := r.status(ctx, d)
		if err != nil && s.Reason == "" {
			s.Reason = err.Error()
		}
		list = append(list, s)
	}
	return list, ctx.Err()
}

// status returns what is known even with an error.
func (r *Runtime) status(ctx context.Context, d *deployment) (Status, error) {
	spec, report, w, _ := d.snapshot()
	s := Status{
		Spec: spec, Module: report,
		Records: d.stats.RecordsIn.Load(), Outputs: d.stats.RecordsOut.Load(),
		Rejected: d.stats.Failed(), Restarts: d.stats.Restarts.Load(),
	}
	s.Phase, s.Reason = d.phase()
	if len(spec.Inputs) == 0 { // its record in the catalog cannot be read
		return s, nil
	}
	positions, err := r.engine.Lag(ctx, deploy.GroupName(d.name), spec.Inputs)
	if err != nil {
		return s, fmt.Errorf("positions of deployment %q: %w", d.name, err)
	}
	if s.Phase != worker.PhaseFailed && s.Phase != PhasePaused {
		if missing := missingInput(spec.Inputs, positions); missing != "" {
			s.Phase = worker.PhaseRetrying
			s.Reason = fmt.Sprintf("input topic %q does not exist any more: create it with `millstream topic create %s`, or delete the deployment", missing, missing)
		}
	}
	s.Partitions = make(map[engine.TopicPartition]PartitionStatus, len(positions))
	for tp, position := range positions {
		s.Partitions[tp] = PartitionStatus{Position: position, Running: w != nil && w.Owns(tp)}
	}
	return s, nil
}

// missingInput returns the first input without a partition, or "".
func missingInput(inputs []string, positions map[engine.TopicPartition]engine.Position) string {
	found := make(map[string]bool, len(inputs))
	for tp := range positions {
		found[tp.Topic] = true
	}
	for _, input := range inputs {
		if !found[input] {
			return input
		}
	}
	return ""
}

func (d *deployment) phase() (phase, reason string) {
	spec, _, w, failure := d.snapshot()
	switch {
	case failure != nil:
		return worker.PhaseFailed, failure.Error()
	case spec.State == deploy.Paused:
		return PhasePaused, ""
	case spec.State == deploy.Completed:
		return worker.PhaseCompleted, ""
	case w == nil:
		return worker.PhaseStarting, ""
	}
	return w.Phase()
}
