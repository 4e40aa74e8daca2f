package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

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
