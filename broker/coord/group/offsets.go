package group

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Commit stores offsets and returns once they are durable. It is all or nothing.
func (c *Coordinator) Commit(ctx context.Context, id Identity, offsets map[TopicPartition]Offset) error {
	shard, end, err := c.commit(id, offsets)
	if err != nil {
		return err
	}
	return c.journal.waitDurable(ctx, shard, end)
}

// CommitAsync stores offsets and returns without waiting for the fsync. Without
// an error done, if not nil, is called once, from another goroutine, when the offsets
// are durable or cannot become so; with an error it is not called.
func (c *Coordinator) CommitAsync(_ context.Context, id Identity, offsets map[TopicPartition]Offset, done func(error)) error {
	shard, end, err := c.commit(id, offsets)
	if err != nil || done == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.background.Go(func() { done(c.journal.waitDurable(context.Background(), shard, end)) })
	return nil
}

// commit writes and applies offsets and returns what has to become durable.
func (c *Coordinator) commit(id Identity, offsets map[TopicPartition]Offset) (shard int, end int64, err error) {
	entries := make([]entry, 0, len(offsets))
	now := time.Now()
	for tp, o := range offsets {
		if len(o.Metadata) > MaxMetadataBytes {
			return 0, 0, fmt.Errorf("%w: %d bytes for %s-%d, at most %d are allowed", ErrMetadataTooLarge,
				len(o.Metadata), tp.Topic, tp.Partition, MaxMetadataBytes)
		}
		if o.CommitTime.IsZero() {
			o.CommitTime = now
		}
		entries = append(entries, offsetEntry(id.Group, tp, o))
	}
	plain := id.Generation < 0
	err = c.with(id.Group, plain, func(g *anyGroup) error {
		defer g.buryIfUnused()
		if err := g.checkCommit(id); err != nil {
			return err
		}
		if err := g.roomForOffsets(entries); err != nil {
			return err
		}
		if err := g.write(entries...); err != nil {
			return err
		}
		shard, end = g.shard, g.appended
		return nil
	})
	if errors.Is(err, ErrUnknownMember) && !plain {
		if g, lookupErr := c.lookup(id.Group, false); lookupErr == nil && g == nil {
			return 0, 0, fmt.Errorf("%w: %d: %w: %q", ErrIllegalGeneration, id.Generation, ErrGroupNotFound, id.Group)
		}
	}
	return shard, end, err
}

// checkCommit says whether the caller may commit now. Members may until the next
// generation is formed; a plain client only while the group is empty.
func (g *anyGroup) checkCommit(id Identity) error {
	if id.Generation < 0 && g.vacant() {
		return nil
	}
	if g.consumer != nil {
		return g.modern().checkEpoch(id)
	}
	if id.Generation < 0 && id.MemberID == "" && id.InstanceID == "" {
		return fmt.Errorf("%w: group %q is %v, only its members may commit", ErrUnknownMember, g.id, g.state)
	}
	m, err := g.find(id.MemberID, id.InstanceID)
	if err != nil {
		return err
	}
	if err := g.checkGeneration(id.Generation); err != nil {
		return err
	}
	if g.state == StateCompletingRebalance {
		return fmt.Errorf("%w: group %q", ErrRebalanceInProgress, g.id)
	}
	if m.joining == nil && m.syncing == nil {
		g.touch(m)
	}
	return nil
}

// Keep commits the offsets of a group without members once more, so that their retention begins anew; durable
// on return. Nothing changes in between, and nothing is done while a transaction holds offsets, which keep the others.
func (c *Coordinator) Keep(ctx context.Context, group string) error {
	var shard int
	var end int64
	err := c.with(group, false, func(g *anyGroup) error {
		if !g.vacant() || len(g.held) > 0 {
			return nil
		}
		now := time.Now()
		entries := make([]entry, 0, len(g.offsets))
		for tp, o := range g.offsets {
			o.CommitTime = now
			entries = append(entries, offsetEntry(group, tp, o))
		}
		err := g.write(entries...)
		shard, end = g.shard, g.appended
		return err
	})
	if err != nil || end == 0 {
		return err
	}
	return c.journal.waitDurable(ctx, shard, end)
}

// Offsets returns what is committed and durable; partitions without an offset are
// absent, and a group nobody has heard of has committed nothing. nil partitions = all.
func (c *Coordinator) Offsets(ctx context.Context, group string, partitions []TopicPartition) (map[TopicPartition]Offset, error) {
	g, err := c.lookup(group, false)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return map[TopicPartition]Offset{}, nil
	}
	found := map[TopicPartition]Offset{}
	g.mu.Lock()
	if partitions == nil {
		for tp, o := range g.offsets {
			found[tp] = o
		}
	}
	for _, tp := range partitions {
		if o, ok := g.offsets[tp]; ok {
			found[tp] = o
		}
	}
	end := g.appended
	g.mu.Unlock()
	// An offset that a power cut could take back must not be built upon.
	if err := c.journal.waitDurable(ctx, g.shard, end); err != nil {
		return nil, err
	}
	return found, nil
}
