// Package worker runs one deployment in this process: it is one member of the
// deployment's consumer group, and for each partition that the group gives it,
// one goroutine takes records through one guest instance:
//
//	poll → guest → produce → commit
//
// Order: the outputs of a partition are produced in the order of its inputs.
// Durability: an input offset is committed behind the outputs of all records
// before it, never ahead of them.
//
// A record that its guest rejects or traps on fails alone: a batch with a trap is
// narrowed down by halves, each with a fresh instance, until the record
// that traps stands alone; it gets the error policy and the rest goes on in
// order. When the log refuses writes the worker waits and tries again.
//
// Memory is bounded by the number of assigned partitions times the guest's
// memory limit and one fetch. Nothing is allocated per record. A Worker is safe for
// concurrent use.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
)

// Config is what a worker runs, and where.
type Config struct {
	Engine engine.Engine
	Group  engine.Group
	Release
	Stats  *Stats
	Logs   *Logs
	Logger *slog.Logger
}

// Release is one version of a deployment.
type Release struct {
	Program Program
	Setup   host.Setup
	// Outputs are the topics by output index.
	Outputs []string
	// OnError is one of deploy's error policies.
	OnError string
	// DeadLetters is the topic of failed records under the dead-letter policy.
	DeadLetters string
	Source      deadletter.Source
	// Limits are the guest's; the sizes of batches stay within FuelPerCall and WallTime.
	Limits host.Limits
	// Retries is how often a record on which the guest trapped is tried again.
	Retries int
	// FailureLimit stops the worker when too many records fail.
	FailureLimit deploy.FailureLimit
}

// Worker is one member of a deployment's group.
type Worker struct {
	config Config
	logger *slog.Logger
	events *LogSource

	soft     context.Context // ends: finish the batch in hand and leave
	stopSoft context.CancelFunc
	hard     context.Context // ends: drop what is in hand
	stopHard context.CancelFunc
	done     chan struct{}
	assigned chan struct{}
	started  sync.Once

	mu       sync.Mutex
	spare    *lodger // made by New, for the first partition that needs a guest
	failure  error
	trouble  map[engine.Session]string // reasons why something is being tried again; nil: joining the group
	sessions map[engine.TopicPartition]engine.Session
	joined   bool
}

// New makes a worker and proves that its module starts: it makes one guest
// with the deployment's configuration. Errors are the host's (*host.Trap, *host.SetupError).
func New(ctx context.Context, c Config) (*Worker, error) {
	w := &Worker{
		config: c, logger: c.Logger.With("deployment", c.Group.Name), events: c.Logs.Source(c.Setup.Deployment, engine.TopicPartition{Partition: -1}, 0),
		done: make(chan struct{}), assigned: make(chan struct{}),
		trouble: map[engine.Session]string{}, sessions: map[engine.TopicPartition]engine.Session{},
	}
	spare, err := w.instantiate(ctx, w.events)
	if err != nil {
		return nil, fmt.Errorf("start the module of deployment %q: %w", c.Setup.Deployment, err)
	}
	w.spare = spare
	w.hard, w.stopHard = context.WithCancel(context.WithoutCancel(ctx))
	w.soft, w.stopSoft = context.WithCancel(w.hard)
	return w, nil
}

// Start joins the group and begins to work; it does not block. Only the first call has an effect.
func (w *Worker) Start() {
	w.started.Do(func() { go w.run() })
}

// Assigned is closed once the group has told this member its partitions.
func (w *Worker) Assigned() <-chan struct{} { return w.assigned }

// Done is closed when the worker has ended, by Stop or by a failure.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Stop finishes the batches in hand, commits them and leaves the group. When
// ctx ends first, batches in hand are dropped; they will be read again.
func (w *Worker) Stop(ctx context.Context) error {
	w.stopSoft()
	w.started.Do(func() { // never started: nothing runs
		w.closeSpare()
		close(w.done)
	})
	defer w.stopHard()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		w.stopHard()
		<-w.done
		return ctx.Err()
	}
}

// run keeps up the membership until the worker is stopped or fails.
func (w *Worker) run() {
	defer close(w.done)
	defer w.stopSoft()
	defer w.closeSpare()
	w.events.Event(slog.LevelInfo, "started")
	var pause backoff
	for {
		joined, err := w.member()
		if w.soft.Err() != nil {
			break
		}
		if joined {
			pause.reset()
		}
		w.setTrouble(nil, err)
		w.logger.Warn("membership lost, joining again", "error", err)
		if !pause.wait(w.soft) {
			break
		}
	}
	if err := w.Failure(); err != nil {
		w.events.Event(slog.LevelError, "failed: "+err.Error())
		w.logger.Error("deployment failed", "error", err)
		return
	}
	w.events.Event(slog.LevelInfo, "stopped")
	w.logger.Info("deployment stopped")
}

// member is one membership, from Join to Leave; joined tells whether the group gave an assignment.
func (w *Worker) member() (joined bool, err error) {
	m, err := w.config.Engine.Join(w.soft, w.config.Group)
	if err != nil {
		return false, fmt.Errorf("join group %s: %w", w.config.Group.Name, err)
	}
	// Partitions end with the membership: without it they cannot commit.
	membership, end := context.WithCancel(w.soft)
	defer end()
	var partitions sync.WaitGroup
	running := map[engine.Session]bool{}
	for {
		var sessions []engine.Session
		sessions, err = m.Next(membership)
		if err != nil {
			break
		}
		joined = true
		running = w.assign(membership, sessions, running, &partitions)
	}
	end()
	partitions.Wait()
	leave, cancel := context.WithTimeout(context.WithoutCancel(w.hard), leaveTimeout)
	defer cancel()
	if leaveErr := m.Leave(leave); leaveErr != nil && !errors.Is(leaveErr, engine.ErrClosed) {
		w.logger.Warn("leaving the group", "error", leaveErr)
	}
	return joined, err
}

// leaveTimeout bounds the farewell to the group; a member that fails to leave is dropped by its session timeout.
const leaveTimeout = 5 * time.Second

// assign starts a goroutine for every session that is new and returns those now owned.
func (w *Worker) assign(membership context.Context, sessions []engine.Session, before map[engine.Session]bool, partitions *sync.WaitGroup) map[engine.Session]bool {
	now := make(map[engine.Session]bool, len(sessions))
	for _, s := range sessions {
		now[s] = true
		if before[s] {
			continue
		}
		p := newPartition(membership, w, s)
		w.remember(s)
		partitions.Go(func() {
			defer w.forget(s)
			w.fail(p.run())
		})
	}
	w.mu.Lock()
	first := !w.joined
	w.joined = true
	w.mu.Unlock()
	w.setTrouble(nil, nil)
	if first {
		w.logger.Info("deployment runs", "partitions", len(sessions))
		close(w.assigned)
	}
	return now
}

// fail ends the worker for good; nil does nothing. The first error is the one that is told.
func (w *Worker) fail(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	if w.failure == nil {
		w.failure = err
	}
	w.mu.Unlock()
	w.stopSoft()
}

func (w *Worker) remember(s engine.Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[s.Partition()] = s
}

// forget ends a session. The partition may have another one already: a member that
// lost its place and got it back does not wait for what is in hand.
func (w *Worker) forget(s engine.Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions[s.Partition()] == s {
		delete(w.sessions, s.Partition())
	}
	delete(w.trouble, s)
}

// setTrouble says that something is being tried again because of err; nil ends it.
func (w *Worker) setTrouble(what engine.Session, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.trouble, what)
		return
	}
	w.trouble[what] = err.Error()
}

// takeGuest returns the guest made in advance, or a new one.
func (w *Worker) takeGuest(ctx context.Context, source *LogSource) (*lodger, error) {
	w.mu.Lock()
	g := w.spare
	w.spare = nil
	w.mu.Unlock()
	if g == nil {
		return w.instantiate(ctx, source)
	}
	g.source.Store(source)
	return g, nil
}

func (w *Worker) closeSpare() {
	w.mu.Lock()
	g := w.spare
	w.spare = nil
	w.mu.Unlock()
	if g != nil {
		if err := g.Close(context.WithoutCancel(w.hard)); err != nil {
			w.logger.Warn("closing a guest", "error", err)
		}
	}
}

// Failure is why the worker ended for good; nil while it works or after Stop.
func (w *Worker) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// Phases of a worker.
const (
	PhaseStarting = "starting" // the group has not told its partitions yet
	PhaseRunning  = "running"
	PhaseRetrying = "retrying" // something is tried again; the reason says what
	PhaseFailed   = "failed"   // ended for good; the reason says why
)

// Phase tells how the worker does and, unless it runs, why.
func (w *Worker) Phase() (phase, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.failure != nil:
		return PhaseFailed, w.failure.Error()
	case len(w.trouble) > 0:
		for _, r := range w.trouble {
			reason = max(reason, r) // any will do, but the same one each time
		}
		return PhaseRetrying, reason
	case !w.joined:
		return PhaseStarting, ""
	}
	return PhaseRunning, ""
}

// Owns tells whether this worker has a session for the partition.
func (w *Worker) Owns(tp engine.TopicPartition) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions[tp] != nil
}

// policyStops tells whether the first failed record ends the deployment.
func (w *Worker) policyStops() bool { return w.config.OnError == deploy.OnErrorStop }
