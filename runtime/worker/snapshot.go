package worker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Phases of a worker.
const (
	PhaseStarting  = "starting" // the group has not told its partitions yet
	PhaseRunning   = "running"
	PhaseRetrying  = "retrying"  // something is tried again; the reason says what
	PhaseFailed    = "failed"    // ended for good; the reason says why
	PhaseCompleted = "completed" // a bounded run is through: all of it is committed
)

// Phase tells how the worker does and, unless it runs, why.
func (w *Worker) Phase() (phase, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.failure != nil:
		return PhaseFailed, w.failure.Error()
	case w.completed:
		return PhaseCompleted, ""
	case len(w.trouble) > 0:
		for _, r := range w.trouble {
			reason = max(reason, r) // any will do, but the same one each time
		}
		if n := len(w.trouble); n > 1 {
			reason = fmt.Sprintf("%s (and %d other partitions with trouble)", reason, n-1)
		}
		return PhaseRetrying, reason
	case !w.joined:
		return PhaseStarting, ""
	}
	return PhaseRunning, ""
}

// Completed tells whether a bounded run is through.
func (w *Worker) Completed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.completed
}

// Owns tells whether this worker has a session for the partition.
func (w *Worker) Owns(tp engine.TopicPartition) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions[tp] != nil
}

// Snapshot is how a worker and its partitions do at one moment.
type Snapshot struct {
	Phase  string
	Reason string
	// Notice is a sentence about records that fail lately, while the deployment goes on; "" = none does.
	Notice string
	// Replacing is how many partitions have not changed over to the newest release yet.
	Replacing  int
	Partitions []PartitionSnapshot // those owned here, by topic and number
	// Remade are inputs that were deleted and made anew while this worker ran, and when it found that.
	Remade map[string]time.Time
}

// PartitionSnapshot is one input partition in this worker.
type PartitionSnapshot struct {
	engine.TopicPartition
	Committed   int64         // offset of the last commit of this session; -1: none yet
	CommittedAt time.Time     // zero: not yet
	CommitTook  time.Duration // of the last commit
	Latency     time.Duration // from reading the oldest record of the last commit until it was committed
	EventAge    time.Duration // of the newest record of the last commit, when it was committed
	Records     int64         // input records committed by this session
	Outputs     int64
	DeadLetters int64
	Completed   bool   // it has reached the end of a bounded run
	Trouble     string // what is tried again; "" = nothing
}

// Snapshot tells how the worker does.
func (w *Worker) Snapshot() Snapshot {
	var s Snapshot
	s.Phase, s.Reason = w.Phase()
	s.Replacing = w.releases.outdated()
	s.Notice = w.releases.notice()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Remade = maps.Clone(w.remade)
	for _, p := range w.sessions {
		one := p.counts.snapshot()
		one.TopicPartition, one.Trouble = p.tp, w.trouble[p.session]
		s.Partitions = append(s.Partitions, one)
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionSnapshot) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}
