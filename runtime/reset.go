package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
)

// ResetOptions go with Reset.
type ResetOptions struct {
	// To is a position as deploy.ParseStart reads it; how long ago counts from now.
	To string
	// Partitions are the numbers of those that are reset, of every input; none = all.
	Partitions []int32
	// DryRun only tells what would be set.
	DryRun bool
}

// OffsetChange is where a deployment goes on in one partition.
type OffsetChange struct {
	engine.TopicPartition
	From int64 // -1: nothing was committed
	To   int64
}

// Reset sets where a deployment that does not run goes on reading. Errors: deploy.ErrNotFound,
// ErrInvalid and ErrActive, engine.ErrUnknownTopic, the engine's.
func (r *Runtime) Reset(ctx context.Context, name string, o ResetOptions) ([]OffsetChange, error) {
	start, err := deploy.ParseStart(o.To, time.Now())
	if err != nil || o.To == "" {
		return nil, fmt.Errorf("%w: position %q: use earliest, latest, an offset (42), a time (2026-01-31T12:00:00Z) or how long ago (90m, 36h, 7d)", deploy.ErrInvalid, o.To)
	}
	d, err := r.take(ctx, name)
	if err != nil {
		return nil, err
	}
	defer d.unlock()
	if err := r.catalog.Refresh(ctx); err != nil {
		return nil, err
	}
	stored, exists := r.catalog.Deployment(name)
	if err := changeable(name, stored, exists); err != nil {
		return nil, err
	}
	if stored.Spec.State == deploy.Running && !o.DryRun {
		return nil, fmt.Errorf("%w, and its workers know their place better: pause it first: `millstream pause %s`, and `millstream resume %s` afterwards", deploy.ErrActive, name, name)
	}
	changes, err := r.offsetChanges(ctx, stored.Spec, engineStart(start), o.Partitions)
	if err != nil || o.DryRun {
		return changes, err
	}
	offsets := make(map[engine.TopicPartition]int64, len(changes))
	for _, c := range changes {
		offsets[c.TopicPartition] = c.To
	}
	if err := r.awaitEmpty(ctx, name); err != nil {
		return nil, err
	}
	err = r.engine.SetOffsets(ctx, deploy.GroupName(name), offsets)
	if errors.Is(err, engine.ErrGroupActive) {
		return nil, fmt.Errorf("%w: its consumer group still has members, in another process or of another program: `millstream group describe %s` shows them; try again when they have left: %w", deploy.ErrActive, name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("set the offsets of deployment %q: %w", name, err)
	}
	return changes, nil
}

// offsetChanges finds what would be set, by topic and partition.
func (r *Runtime) offsetChanges(ctx context.Context, s deploy.Spec, to engine.Start, partitions []int32) ([]OffsetChange, error) {
	targets, err := r.engine.OffsetsAt(ctx, s.Inputs, to)
	if err != nil {
		return nil, fmt.Errorf("look up positions for deployment %q: %w", s.Name, err)
	}
	positions, err := r.engine.Lag(ctx, deploy.GroupName(s.Name), s.Inputs)
	if err != nil {
		return nil, fmt.Errorf("positions of deployment %q: %w", s.Name, err)
	}
	if missing := missingInput(s.Inputs, positions); missing != "" {
		return nil, fmt.Errorf("%w: input %q", engine.ErrUnknownTopic, missing)
	}
	var changes []OffsetChange
	found := map[int32]bool{}
	for tp, offset := range targets {
		if len(partitions) > 0 && !slices.Contains(partitions, tp.Partition) {
			continue
		}
		found[tp.Partition] = true
		from := int64(-1)
		if p, ok := positions[tp]; ok {
			from = p.Committed
		}
		changes = append(changes, OffsetChange{TopicPartition: tp, From: from, To: offset})
	}
	for _, p := range partitions {
		if !found[p] {
			return nil, fmt.Errorf("%w: the inputs of deployment %q have no partition %d", deploy.ErrInvalid, s.Name, p)
		}
	}
	slices.SortFunc(changes, func(a, b OffsetChange) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return changes, nil
}
