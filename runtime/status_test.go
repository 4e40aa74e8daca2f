package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// closedLog is a cluster that does not let its user look into groups.
type closedLog struct {
	*workertest.Log
	lag bool // may be looked up
}

func (l closedLog) Members(context.Context, string) ([]engine.GroupMember, error) {
	return nil, fmt.Errorf("describe group: %w", engine.ErrNotAllowed)
}

func (l closedLog) Lag(ctx context.Context, group string, inputs []string) (map[engine.TopicPartition]engine.Position, error) {
	if l.lag {
		return l.Log.Lag(ctx, group, inputs)
	}
	return nil, fmt.Errorf("offsets of group: %w", engine.ErrNotAllowed)
}

// TestStatusWithoutRights shows what is known, says what is not and does not make it up.
func TestStatusWithoutRights(t *testing.T) {
	for _, lag := range []bool{true, false} {
		t.Run(fmt.Sprintf("lag %v", lag), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.mustDeploy(b.version("1"))
				b.feed("a")
				b.openOver(closedLog{b.log, lag})
				synctest.Wait()
				s := b.status("d")
				if s.Phase != worker.PhaseRunning || s.Spec.Version != 1 {
					t.Errorf("phase is %s, version %d", s.Phase, s.Spec.Version)
				}
				if len(s.Hints) != 1 || !strings.Contains(s.Hints[0], "lacks a right") {
					t.Errorf("hints are %q", s.Hints)
				}
				if known := len(s.Partitions) > 0; known != lag {
					t.Errorf("partitions are %v", s.Partitions)
				}
				list, err := b.runtime.List(t.Context())
				b.ok(err)
				if i := slices.IndexFunc(list, func(s Status) bool { return s.Spec.Name == "d" }); i < 0 || (len(list[i].Partitions) > 0) != lag {
					t.Errorf("list is %+v", list)
				}
				b.close()
			})
		})
	}
}

// TestTheLagOfWhatWasNotReadYet: partitions that came since the deployment are read from their beginning.
func TestTheLagOfWhatWasNotReadYet(t *testing.T) {
	for _, c := range []struct {
		start string
		found int64 // in partition 0, which ends at 5
		want  int64 // with the 3 records of partition 1
	}{{"latest", 3, 2 + 3}, {"1", 1, 4 + 3}, {"earliest", 0, 5 + 3}, {"2000-01-01T00:00:00Z", 0, 5 + 0}} {
		s := deploy.Spec{Start: c.start, Inputs: []string{"in"}, Starts: map[string]deploy.TopicStart{"in": {Offsets: []int64{c.found}}}}
		lag := int64(0)
		for i, end := range []int64{5, 3} {
			p := PartitionStatus{Position: engine.Position{Committed: -1, LogEnd: end}}
			p.Begins = begins(s, engine.TopicPartition{Topic: "in", Partition: int32(i)}, p.Position)
			lag += p.Lag(s)
		}
		if lag != c.want {
			t.Errorf("from %s the lag is %d, want %d", c.start, lag, c.want)
		}
	}
}
