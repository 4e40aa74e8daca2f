package sim

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/runtime/worker"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "run this seed only, and tell its story")
	seedsFlag = flag.Uint64("sim.seeds", defaultSeeds, "how many seeds are run")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSimulation runs many seeds.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		r, wrong := simulate(t, *seedFlag, bugs{})
		t.Logf("seed %d, %+v\n%s", r.seed, r.options, strings.Join(r.story, "\n"))
		for _, w := range wrong {
			t.Error(w)
		}
		return
	}
	seeds := seedCount()
	var total worker.Stats
	var next atomic.Uint64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := next.Add(1); seed <= seeds && !t.Failed(); seed = next.Add(1) {
				r, wrong := simulate(t, seed, bugs{})
				if len(wrong) > 0 {
					t.Errorf("seed %d, %+v\n%s\n\n%s", seed, r.options, strings.Join(r.story, "\n"), strings.Join(wrong[:min(5, len(wrong))], "\n"))
				}
				total.RecordsIn.Add(r.stats.RecordsIn.Load())
				total.Commits.Add(r.stats.Commits.Load())
				total.Aborts.Add(r.stats.Aborts.Load())
				total.DeadLetters.Add(r.stats.DeadLetters.Load())
			}
		})
	}
	all.Wait()
	t.Logf("%d records in %d transactions, %d aborted, %d dead letters", total.RecordsIn.Load(), total.Commits.Load(), total.Aborts.Load(), total.DeadLetters.Load())
	if seeds >= 100 && (total.Aborts.Load() == 0 || total.DeadLetters.Load() == 0 || total.RecordsIn.Load() == 0) {
		t.Error("nothing went wrong: the simulation does not simulate anything")
	}
}

// seedCount is a tenth with -short.
func seedCount() uint64 {
	if testing.Short() {
		return *seedsFlag / 10
	}
	return *seedsFlag
}

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, seed uint64, b bugs) (r *run, wrong []string) {
	synctest.Test(t, func(*testing.T) {
		r = newRun(seed, b)
		var traffic sync.WaitGroup
		traffic.Go(r.traffic)
		for range r.Events {
			r.event()
			time.Sleep(time.Duration(r.rng.Int64N(int64(3 * time.Second))))
		}
		traffic.Wait()
		wrong = r.settle()
	})
	return r, wrong
}

// settle heals everything, waits until all that was written is through, ends the workers and checks.
func (r *run) settle() []string {
	r.tell("heal")
	r.heal()
	if r.Bounded {
		for _, p := range slices.Clone(r.alive) {
			r.stop(p, time.Minute)
		}
		time.Sleep(time.Minute)
		for range r.MaxWorkers {
			r.start(worker.Until{AtEnd: true})
		}
		r.heal()
	} else if len(r.alive) == 0 {
		r.start(worker.Until{})
		r.heal()
	}
	var wrong []string
	if !r.converged() {
		wrong = append(wrong, "after ten minutes not all is through: "+r.explain())
	}
	for _, p := range r.alive {
		if r.Bounded {
			select {
			case <-p.Done():
			case <-time.After(time.Minute):
			}
			if s := p.Snapshot(); s.Phase != worker.PhaseCompleted {
				wrong = append(wrong, fmt.Sprintf("a bounded run is not completed: %+v", s))
			}
		}
		r.reaping.Go(func() { _ = p.Stop(context.Background()) })
	}
	r.reaping.Wait()
	time.Sleep(time.Minute) // late requests
	_ = r.logs.Close(context.Background())
	return append(wrong, r.check()...)
}

func (r *run) heal() {
	r.c.mu.Lock()
	r.c.full = time.Time{}
	r.c.mu.Unlock()
	for _, p := range r.alive {
		p.n.mu.Lock()
		p.n.delay, p.n.lost = time.Millisecond, 0
		p.n.mu.Unlock()
	}
}

// converged waits until every committed record of the input is behind the group's offsets.
func (r *run) converged() bool {
	for range 600 {
		if r.explain() == "" {
			return true
		}
		time.Sleep(time.Second)
	}
	return false
}

// explain says what is not through yet.
func (r *run) explain() string {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for _, tp := range r.c.group.partitions() {
		log := r.c.topics["in"][tp.Partition]
		at := r.c.group.committed[tp]
		if rest, _ := log.committedRecords(at, len(log.entries), false); len(rest) > 0 || log.stable() < int64(len(log.entries)) {
			return fmt.Sprintf("partition %d is at offset %d of %d", tp.Partition, at, len(log.entries))
		}
	}
	return ""
}

// rest lets simulated time go by.
func rest(d time.Duration) { time.Sleep(d) }
