package embedded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// TestCommitThatIsTriedAgainLeavesTheNextTopicAlone: a session that has not heard of the deletion of its input
// goes on trying to commit; the offset that somebody has by then in a new topic of that name stays.
func TestCommitThatIsTriedAgainLeavesTheNextTopicAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		l, s, m := oneSession(t, vfs.NewMem(), engine.AtLeastOnce)
		defer l.close(t)
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
		in, err := l.topics.Partition("in", 0)
		if err == nil {
			err = in.WaitDurable(ctx, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.(*member).cancel() // it has not heard of the deletion
		<-m.(*member).stopped
		if err := errors.Join(l.topics.Delete(ctx, "in"), l.groups.ForgetTopic(ctx, "in")); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Begin(nil), s.Commit(ctx, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryInterval / 2)
		tp := group.TopicPartition{Topic: "in"}
		if err = l.engine.EnsureTopic(ctx, "in", 1, nil); err == nil {
			err = s.(*session).m.asMember(ctx, s.(*session), func(id group.Identity) error {
				return l.groups.CommitAsync(ctx, id, map[group.TopicPartition]group.Offset{tp: {Offset: 42, LeaderEpoch: -1}}, nil)
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * retryInterval)
		if at, err := l.groups.Offsets(ctx, "g", nil); err != nil || at[tp].Offset != 42 {
			t.Errorf("the group has %v, %v", at, err)
		}
		_ = s.Close(ctx) // says that the last offset was not taken
		if err := m.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
}
