package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// transactional is what a session with exactly-once delivery has beside the
// others: its producer, and what has to survive a power cut before the next
// decision to commit, lest that one survives and they do not.
type transactional struct {
	*transaction
	group   txn.Partition // of the offsets topic, that the group is in
	offsets *topic.Partition
	flusher *flusher
}

// commitTransaction writes what is left, then the offset, waits for the disk, and only then decides.
func (s *session) commitTransaction(ctx context.Context, next int64) error {
	t := s.txn
	if t.lost {
		return s.refusal(ctx, engine.ErrAborted)
	}
	if !t.open && len(s.outputs.dirty) == 0 {
		return s.commitOffset(ctx, next)
	}
	err := s.outputs.write(ctx)
	if err == nil {
		err = s.addOffset(ctx, next)
	}
	if err == nil {
		t.flusher.written.add(s.partition, min(next, s.partition.Offsets().LogEnd))
		t.flusher.written.add(t.offsets, t.offsets.Offsets().LogEnd)
		for p, end := range t.writer.Marked() {
			t.flusher.written.add(p, end)
		}
		err = t.flusher.wait(ctx)
	}
	if err == nil {
		err = t.end(ctx, true)
	}
	if err != nil {
		return s.refusal(ctx, err)
	}
	t.flusher.reset()
	return nil
}

// addOffset makes the offset part of the transaction, in the name of the member's present generation.
func (s *session) addOffset(ctx context.Context, next int64) error {
	t := s.txn
	if err := t.add(t.group); err != nil {
		return err
	}
	offsets := offsetEntry(s.tp, next)
	return s.m.asMember(ctx, s, func(id group.Identity) error {
		return t.note(t.writer.Within(t.group, func() error {
			p := t.writer.Producer()
			_, err := s.m.e.groups.CommitInTransaction(id, p.ID, p.Epoch, offsets)
			if err == nil && s.partition.Deleted() { // later, whoever deletes it finds the offset
				err = inputDeleted(s.tp.Topic)
			}
			return err
		}))
	})
}

// commitOffset commits an offset without outputs. Nobody takes the partition
// over between the check and the write, so that a new owner finds the offset, or this one is refused.
func (s *session) commitOffset(ctx context.Context, next int64) error {
	t := s.txn
	inputs := end{partition: s.partition, offset: min(next, s.partition.Offsets().LogEnd)}
	if err := inputs.wait(ctx); err != nil {
		return explain(err)
	}
	durable := make(chan error, 1)
	offsets := offsetEntry(s.tp, next)
	err := s.m.asMember(ctx, s, func(id group.Identity) error {
		return t.note(t.writer.While(func() error {
			return s.commitAsync(ctx, id, offsets, func(err error) { durable <- err })
		}))
	})
	if err == nil {
		err = <-durable
	} else {
		err = s.m.takeBack(ctx, s.tp.Topic, err)
	}
	if err != nil {
		return s.refusal(ctx, err)
	}
	return nil
}

func inputDeleted(name string) error {
	return fmt.Errorf("%w: input %q was deleted", engine.ErrUnknownTopic, name)
}

// commitAsync commits offsets outside of transactions. With ErrUnknownTopic it did so behind the deletion of the topic: see takeBack.
func (s *session) commitAsync(ctx context.Context, id group.Identity, offsets map[group.TopicPartition]group.Offset, done func(error)) error {
	err := s.m.e.groups.CommitAsync(ctx, id, offsets, done)
	if err == nil && s.partition.Deleted() {
		err = inputDeleted(s.tp.Topic)
	}
	return err
}

// takeBack takes an offset back that was committed behind the deletion of its topic: nobody else will,
// and it would have the group pass records over when there is a topic of that name again.
func (m *member) takeBack(ctx context.Context, name string, err error) error {
	if !errors.Is(err, engine.ErrUnknownTopic) {
		return err
	}
	return errors.Join(err, m.e.groups.ForgetTopic(context.WithoutCancel(ctx), name))
}

func offsetEntry(tp engine.TopicPartition, next int64) map[group.TopicPartition]group.Offset {
	return map[group.TopicPartition]group.Offset{group.TopicPartition(tp): {Offset: next, LeaderEpoch: -1}}
}

// refusal explains an error of a transaction. A producer that is not in force
// any more is a zombie's if its member is out, or else one whose transaction took too long.
func (s *session) refusal(ctx context.Context, err error) error {
	if err = explain(err); !errors.Is(err, engine.ErrAborted) {
		return err
	}
	if gone := s.alive(); gone != nil {
		return gone
	}
	if out := s.m.out(ctx); out != nil {
		return fmt.Errorf("%w: %s-%d of group %q: %w", engine.ErrFenced, s.tp.Topic, s.tp.Partition, s.m.g.Name, out)
	}
	return fmt.Errorf("%s-%d of group %q, which may take %v: %w", s.tp.Topic, s.tp.Partition, s.m.g.Name, s.txn.timeout, err)
}

// abortTransaction ends what is open and goes back to where the coordinator says the group is.
func (s *session) abortTransaction(ctx context.Context) error {
	t := s.txn
	if err := s.clear(ctx); err != nil {
		return s.refusal(ctx, err)
	}
	tp := group.TopicPartition(s.tp)
	// A commit that is decided and not carried out everywhere counts already: only behind it the group's offset says so.
	unstable, err := s.m.e.groups.Unstable(s.m.g.Name)
	if err != nil {
		return explain(err)
	}
	if unstable[tp] {
		return fmt.Errorf("%w: offset of %s-%d of group %q: its last transaction is still being ended", engine.ErrStorage, tp.Topic, tp.Partition, s.m.g.Name)
	}
	committed, err := s.m.e.groups.Offsets(ctx, s.m.g.Name, []group.TopicPartition{tp})
	if err != nil {
		return explain(err)
	}
	if at, ok := committed[tp]; ok {
		s.committed, s.position = at.Offset, at.Offset
	}
	t.flusher.reset()
	return nil
}

// clear leaves nothing of an aborted batch behind, lest the next one commits it. It has
// something to do if Abort could not end the transaction, or the producer was lost.
func (s *session) clear(ctx context.Context) error {
	t := s.txn
	if err := t.giveUp(ctx); err != nil {
		return err
	}
	if !t.lost {
		return nil
	}
	if out := s.m.out(ctx); out != nil {
		return fmt.Errorf("%w: %s-%d of group %q: %w", engine.ErrFenced, s.tp.Topic, s.tp.Partition, s.m.g.Name, out)
	}
	return t.init(ctx)
}
