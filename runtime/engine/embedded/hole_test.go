package embedded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// TestHoleAtTheEnd: where compaction has left nothing of the newest records a session still gets to the
// end, lest a bounded run wait for records that are gone.
func TestHoleAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		l := openLog(t, vfs.NewMem(), "data")
		defer l.close(t)
		err := l.engine.EnsureTopic(ctx, "in", 1, map[string]string{
			"cleanup.policy": "compact", "max.compaction.lag.ms": "1000", "delete.retention.ms": "1000",
		})
		if err != nil {
			t.Fatal(err)
		}
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: time.Now().UnixMilli(), Key: []byte("k")}}) // a tombstone
		time.Sleep(5 * time.Minute)
		p, err := l.topics.Partition("in", 0)
		if err != nil {
			t.Fatal(err)
		}
		if left, err := p.Read(nil, topic.ReadOptions{MaxBytes: 1000}); err != nil || len(left) > 0 {
			t.Fatalf("compaction has left %d bytes, %v: there is no hole", len(left), err)
		}
		m, err := l.engine.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave(ctx)
		sessions, err := m.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s := sessions[0]
		wait, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := s.Poll(wait, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("poll: %v", err)
		}
		if s.Position() != 1 || s.Ready() {
			t.Errorf("the session is at %d, ready %v; the partition ends at 1", s.Position(), s.Ready())
		}
	})
}
