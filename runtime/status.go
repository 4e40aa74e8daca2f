package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker"
)

// Phases of a deployment that should not run; the others are those of package worker.
const (
	PhasePaused   = "paused"
	PhaseDeleting = "deleting"
)

// Status is a deployment and how it does; package admin shows it as JSON.
// What is counted, this process has counted since it began.
type Status struct {
	Spec   deploy.Spec
	Phase  string
	Reason string         // unless all is well: what is wrong, and the fix
	Module *module.Report // nil: not known yet; where the module is compiled elsewhere, its digest and manifest only
	Counts
	// Process has counted: this one, as host-pid. "": one that this process has launched.
	Process    string
	Partitions map[engine.TopicPartition]PartitionStatus
	Members    []engine.GroupMember // of the consumer group, in all processes
	Replacing  int                  // partitions of this process that have not changed over to the newest version yet
	Hints      []string             // what to look at although it runs, with the command for it
	Unchanged  bool                 // Deploy: all was as asked for already
	// Remade are inputs that were deleted and made anew while this process worked on them, and when it found that.
	Remade map[string]time.Time
}

// Counts are what one process counted.
type Counts struct {
	Records, Outputs int64
	Rejected         int64 // records that got the error policy: rejected, trapped on, or with an output too large
	DeadLetters      int64
	Skipped          int64
	Retries          int64 // further tries of records on which the guest trapped
	Traps            int64
	Aborts           int64 // transactions dropped; what was in them was read again
	Restarts         int64 // instances replaced
	Commits          int64
}

// PartitionStatus is one input partition of a deployment.
type PartitionStatus struct {
	engine.Position
	Running bool // this process has a session for it
	// Begins is where the group begins if it has committed nothing; -1: not known.
	Begins int64
	// Owner is the process that has the partition, as host-pid, or a stranger's client id; "" = nobody.
	Owner string
	// Rate is how many records were committed per second lately; what follows is also known only where the partition runs.
	Rate   float64
	Worker *worker.PartitionSnapshot // nil: it does not run in this process
}

// Lag is how many offsets the group is behind the end of the partition; a
// group that has committed nothing is behind by what it begins with, as far as that is known.
func (p PartitionStatus) Lag(s deploy.Spec) int64 {
	from := p.Committed
	switch {
	case from >= 0:
	case p.Begins > p.LogEnd: // it is another topic by now
		from = p.LogStart
	case p.Begins >= 0:
		from = p.Begins
	case s.Start == "earliest":
		from = p.LogStart
	default:
		from = p.LogEnd
	}
	return max(0, p.LogEnd-max(from, p.LogStart))
}

// Status tells how a deployment does; what this process has no right to look up is left out, and a hint says so.
// Errors: deploy.ErrNotFound, the engine's.
func (r *Runtime) Status(ctx context.Context, name string) (Status, error) {
	d, err := r.find(ctx, name)
	if err != nil {
		return Status{}, err
	}
	s, err := r.status(ctx, d)
	lag := err == nil
	if lag {
		if s.Members, err = r.engine.Members(ctx, deploy.GroupName(name)); err != nil {
			err = fmt.Errorf("members of deployment %q: %w", name, err)
		}
	}
	if errors.Is(err, engine.ErrNotAllowed) {
		known := s
		known.Partitions = nil // nobody can tell who has them
		if !lag {
			s.Partitions = nil // offsets of 0 would look like known ones
		}
		s.Hints = append(hints(known), "not all is shown: "+err.Error())
		return s, nil
	}
	if err != nil {
		return s, err
	}
	for _, m := range s.Members {
		for _, tp := range m.Partitions {
			if p, ok := s.Partitions[tp]; ok {
				p.Owner = strings.TrimPrefix(m.Client, clientPrefix(name))
				s.Partitions[tp] = p
			}
		}
	}
	s.Hints = hints(s)
	return s, nil
}

// hints tells what deserves a look although the deployment runs.
func hints(s Status) []string {
	name := s.Spec.Name
	var list []string
	hint := func(when bool, format string, args ...any) {
		if when {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	orphans, behind := 0, int64(0)
	for _, p := range s.Partitions {
		if p.Owner == "" {
			orphans++
			behind += p.Lag(s.Spec)
		}
	}
	hint(s.Spec.State == deploy.Running && s.Phase != worker.PhaseStarting && s.Phase != worker.PhaseFailed && orphans > 0,
		"nobody works on %d of %s, with a lag of %d: the group is being dealt out anew, or `millstream group describe %s` tells why", orphans, things(int64(len(s.Partitions)), "partition"), behind, name)
	hint(s.Replacing > 0, "%s still to change over to version %d, at the end of a transaction", things(int64(s.Replacing), "partition"), s.Spec.Version)
	hint(s.DeadLetters > 0, "failed and put into %[2]s: %[1]s; `millstream dlq list %[3]s` shows why", things(s.DeadLetters, "record"), deploy.DeadLetterTopic(name), name)
	for _, input := range slices.Sorted(maps.Keys(s.Remade)) {
		hint(true, "input topic %q was deleted and made anew; that was noticed at %s, and the new one is read from its beginning", input, s.Remade[input].UTC().Format(time.RFC3339))
	}
	hint(s.Skipped > 0, "failed and dropped, as the error policy says: %s; with --on-error dead-letter they would be kept", things(s.Skipped, "record"))
	hint(s.Traps > 0, "calls of the module that were stopped: %d; `millstream logs %s --level warn` tells where", s.Traps, name)
	hint(s.Aborts > 0, "dropped, and their records read again: %s", things(s.Aborts, "transaction"))
	return list
}

func things(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// List tells how all deployments do, by name. An engine that cannot tell the
// positions of one leaves its partitions out and says so in its reason.
func (r *Runtime) List(ctx context.Context) ([]Status, error) {
	list := make([]Status, 0)
	for _, d := range r.all() {
		if _, ok := r.catalog.Deployment(d.name); !ok && !d.stored() {
			continue // its Deploy is under way
		}
		s, err := r.status(ctx, d)
		if err != nil {
			s.Partitions, s.Reason = nil, cmp.Or(s.Reason, err.Error())
		}
		list = append(list, s)
	}
	return list, ctx.Err()
}

// status returns what is known even with an error.
func (r *Runtime) status(ctx context.Context, d *deployment) (Status, error) {
	s := r.local(d)
	if len(s.Spec.Inputs) == 0 { // its record in the catalog cannot be read
		return s, nil
	}
	positions, err := r.engine.Lag(ctx, deploy.GroupName(d.name), s.Spec.Inputs)
	if err != nil {
		return s, fmt.Errorf("positions of deployment %q: %w", d.name, err)
	}
	if s.Spec.State == deploy.Running && s.Phase != worker.PhaseFailed {
		if missing := missingInput(s.Spec.Inputs, positions); missing != "" {
			s.Phase = worker.PhaseRetrying
			s.Reason = fmt.Sprintf("input topic %q does not exist any more: create it with `millstream topic create %s`, or delete the deployment", missing, missing)
		}
	}
	here := s.Partitions
	s.Partitions = make(map[engine.TopicPartition]PartitionStatus, len(positions))
	for tp, position := range positions {
		p := here[tp]
		p.Position, p.Begins = position, begins(s.Spec, tp, position)
		s.Partitions[tp] = p
	}
	return s, nil
}

// begins is where the group of s begins in a partition if it has committed nothing; -1: not known.
func begins(s deploy.Spec, tp engine.TopicPartition, position engine.Position) int64 {
	found, ok := s.Starts[tp.Topic]
	start, err := startOf(s)
	if !ok || err != nil {
		return -1
	}
	switch at := engine.TopicStart(found).Of(tp.Partition, found.ID, start); at.Kind {
	case engine.StartOffset:
		return at.Offset
	case engine.StartEarliest:
		return position.LogStart
	}
	return -1
}

// local is what this process knows, or the one that it has launched.
func (r *Runtime) local(d *deployment) Status {
	spec, report, w, _ := d.snapshot()
	stats := d.stats
	s := Status{Spec: spec, Module: report, Partitions: map[engine.TopicPartition]PartitionStatus{}, Counts: Counts{
		Records: stats.RecordsIn.Load(), Outputs: stats.RecordsOut.Load(), Rejected: stats.Failed(),
		DeadLetters: stats.DeadLetters.Load(), Skipped: stats.Skipped.Load(), Retries: stats.RecordRetries.Load(),
		Traps: stats.Traps.Load(), Aborts: stats.Aborts.Load(), Restarts: stats.Restarts.Load(), Commits: stats.Commits.Load(),
	}}
	s.Phase, s.Reason = d.phase()
	if r.launcher == nil {
		s.Process = processName()
	}
	switch {
	case r.launcher != nil:
		r.launched(d, &s)
	case w != nil:
		snapshot := w.Snapshot()
		s.Replacing, s.Remade = snapshot.Replacing, snapshot.Remade
		if s.Phase == worker.PhaseRunning {
			s.Reason = snapshot.Notice
		}
		rates := d.rates.of(snapshot.Partitions, time.Now())
		for i, p := range snapshot.Partitions {
			s.Partitions[p.TopicPartition] = PartitionStatus{Running: true, Worker: &snapshot.Partitions[i], Rate: rates[p.TopicPartition]}
		}
	}
	s.Reason = advise(s)
	return s
}

// launched fills in what the deployment's own process tells.
func (r *Runtime) launched(d *deployment, s *Status) {
	if s.Spec.State != deploy.Running || s.Phase == worker.PhaseFailed {
		return
	}
	l := r.launcher.Status(d.name)
	s.Phase, s.Reason = cmp.Or(l.Phase, worker.PhaseStarting), l.Reason
	s.Counts, s.Replacing = l.Counts, l.Replacing
	maps.Copy(s.Partitions, l.Owned)
}

// advise completes a reason with the way out, where it does not name one.
func advise(s Status) string {
	name := s.Spec.Name
	switch {
	case s.Phase == worker.PhaseFailed && s.Reason != "" && !strings.Contains(s.Reason, "`millstream") && !strings.Contains(s.Reason, "deploy it again"):
		fix := fmt.Sprintf("`millstream logs %s` tells more; when the cause is gone, `millstream resume %s` goes on", name, name)
		if s.Spec.Version > 1 {
			fix += fmt.Sprintf(", and `millstream rollback %s` goes back to the version before", name)
		}
		return s.Reason + " (" + fix + ")"
	case s.Phase == PhasePaused && s.Reason == "":
		return fmt.Sprintf("it is paused: `millstream resume %s` goes on", name)
	case s.Phase == worker.PhaseCompleted && s.Reason == "":
		return fmt.Sprintf("its bounded run has come to its end: `millstream resume %s` runs it again, to a new one", name)
	}
	return s.Reason
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
	case spec.State == deploy.Deleting && failure != nil:
		return PhaseDeleting, failure.Error()
	case spec.State == deploy.Deleting:
		return PhaseDeleting, "it is stopped, and goes when its consumer group is empty"
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
