package embedded

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/vfs"
)

// TestKeepGroup: the offsets of a group that nobody is in expire after seven days, unless it is kept.
func TestKeepGroup(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name string
		keep bool
		want int
	}{{"kept", true, 1}, {"not kept", false, 0}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLog(t, vfs.NewMem(), "data")
				defer l.close(t)
				ctx := context.Background()
				if err := l.engine.EnsureTopic(ctx, "in", 1, nil); err != nil {
					t.Fatal(err)
				}
				at := map[group.TopicPartition]group.Offset{{Topic: "in"}: {Offset: 42, LeaderEpoch: -1, Metadata: "m"}}
				if err := l.groups.Commit(ctx, group.Identity{Group: "g", Generation: -1}, at); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					time.Sleep(4 * day)
					if !test.keep {
						continue
					}
					if err := l.engine.KeepGroup(ctx, "g"); err != nil {
						t.Fatal(err)
					}
				}
				got, err := l.groups.Offsets(ctx, "g", nil)
				if err != nil || len(got) != test.want {
					t.Fatalf("after 12 days: %v, %v; want %d offsets", got, err, test.want)
				}
				if o := got[group.TopicPartition{Topic: "in"}]; test.keep && (o.Offset != 42 || o.Metadata != "m") {
					t.Errorf("kept as %+v", o)
				}
				if err := l.engine.KeepGroup(ctx, "nobody"); err != nil {
					t.Errorf("a group that is not there: %v", err)
				}
			})
		})
	}
}

// TestKeepGroupBesideATransaction: what a transaction is about to commit is not overruled by what was committed before.
func TestKeepGroupBesideATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		ctx := context.Background()
		nobody, in := group.Identity{Group: "g", Generation: -1}, group.TopicPartition{Topic: "in"}
		if err := l.groups.Commit(ctx, nobody, map[group.TopicPartition]group.Offset{in: {Offset: 1, LeaderEpoch: -1}}); err != nil {
			t.Fatal(err)
		}
		p := l.takeOver(t, "id")
		_, err := l.txns.AddOffsets("id", p, txn.V2, "g")
		if err == nil {
			_, err = l.groups.CommitInTransaction(nobody, p.ID, p.Epoch, map[group.TopicPartition]group.Offset{in: {Offset: 2, LeaderEpoch: -1}})
		}
		if err == nil {
			err = l.engine.KeepGroup(ctx, "g")
		}
		if err == nil {
			_, err = l.txns.End(ctx, "id", p, true, txn.V2)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.groups.Offsets(ctx, "g", nil); err != nil || got[in].Offset != 2 {
			t.Errorf("committed is %v, %v", got, err)
		}
	})
}
