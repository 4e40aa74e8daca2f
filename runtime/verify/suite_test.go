// Package verify proves on the real binary what is promised of transactions:
// nothing lost, nothing twice, nothing out of order, nothing torn, whatever
// dies meanwhile. It holds tests only.
//
// TestHistories lets transactional clients run against a server that is killed,
// paused and cut off, through a proxy that delays requests and delivers them
// when their connection is long gone, and has the recorded history checked by
// the package history. TestVerify sends known sequences through deployments and
// compares what comes out. Planted bugs, in the proxy or by a deployment that
// promises less, show that both would notice. TestVerifyKafka does both with
// workers over a cluster of Apache Kafka, of which one node at a time is killed
// or paused as well.
//
// The binary comes from MILLSTREAM_SUITES_BINARY; without it the tests are
// skipped. `make histories verify verify-kafka` runs them briefly; -verify.duration
// and -verify.kills make them long. Every run prints its seed, and -verify.seed
// runs its choices again (their times depend on the machine).
package verify

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	envBinary = "MILLSTREAM_SUITES_BINARY" // the binary under test
	envKept   = "MILLSTREAM_SUITES_DIR"    // where the logs and histories of failures are kept
)

var (
	flagSeed     = flag.Uint64("verify.seed", 0, "seed of all choices; 0: a new one")
	flagDuration = flag.Duration("verify.duration", 15*time.Second, "how long each history is recorded; over a cluster, which recovers more slowly, twice as long")
	flagKills    = flag.Int("verify.kills", 20, "how often TestVerifyEmbedded kills; the others do less often, as they recover more slowly")
)

// binaryPath is the path of the binary under test.
func binaryPath(t *testing.T) string {
	t.Helper()
	b := os.Getenv(envBinary)
	if b == "" {
		t.Skipf("%s is not set: run make histories or make verify", envBinary)
	}
	if abs, err := filepath.Abs(b); err == nil {
		return abs
	}
	return b
}

// seed is the seed of a test, printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := *flagSeed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	return s
}

// random is a source of choices of its own for each part of a test.
func random(seed uint64, part int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(part))) }

// between picks a duration.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// keptDir is a directory that outlives a test that fails.
func keptDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(envKept), "millstream-verify-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs are in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

// within waits for a condition.
func within(t *testing.T, limit time.Duration, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}
