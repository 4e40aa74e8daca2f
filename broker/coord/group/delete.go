package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Delete forgets a group without members and all its offsets; durable on return.
func (c *Coordinator) Delete(ctx context.Context, group string) error {
	var shard int
	var end int64
	err := c.with(group, false, func(g *anyGroup) error {
		if !g.vacant() {
			return g.modern().occupied()
		}
		if err := g.write(g.tombstones()...); err != nil {
			return err
		}
		shard, end = g.shard, g.appended
		g.bury()
		return nil
	})
	if errors.Is(err, ErrUnknownMember) {
		return fmt.Errorf("%w: %q", ErrGroupNotFound, group)
	}
	if err != nil {
		return err
	}
	return c.journal.waitDurable(ctx, shard, end)
}

// DeleteOffsets removes the offsets of partitions; durable on return. Offsets of
// topics that the group is subscribed to stay, with ErrSubscribedTopic in the
// result; every other partition has a nil error there, also one without an offset.
func (c *Coordinator) DeleteOffsets(ctx context.Context, group string, partitions []TopicPartition) (map[TopicPartition]error, error) {
	result := make(map[TopicPartition]error, len(partitions))
	var shard int
	var end int64
	err := c.with(group, false, func(g *anyGroup) error {
		subscribed, known := g.modern().readTopics()
		if !g.vacant() && !known {
			return g.modern().occupied()
		}
		var entries []entry
		for _, tp := range partitions {
			result[tp] = nil
			if subscribed[tp.Topic] {
				result[tp] = fmt.Errorf("%w: group %q, topic %q", ErrSubscribedTopic, group, tp.Topic)
			} else if _, ok := g.offsets[tp]; ok {
				entries = append(entries, offsetTombstone(group, tp))
			}
		}
		err := g.write(entries...)
		shard, end = g.shard, g.appended
		return err
	})
	if errors.Is(err, ErrUnknownMember) {
		return nil, fmt.Errorf("%w: %q", ErrGroupNotFound, group)
	}
	if err != nil {
		return nil, err
	}
	return result, c.journal.waitDurable(ctx, shard, end)
}

// ForgetTopic drops the offsets of a deleted topic, in all groups; durable on return.
func (c *Coordinator) ForgetTopic(ctx context.Context, name string) error {
	ends := map[int]int64{}
	for _, g := range c.all() {
		err := c.with(g.id, false, func(g *anyGroup) error {
			var entries []entry
			for tp := range g.offsets {
				if tp.Topic == name {
					entries = append(entries, offsetTombstone(g.id, tp))
				}
			}
			for tp := range g.held.partitions() {
				if _, ok := g.offsets[tp]; !ok && tp.Topic == name {
					entries = append(entries, offsetTombstone(g.id, tp))
				}
			}
			if err := g.write(entries...); err != nil {
				return err
			}
			if len(entries) > 0 {
				ends[g.shard] = max(ends[g.shard], g.appended)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrUnknownMember) { // gone meanwhile
			return fmt.Errorf("forget the offsets of topic %q: %w", name, err)
		}
	}
	for shard, end := range ends {
		if err := c.journal.waitDurable(ctx, shard, end); err != nil {
			return fmt.Errorf("forget the offsets of topic %q: %w", name, err)
		}
	}
	return nil
}

// expireLoop looks for expired offsets from time to time.
func (c *Coordinator) expireLoop() {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
			c.expire(time.Now())
		}
	}
}

func (c *Coordinator) expire(now time.Time) {
	for _, g := range c.all() {
		err := c.with(g.id, false, func(g *anyGroup) error { return g.expire(now) })
		if err != nil && !errors.Is(err, ErrUnknownMember) && !errors.Is(err, ErrClosed) {
			c.log.Warn("offsets could not be expired", slog.String("group", g.id), slog.Any("error", err))
		}
	}
}

// expire removes the offsets that have outlived the retention (KIP-211): those of an
// empty group count from when it became empty, those of plain consumers, and of
// topics a group is no longer subscribed to, from their commit.
func (g *anyGroup) expire(now time.Time) error {
	subscribed, known := g.modern().readTopics()
	if !known {
		return nil
	}
	var entries []entry
	for tp, o := range g.offsets {
		since := o.CommitTime
		if g.vacant() && g.emptySince.After(since) {
			since = g.emptySince
		}
		if !subscribed[tp.Topic] && !g.held.has(tp) && now.Sub(since) >= g.c.offsetsRetention {
			entries = append(entries, offsetTombstone(g.id, tp))
		}
	}
	if g.vacant() && len(g.pending) == 0 && len(g.held) == 0 && len(entries) == len(g.offsets) {
		if now.Sub(g.emptySince) < g.c.offsetsRetention {
			return g.write(entries...)
		}
		if err := g.write(g.tombstones()...); err != nil {
			return err
		}
		g.bury()
		return nil
	}
	return g.write(entries...)
}
