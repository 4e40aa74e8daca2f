package broker_test

import (
	"context"
	"testing"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/vfs"
)

// TestOffsetsOfADeletedTopicEndWithACrash: the broker ends between the deletion of a topic and that of its
// offsets; a topic of that name that is made afterwards is read from its start.
func TestOffsetsOfADeletedTopicEndWithACrash(t *testing.T) {
	o := broker.Options{FS: vfs.NewMem(), Dir: "data"}
	b, err := broker.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	offsets := map[group.TopicPartition]group.Offset{}
	for _, name := range []string{"deleted", "kept"} {
		if _, err := b.Topics().Create(t.Context(), name, 1, nil); err != nil {
			t.Fatal(err)
		}
		offsets[group.TopicPartition{Topic: name}] = group.Offset{Offset: 7, LeaderEpoch: -1}
	}
	if err := b.Groups().Commit(t.Context(), group.Identity{Group: "g", Generation: -1}, offsets); err != nil {
		t.Fatal(err)
	}
	if err := b.Topics().Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err = broker.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	left, err := b.Groups().Offsets(t.Context(), "g", nil)
	if _, kept := left[group.TopicPartition{Topic: "kept"}]; err != nil || !kept || len(left) != 1 {
		t.Errorf("the group has %v, %v", left, err)
	}
}
