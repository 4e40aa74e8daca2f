// Package isolation runs deployments in child processes, one each, and keeps
// them running: the second wall around guests. What gets through the first one,
// fuel and limits within a process, costs at most the deployment's own process.
//
// A Supervisor is a runtime.Launcher. A child is a worker over the Kafka protocol
// that runs one deployment, follows the catalog, and tells how it does through an admin
// API. What a child must do: write one JSON line with "admin", the URL of that API,
// to its standard output when it is ready; log JSON lines to its standard error; end in good order on SIGTERM
// and when its standard input ends.
//
// A child that ends, that needs more memory than its cap, or that does not answer any more is
// ended and started again, after a pause that grows with each failure in a row. Since commits are
// transactions that a new owner of a partition fences and ends, killing a child at any
// instant loses nothing and repeats nothing. Children do not outlive their parent, however it ends.
//
// Caps: resident memory is watched, and data memory limited, where the system has such a limit; CPU by the
// number of threads that run at once, and a lower priority than the parent's. On systems other than
// Linux memory is not watched.
//
// A Supervisor is safe for concurrent use.
package isolation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/worker"
)

// Options of a supervisor.
type Options struct {
	// Executable and Args start a child for a deployment.
	Executable string
	Args       func(deployment string) []string
	// CacheDir is where processes that prove modules find and leave compiled code.
	CacheDir string
	// Ended is called when a child has ended that was not to end, or not in good order, before the next one starts; it may
	// take the dead one out of its group, which otherwise waits for its session to time out. nil: nothing.
	Ended  func(deployment string)
	Limits Limits
	Logger *slog.Logger
	// Silence is how long a child may leave questions unanswered, and StartTime how long it may take to
	// be ready, before it is ended; defaults 15 s and 60 s.
	Silence, StartTime time.Duration
}

// Limits of one child.
type Limits struct {
	MemoryBytes int64 // resident; default 512 MiB
	CPUs        int   // threads that run at once; default 1
}

const (
	defaultMemoryBytes = 512 << 20
	defaultSilence     = 15 * time.Second
	defaultStartTime   = time.Minute
)

var _ runtime.Launcher = (*Supervisor)(nil)

// ErrClosed: the supervisor is closed and starts nothing.
var ErrClosed = errors.New("the supervisor of processes is closed")

// Supervisor keeps one child for each deployment that was started.
type Supervisor struct {
	options Options

	mu       sync.Mutex
	closed   bool
	children map[string]*child
	restarts map[string]int64 // of deployments, stopped ones too
	watcher  func(name, event string)
}

// New makes a supervisor without children. Close it.
func New(o Options) *Supervisor {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Limits.MemoryBytes <= 0 {
		o.Limits.MemoryBytes = defaultMemoryBytes
	}
	o.Limits.CPUs = max(1, o.Limits.CPUs)
	if o.Ended == nil {
		o.Ended = func(string) {}
	}
	if o.Silence <= 0 {
		o.Silence = defaultSilence
	}
	if o.StartTime <= 0 {
		o.StartTime = defaultStartTime
	}
	return &Supervisor{options: o, children: map[string]*child{}, restarts: map[string]int64{}, watcher: func(string, string) {}}
}

// Watch implements runtime.Launcher.
func (s *Supervisor) Watch(f func(name, event string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watcher = f
}

// Start implements runtime.Launcher.
func (s *Supervisor) Start(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.children[name] != nil {
		return
	}
	c := newChild(s, name)
	s.children[name] = c
	go c.run()
}

// Stop implements runtime.Launcher.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	s.mu.Lock()
	c := s.children[name]
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	err := c.end(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.children[name] == c {
		delete(s.children, name)
	}
	return err
}

// Status implements runtime.Launcher.
func (s *Supervisor) Status(name string) runtime.Launched {
	s.mu.Lock()
	c := s.children[name]
	s.mu.Unlock()
	if c == nil {
		return runtime.Launched{Phase: worker.PhaseStarting}
	}
	return c.status()
}

// Close ends all children in good order, or when ctx ends at once. It returns when they are gone.
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	children := make([]*child, 0, len(s.children))
	for _, c := range s.children {
		children = append(children, c)
	}
	s.mu.Unlock()
	errs := make([]error, len(children))
	var ending sync.WaitGroup
	for i, c := range children {
		ending.Go(func() { errs[i] = c.end(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}

// noteEnd counts that a process has ended that was not to end, and tells who watches.
func (s *Supervisor) noteEnd(name, event string) {
	s.mu.Lock()
	s.restarts[name]++
	watcher := s.watcher
	s.mu.Unlock()
	watcher(name, event)
}
