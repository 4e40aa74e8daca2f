package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
)

// What a Deploy would do.
const (
	ActionCreate  = "create"  // a new deployment begins
	ActionSwap    = "swap"    // the new version goes on at the next end of a transaction, within the group
	ActionRestart = "restart" // the old version leaves the group, the new one begins at its committed offsets
	ActionStore   = "store"   // the deployment does not run and stays so; resume starts the new version
	ActionNothing = "nothing" // it is what is stored already
)

// Plan is what a Deploy would do.
type Plan struct {
	Action       string
	Before       *deploy.Spec // nil: a new deployment
	After        deploy.Spec
	Changes      []deploy.Change
	CreateTopics []string
	Module       *module.Report
}

// Plan tells what Deploy would do with the same arguments, having proved that the module
// starts, and changes nothing. Module and assets need only have been tried (TryModule, TryAsset). Errors are those of Deploy.
func (r *Runtime) Plan(ctx context.Context, s deploy.Spec, o DeployOptions) (Plan, error) {
	p, err := r.propose(ctx, s, o)
	if err != nil {
		return Plan{}, err
	}
	prepared, err := r.prepare(ctx, p.next, r.metrics.NewStats(""))
	if err != nil {
		return Plan{}, p.explain(err)
	}
	plan := Plan{Action: p.action(), After: p.next, Changes: p.changes, CreateTopics: p.missing, Module: prepared.report}
	if p.exists {
		before := p.before
		plan.Before = &before
	}
	switch d, err := r.lookup(s.Name); {
	case plan.Action == ActionNothing:
		plan.After = p.before
	case plan.Action == ActionSwap && r.launcher == nil && err == nil && !d.works():
		plan.Action = ActionRestart // it has failed
	}
	return plan, prepared.discard(ctx)
}

// proposal is a version that may be deployed, resting on the version that it replaces.
type proposal struct {
	before     deploy.Spec
	exists     bool
	next       deploy.Spec
	changes    []deploy.Change
	missing    []string // topics to be created
	partitions int
}

// propose completes and validates s against its module, its topics and what is stored.
func (r *Runtime) propose(ctx context.Context, s deploy.Spec, o DeployOptions) (*proposal, error) {
	if err := deploy.CheckName(s.Name); err != nil {
		return nil, err
	}
	if !r.concerns(s.Name) {
		return nil, fmt.Errorf("%w: this process runs only %q", deploy.ErrInvalid, r.only)
	}
	if err := r.catalog.Refresh(ctx); err != nil {
		return nil, err
	}
	report, err := r.reportOf(ctx, s)
	if err != nil {
		return nil, err
	}
	stored, exists := r.catalog.Deployment(s.Name)
	switch {
	case exists && o.New:
		return nil, fmt.Errorf("%w: %q is at version %d: without --new this would make the next one", deploy.ErrExists, s.Name, stored.Spec.Version)
	case exists && stored.Spec.State == deploy.Deleting:
		return nil, beingDeleted(s.Name)
	case exists && stored.Err != nil:
		return nil, fmt.Errorf("%w: %q cannot be read from the catalog: delete it and deploy it again: %w", deploy.ErrExists, s.Name, stored.Err)
	}
	p := &proposal{before: stored.Spec, exists: exists, next: s.After(stored.Spec, time.Now().UTC()).WithDefaults(report.Manifest)}
	if err := p.next.Validate(report.Manifest); err != nil {
		return nil, err
	}
	if exists {
		p.changes = deploy.Diff(p.before, p.next)
	}
	if err := p.next.CheckCycle(r.catalog.Others(s.Name)); err != nil {
		return nil, err
	}
	if err := r.lookUpTopics(ctx, p, o); err != nil {
		return nil, err
	}
	if !exists {
		if err := r.checkGroup(ctx, p.next); err != nil {
			return nil, r.unlessTaken(ctx, p, err)
		}
	}
	return p, nil
}

// unlessTaken returns why the group of a new deployment cannot be used: perhaps because somebody has deployed the name just now.
func (r *reconciler) unlessTaken(ctx context.Context, p *proposal, err error) error {
	if refreshed := r.catalog.Refresh(ctx); refreshed != nil {
		return errors.Join(err, refreshed)
	}
	if stored, exists := r.catalog.Deployment(p.next.Name); exists {
		_, err = p.decide(stored, exists, nil)
	}
	return err
}

// lookUpTopics finds out which topics are missing.
func (r *Runtime) lookUpTopics(ctx context.Context, p *proposal, o DeployOptions) error {
	existing, err := r.engine.Topics(ctx, p.next.Topics())
	if err != nil {
		return fmt.Errorf("look up topics: %w", err)
	}
	if !o.CreateTopics {
		return p.next.CheckTopics(existing)
	}
	p.partitions = o.Partitions
	if p.partitions <= 0 {
		p.partitions = existing[p.next.Inputs[0]]
	}
	for _, name := range p.next.Topics() {
		if _, ok := existing[name]; !ok {
			p.missing = append(p.missing, name)
		}
	}
	return nil
}

// action is what it takes to get from the version before to the next one.
func (p *proposal) action() string {
	switch {
	case p.exists && len(p.changes) == 0 && p.next.State == p.before.State:
		return ActionNothing
	case p.next.State != deploy.Running:
		return ActionStore
	case !p.exists:
		return ActionCreate
	case p.before.State == deploy.Running && p.next.Swaps(p.before):
		return ActionSwap
	}
	return ActionRestart
}

// decide is the change of the catalog: the proposal, as long as it rests on what is stored.
func (p *proposal) decide(before catalog.Deployment, exists bool, others []deploy.Spec) (*deploy.Spec, error) {
	switch {
	case exists && !p.exists:
		return nil, fmt.Errorf("%w: somebody else has deployed %q just now (version %d%s): `millstream status %s` shows it; deploy again to replace it",
			deploy.ErrConflict, p.next.Name, before.Spec.Version, by(before.Spec), p.next.Name)
	case p.exists && (!exists || !before.Spec.Created.Equal(p.before.Created)):
		return nil, fmt.Errorf("%w: somebody else has deleted %q: deploy again to make it anew", deploy.ErrConflict, p.next.Name)
	case exists && (before.Err != nil || before.Spec.Version != p.before.Version):
		return nil, fmt.Errorf("%w: %q was at version %d when this began, and is at version %d now%s: `millstream history %s` shows what changed; deploy again to replace it",
			deploy.ErrConflict, p.next.Name, p.before.Version, before.Spec.Version, by(before.Spec), p.next.Name)
	}
	if exists && before.Spec.State == deploy.Deleting {
		return nil, beingDeleted(p.next.Name)
	}
	if err := p.next.CheckCycle(others); err != nil {
		return nil, err
	}
	next := p.next
	next.Ends = nil
	if exists && next.SameRun(before.Spec) {
		next.Ends = before.Spec.Ends
	}
	if exists && before.Spec.State != p.before.State {
		next.State = before.Spec.AfterState() // paused or resumed meanwhile
	}
	return &next, nil
}

func by(s deploy.Spec) string {
	if s.By == "" {
		return ""
	}
	return ", by " + s.By
}

// explain says what became of the version before when the next one does not start.
func (p *proposal) explain(err error) error {
	if !p.exists {
		return err
	}
	state := "keeps running"
	if p.before.State != deploy.Running {
		state = "is still " + p.before.State
	}
	return fmt.Errorf("version %d was not deployed, version %d %s: %w", p.next.Version, p.before.Version, state, err)
}

// event is what the deployment's log is told.
func (p *proposal) event() string {
	what := make([]string, len(p.changes))
	for i, c := range p.changes {
		what[i] = c.Field
	}
	text := fmt.Sprintf("version %d is deployed%s", p.next.Version, by(p.next))
	if p.next.Rollback != 0 {
		text += fmt.Sprintf(", a rollback to version %d", p.next.Rollback)
	}
	if len(what) > 0 {
		text += "; changed: " + strings.Join(what, ", ")
	}
	return text
}

// TryModule checks and compiles a module for Plan, without storing it. Errors are those of PutModule.
func (r *Runtime) TryModule(ctx context.Context, wasm []byte) (*module.Report, error) {
	p, err := r.compiler.Compile(ctx, wasm, host.Limits{})
	if err != nil {
		return nil, err
	}
	r.tried.put(wasm)
	return p.Report(), p.Close(ctx)
}

// TryAsset takes a file for Plan, without storing it.
func (r *Runtime) TryAsset(b []byte) module.Digest { return r.tried.put(b) }
