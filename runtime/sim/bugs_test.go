package sim

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestPlantedBugsAreCaught plants one bug at a time: a simulation that does not see it proves nothing.
func TestPlantedBugsAreCaught(t *testing.T) {
	for name, b := range map[string]bugs{
		"the offset is committed before the outputs":       {offsetsFirst: true},
		"zombies are not fenced":                           {noFencing: true},
		"aborted outputs are visible":                      {abortKeepsOutputs: true},
		"a release takes over in the middle":               {swapAtOnce: true},
		"a commit without an answer is taken for none":     {abortForgets: true},
		"after an abort nothing is read again":             {abortStays: true},
		"dead letters are written outside the transaction": {lettersOutside: true},
		"inputs are read before they are committed":        {readUncommitted: true},
	} {
		t.Run(name, func(t *testing.T) {
			seed, wrong := hunt(t, b)
			if seed == 0 {
				t.Fatalf("not caught in %d seeds", bugSeeds)
			}
			t.Logf("seed %d: %s", seed, wrong)
		})
	}
}

// bugSeeds are how many seeds may go by until a bug is caught.
const bugSeeds = 300

// hunt returns the first seed found that catches a bug.
func hunt(t *testing.T, b bugs) (caught uint64, wrong string) {
	var next atomic.Uint64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := next.Add(1); seed <= bugSeeds; seed = next.Add(1) {
				_, found := simulate(t, seed, b)
				if len(found) == 0 {
					continue
				}
				next.Store(bugSeeds)
				mu.Lock()
				defer mu.Unlock()
				caught, wrong = seed, found[0]
				return
			}
		})
	}
	all.Wait()
	return caught, wrong
}
