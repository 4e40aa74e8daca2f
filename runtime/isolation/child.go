package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker"
)

// child keeps a process for one deployment.
type child struct {
	supervisor *Supervisor
	name       string
	logger     *slog.Logger
	http       *http.Client

	soft     context.Context // ends: finish and leave
	stopSoft context.CancelFunc
	hard     context.Context // ends: now
	stopHard context.CancelFunc
	done     chan struct{}

	mu       sync.Mutex
	launched runtime.Launched
	process  *process // nil: none runs
}

func newChild(s *Supervisor, name string) *child {
	c := &child{
		supervisor: s, name: name, logger: s.options.Logger.With("deployment", name),
		http: &http.Client{Transport: &http.Transport{MaxIdleConns: 1}, Timeout: s.options.Silence},
		done: make(chan struct{}), launched: runtime.Launched{Phase: worker.PhaseStarting},
	}
	c.hard, c.stopHard = context.WithCancel(context.Background())
	c.soft, c.stopSoft = context.WithCancel(c.hard)
	return c
}

// end stops the child for good.
func (c *child) end(ctx context.Context) error {
	c.stopSoft()
	defer c.stopHard()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.stopHard()
		<-c.done
		return fmt.Errorf("the process of deployment %q was killed: it did not end in time: %w", c.name, context.Cause(ctx))
	}
}

func (c *child) status() runtime.Launched {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.launched
}

// Pauses between two processes of a deployment. One that ran for steadyTime was all right.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
	steadyTime = time.Minute
)

// run keeps a process until the child is stopped.
func (c *child) run() {
	// A child is killed when the thread that started it ends, so that one must stay.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	defer close(c.done)
	defer c.http.CloseIdleConnections()
	pause := firstPause
	for {
		began := time.Now()
		err := c.runOnce()
		if c.soft.Err() != nil {
			if err != nil { // it had no time to leave its group
				c.supervisor.options.Ended(c.name)
			}
			return
		}
		if time.Since(began) >= steadyTime {
			pause = firstPause
		}
		event := fmt.Sprintf("its process ended and is started again: %v", err)
		c.supervisor.noteEnd(c.name, event)
		c.supervisor.options.Ended(c.name)
		c.logger.Error("the process of the deployment ended; it is started again", "error", err, "in", pause)
		c.tell(runtime.Launched{Phase: worker.PhaseRetrying, Reason: event})
		select {
		case <-time.After(pause):
		case <-c.soft.Done():
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// tell sets the status. A new process that has not told anything yet does not take the reason of the last one's end away.
func (c *child) tell(l runtime.Launched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.Phase == worker.PhaseStarting && c.launched.Phase == worker.PhaseRetrying {
		l.Phase, l.Reason = c.launched.Phase, c.launched.Reason
	}
	c.launched = l
}

// errEnded: a process ended although nobody asked for it.
var errEnded = errors.New("it ended by itself")

// runOnce runs a process to its end and says why it ended.
func (c *child) runOnce() error {
	o := &c.supervisor.options
	p, err := startProcess(o.Executable, o.Args(c.name), o.Limits, c.logger)
	if err != nil {
		return err
	}
	c.setProcess(p)
	defer c.setProcess(nil)
	watching, endWatch := context.WithCancel(c.hard)
	var watch sync.WaitGroup
	watch.Go(func() { c.watch(watching, p) })
	watch.Go(func() { c.endProcess(watching, p) })
	err = p.wait()
	endWatch()
	watch.Wait()
	if err == nil && c.soft.Err() == nil {
		err = errEnded
	}
	return err
}

func (c *child) setProcess(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = p
}

// endProcess asks the process to end when the child is stopped, and kills it when that takes too long.
func (c *child) endProcess(watching context.Context, p *process) {
	select {
	case <-c.soft.Done():
	case <-watching.Done():
	}
	if c.soft.Err() != nil && c.hard.Err() == nil {
		p.terminate()
		<-watching.Done() // the end of the process, or of patience
	}
	if c.hard.Err() != nil {
		p.kill(errors.New("it was to end at once"))
	}
}

// How often a process is looked at: its memory, and what it tells, more often until it has told something.
const (
	memoryInterval = 100 * time.Millisecond
	statusInterval = 500 * time.Millisecond
)

// watch ends a process that is over its cap of memory or does not answer, and takes its status over.
func (c *child) watch(ctx context.Context, p *process) {
	o := &c.supervisor.options
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	var client *admin.Client
	began := time.Now()
	answered, asked := began, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if resident := p.residentBytes(); resident > o.Limits.MemoryBytes {
			p.kill(fmt.Errorf("it used %d MiB of memory, its limit is %d MiB", resident>>20, o.Limits.MemoryBytes>>20))
			return
		}
		if client == nil {
			if client = c.connect(p); client == nil {
				if time.Since(began) > o.StartTime {
					p.kill(fmt.Errorf("it was not ready within %s", o.StartTime))
					return
				}
				continue
			}
			answered = time.Now()
		}
		if c.status().Version > 0 && time.Since(asked) < statusInterval {
			continue
		}
		asked = time.Now()
		if c.ask(ctx, client) {
			answered = time.Now()
		}
		if time.Since(answered) > o.Silence && c.soft.Err() == nil {
			p.kill(fmt.Errorf("it did not answer for %s", o.Silence))
			return
		}
	}
}

// connect makes a client once the process has told its address.
func (c *child) connect(p *process) *admin.Client {
	url := p.adminURL()
	if url == "" {
		return nil
	}
	client, err := admin.NewClient(url, c.http)
	if err != nil {
		p.kill(fmt.Errorf("it tells a wrong address: %w", err))
		return nil
	}
	return client
}

// ask takes the status of the deployment over; false: there was no answer.
func (c *child) ask(ctx context.Context, client *admin.Client) bool {
	s, err := client.Get(ctx, c.name)
	if _, problem := errors.AsType[*admin.Problem](err); problem {
		return true // it does not know the deployment yet, or not any more
	}
	if err != nil {
		return false
	}
	l := runtime.Launched{
		Phase: s.Phase, Reason: s.Reason, Version: s.Spec.Version, Replacing: s.Replacing,
		Counts: runtime.Counts{
			Records: s.Records, Outputs: s.Outputs, Rejected: s.Rejected, DeadLetters: s.DeadLetters, Skipped: s.Skipped,
			Retries: s.Retries, Traps: s.Traps, Aborts: s.Aborts, Restarts: s.Restarts, Commits: s.Commits,
		},
		Owned: map[engine.TopicPartition]runtime.PartitionStatus{},
	}
	for _, p := range s.Partitions {
		if p.Running {
			tp := engine.TopicPartition{Topic: p.Topic, Partition: p.Partition}
			l.Owned[tp] = runtime.PartitionStatus{Running: true, Rate: p.Rate, Worker: snapshotOf(tp, p)}
		}
	}
	c.tell(l)
	return true
}

// snapshotOf is a partition as the process tells it.
func snapshotOf(tp engine.TopicPartition, p admin.PartitionStatus) *worker.PartitionSnapshot {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	s := &worker.PartitionSnapshot{
		TopicPartition: tp, Committed: p.Committed,
		CommitTook: seconds(p.CommitSeconds), Latency: seconds(p.LatencySeconds), EventAge: seconds(p.EventAgeSeconds),
		Records: p.Records, Outputs: p.Outputs, DeadLetters: p.DeadLetters, Completed: p.Completed, Trouble: p.Trouble,
	}
	if p.CommittedAt != nil {
		s.CommittedAt = *p.CommittedAt
	}
	return s
}

// metrics returns what the process tells at a scrape, or nil.
func (c *child) metrics(ctx context.Context) io.ReadCloser {
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if p == nil || p.adminURL() == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.adminURL()+admin.PathMetrics, nil)
	if err != nil {
		return nil
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil
	}
	return response.Body
}

// residentBytes of the present process; 0: none runs.
func (c *child) residentBytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return 0
	}
	return c.process.residentBytes()
}
