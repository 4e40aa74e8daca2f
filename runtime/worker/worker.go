// Package worker runs one deployment in this process: it is one member of the
// deployment's consumer group, and for each partition that the group gives it,
// one goroutine takes records through one guest instance:
//
//	poll → guest → produce → commit
//
// Exactly once, a partition's outputs, dead letters and input offset are committed in one
// transaction. It ends as soon as there is nothing more to read, so that a lone record is visible at once; while
// there is more it goes on over fetches and calls, for a tenth of a second or 16 MiB of outputs,
// so that a busy partition pays for few commits. At least once, each fetch is committed, its offset after its outputs.
//
// Order: the outputs of a partition are produced in the order of its inputs.
// Durability: an input offset is committed with or behind the outputs of all records
// before it, never ahead of them.
//
// A record that its guest rejects or traps on fails alone: a batch with a trap is
// narrowed down, part by part, each with a fresh instance, until the record
// that traps stands alone; it is tried again a few times, then it gets the error policy and the rest goes on in
// order. When too many fail, the deployment stops and says so. When the log refuses writes the worker waits and tries again.
//
// A new version of the deployment takes over from partition to partition between two
// transactions (Replace); nothing is read twice for it and the group notices nothing. A bounded
// run (Until) ends by itself when the whole group has got there.
//
// Memory is bounded by the number of assigned partitions times the guest's
// memory limit, one fetch and what the engine keeps of a transaction. Nothing is allocated per record. A Worker is safe for
// concurrent use.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Config is what a worker runs, and where.
type Config struct {
	Engine engine.Engine
	Group  engine.Group
	// Starts is asked for Group.Starts whenever the group is joined; nil: they are what they are.
	Starts func() map[string]engine.TopicStart
	Release
	// CommitInterval is how old a transaction may become while there is more to read; 0 = DefaultCommitInterval.
	CommitInterval time.Duration
	// CommitBytes of outputs end a transaction; 0 = DefaultCommitBytes.
	CommitBytes int
	// Until bounds the run; the zero value does not.
	Until Until
	// Ends returns where the run ends: where it was said to end before, or for the first time what find returns, which it
	// keeps. Nil: the run is this worker's alone.
	Ends   func(ctx context.Context, find func(context.Context) (Ends, error)) (Ends, error)
	Stats  *Stats
	Logs   *Logs
	Logger *slog.Logger
}

// Worker is one member of a deployment's group.
type Worker struct {
	config Config
	logger *slog.Logger
	events *LogSource
	bound  *bound // nil: the run has no end

	soft     context.Context // ends: finish the batch in hand and leave
	stopSoft context.CancelFunc
	hard     context.Context // ends: drop what is in hand
	stopHard context.CancelFunc
	done     chan struct{}
	assigned chan struct{}
	started  sync.Once

	releases releases

	mu        sync.Mutex
	failure   error
	completed bool
	trouble   map[engine.Session]string // reasons why something is being tried again; nil: joining the group
	sessions  map[engine.TopicPartition]*partition
	remade    map[string]time.Time // inputs that were made anew, when that was found
	joined    bool
}

// New makes a worker and proves that its module starts: it makes one guest
// with the deployment's configuration. Errors are the host's (*host.Trap, *host.SetupError).
func New(ctx context.Context, c Config) (*Worker, error) {
	if c.CommitInterval <= 0 {
		c.CommitInterval = DefaultCommitInterval
	}
	if c.CommitBytes <= 0 {
		c.CommitBytes = DefaultCommitBytes
	}
	w := &Worker{
		config: c, logger: c.Logger.With("deployment", c.Group.Name), events: c.Logs.Source(c.Setup.Deployment, engine.TopicPartition{Partition: -1}, 0),
		done: make(chan struct{}), assigned: make(chan struct{}),
		trouble: map[engine.Session]string{}, sessions: map[engine.TopicPartition]*partition{}, remade: map[string]time.Time{},
	}
	w.hard, w.stopHard = context.WithCancel(context.WithoutCancel(ctx))
	w.soft, w.stopSoft = context.WithCancel(w.hard)
	first := w.newRelease(c.Release)
	spare, err := first.instantiate(ctx, w.events)
	if err != nil {
		w.stopHard()
		return nil, fmt.Errorf("start the module of deployment %q: %w", c.Setup.Deployment, err)
	}
	w.releases = releases{current: first, spare: spare, partitions: map[*partition]bool{}, changed: make(chan struct{})}
	if c.Until != (Until{}) {
		w.bound = newBound(c.Until)
	}
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
		w.retire()
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
	defer w.retire()
	w.events.Event(slog.LevelInfo, "started")
	if w.bound != nil && w.settleBound() {
		var watch sync.WaitGroup
		watch.Go(w.watchBound)
		defer watch.Wait()
		defer w.stopSoft()
	}
	var pause backoff
	var warnedAt time.Time
	for {
		joined, err := w.member()
		if w.soft.Err() != nil {
			break
		}
		if joined {
			pause.reset()
		}
		w.setTrouble(nil, err)
		level := slog.LevelDebug
		if time.Since(warnedAt) >= warnInterval {
			level, warnedAt = slog.LevelWarn, time.Now()
		}
		w.logger.Log(w.hard, level, "membership lost, joining again", "error", err)
		if !pause.wait(w.soft) {
			break
		}
	}
	if err := w.Failure(); err != nil {
		w.events.Event(slog.LevelError, "failed: "+err.Error())
		w.logger.Error("deployment failed", "error", err)
		return
	}
	if w.Completed() {
		w.events.Event(slog.LevelInfo, "completed")
		w.logger.Info("deployment completed its bounded run")
		return
	}
	w.events.Event(slog.LevelInfo, "stopped")
	w.logger.Info("deployment stopped")
}

// member is one membership, from Join to Leave; joined tells whether the group assigned something.
func (w *Worker) member() (joined bool, err error) {
	g := w.config.Group
	if w.config.Starts != nil {
		g.Starts = w.config.Starts()
	}
	g.Remade = w.remadeInput
	m, err := w.config.Engine.Join(w.soft, g)
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
		if err == nil && w.bound != nil {
			err = w.recognize(membership, sessions, running)
		}
		if err != nil {
			break
		}
		joined = joined || len(sessions) > 0
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
		w.remember(p)
		partitions.Go(func() {
			defer w.forget(p)
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

func (w *Worker) remember(p *partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[p.tp] = p
}

// forget ends a session. The partition may have another one already: a member that
// lost its place and got it back does not wait for what is in hand.
func (w *Worker) forget(p *partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions[p.tp] == p {
		delete(w.sessions, p.tp)
	}
	delete(w.trouble, p.session)
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

// Failure is why the worker ended for good; nil while it works or after Stop.
func (w *Worker) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}
