package isolation_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/isolation"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/prometheus/client_golang/prometheus"
)

// patience is a hang detector, not a promise.
const patience = 30 * time.Second

type nursery struct {
	*isolation.Supervisor
	t   *testing.T
	dir string
	log lockedBuffer

	mu     sync.Mutex
	ended  []string
	events []string
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// newNursery supervises children of this executable that behave in a manner.
func newNursery(t *testing.T, manner string, change func(*isolation.Options)) *nursery {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &nursery{t: t, dir: t.TempDir()}
	o := isolation.Options{
		Executable: executable, Logger: slog.New(slog.NewTextHandler(&n.log, nil)),
		Args: func(string) []string { return []string{childArgument, manner, n.dir} },
		Ended: func(name string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.ended = append(n.ended, name)
		},
	}
	if change != nil {
		change(&o)
	}
	n.Supervisor = isolation.New(o)
	n.Watch(func(name, event string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, name+": "+event)
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

// until waits for a status.
func (n *nursery) until(what string, good func(runtime.Launched) bool) runtime.Launched {
	n.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if s := n.Status("d"); good(s) {
			return s
		}
	}
	n.t.Fatalf("never %s; status %+v\n%s", what, n.Status("d"), n.log.String())
	panic("unreachable")
}

func running(s runtime.Launched) bool { return s.Phase == worker.PhaseRunning }

// processes are the pids that children have noted.
func (n *nursery) processes(what string) []int {
	files, err := filepath.Glob(filepath.Join(n.dir, what+"-*"))
	if err != nil {
		n.t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		_, number, _ := strings.Cut(filepath.Base(f), "-")
		pid, err := strconv.Atoi(number)
		if err != nil {
			n.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func TestChildRunsUntilItIsStopped(t *testing.T) {
	t.Setenv("MILLSTREAM_BROKERS", "somewhere:1")
	n := newNursery(t, "good", nil)
	n.Start("d")
	n.Start("d")
	s := n.until("running", running)
	if s.Version != 7 || s.Counts.Records != 11 || s.Counts.DeadLetters != 2 || len(s.Owned) != 1 || s.Replacing != 1 {
		t.Errorf("status %+v", s)
	}
	p := s.Owned[engine.TopicPartition{Topic: "in"}]
	if !p.Running || p.Rate != 2.5 || p.Worker == nil || p.Worker.Records != 9 || p.Worker.Latency != 250*time.Millisecond || p.Worker.CommittedAt.IsZero() {
		t.Errorf("partition %+v, %+v", p, p.Worker)
	}
	pids := n.processes("started")
	if len(pids) != 1 {
		t.Fatalf("processes %v were started", pids)
	}
	environment, err := os.ReadFile(filepath.Join(n.dir, "started-"+strconv.Itoa(pids[0])))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(environment), "\n")
	if !slices.Contains(lines, "GOMAXPROCS=1") || !slices.Contains(lines, "GOMEMLIMIT=402653184") || strings.Contains(string(environment), "somewhere:1") {
		t.Errorf("environment of the child:\n%s", environment)
	}
	if err := n.Stop(t.Context(), "d"); err != nil {
		t.Error(err)
	}
	if ended := n.processes("ended"); !slices.Equal(ended, pids) {
		t.Errorf("processes %v ended in order, want %v", ended, pids)
	}
	if err := n.Stop(t.Context(), "d"); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
	if log := n.log.String(); !strings.Contains(log, `level=WARN msg="here I am" deployment=d pid=`) {
		t.Errorf("log of the child is not in the parent's:\n%s", log)
	}
	if len(n.ended) != 0 {
		t.Errorf("a child that was stopped counts as dead: %v", n.ended)
	}
}

func TestDeadChildIsReplaced(t *testing.T) {
	n := newNursery(t, "good", nil)
	n.Start("d")
	n.until("running", running)
	for range 2 {
		pids := n.processes("started")
		if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		for _, old := range pids {
			_ = syscall.Kill(old, syscall.SIGKILL)
		}
		dead := n.until("dead", func(s runtime.Launched) bool { return s.Phase == worker.PhaseRetrying })
		if !strings.Contains(dead.Reason, "killed") {
			t.Errorf("reason %q", dead.Reason)
		}
		n.until("running again", running)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.processes("started")) != 3 || !slices.Equal(n.ended, []string{"d", "d"}) {
		t.Errorf("processes %v, told of %v", n.processes("started"), n.ended)
	}
	if len(n.events) != 2 || !strings.HasPrefix(n.events[0], "d: its process ended") || !strings.Contains(n.events[0], "killed") {
		t.Errorf("events are %q", n.events)
	}
}

func TestBadChildrenAreEndedWithTheReason(t *testing.T) {
	for _, c := range []struct {
		manner string
		change func(*isolation.Options)
		want   string
	}{
		{"crash", nil, "exit status 2: fatal error: out of luck"},
		{"mute", func(o *isolation.Options) { o.StartTime = 300 * time.Millisecond }, "was not ready within 300ms"},
		{"deaf", func(o *isolation.Options) { o.Silence = 300 * time.Millisecond }, "did not answer for 300ms"},
		{"greedy", func(o *isolation.Options) { o.Limits.MemoryBytes = 96 << 20 }, "its limit is 96 MiB"},
	} {
		t.Run(c.manner, func(t *testing.T) {
			if underRace && c.manner == "greedy" {
				t.Skip("the race detector may be refused memory before the supervisor looks")
			}
			n := newNursery(t, c.manner, c.change)
			n.Start("d")
			s := n.until("ended", func(s runtime.Launched) bool { return s.Phase == worker.PhaseRetrying })
			if !strings.Contains(s.Reason, c.want) {
				t.Errorf("reason %q, want %q in it", s.Reason, c.want)
			}
		})
	}
}

func TestStubbornChildIsKilledWhenPatienceEnds(t *testing.T) {
	n := newNursery(t, "stubborn", nil)
	n.Start("d")
	n.until("running", running)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := n.Stop(ctx, "d"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
	if pid := n.processes("started")[0]; !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("process %d still runs", pid)
	}
	if !slices.Equal(n.ended, []string{"d"}) {
		t.Errorf("told of %v: it had no time to leave its group", n.ended)
	}
}

func TestClosedSupervisorStartsNothing(t *testing.T) {
	n := newNursery(t, "good", nil)
	n.Start("d")
	n.until("running", running)
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	n.Start("e")
	if s := n.Status("e"); s.Phase != worker.PhaseStarting {
		t.Errorf("status %+v", s)
	}
	if len(n.processes("ended")) != 1 {
		t.Error("the child did not end in order")
	}
}

func TestMetricsOfChildrenStandInForTheParents(t *testing.T) {
	n := newNursery(t, "good", nil)
	n.Start("d")
	n.until("running", running)
	own := prometheus.NewRegistry()
	records := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millstream_deployment_records_in_total"}, []string{"deployment"})
	records.WithLabelValues("d").Add(1)
	records.WithLabelValues("other").Add(5)
	own.MustRegister(records, n.Collector())
	families, err := n.Gatherer(own).Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()+" "+m.Label[0].GetValue()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if got["millstream_isolation_process_resident_bytes d"] < 1<<20 {
		t.Errorf("resident memory %v", got["millstream_isolation_process_resident_bytes d"])
	}
	delete(got, "millstream_isolation_process_resident_bytes d")
	want := map[string]float64{
		"millstream_deployment_records_in_total d": 11, "millstream_deployment_records_in_total other": 5,
		"millstream_isolation_process_restarts_total d": 0,
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
}
