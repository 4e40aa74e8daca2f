package crashtest

import (
	"errors"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
)

var failuresFlag = flag.Int("crash.failures", 250, "failing operations to try, about")

var errDisk = errors.New("input/output error")

// failures are the ways in which operations fail: each tells from how many have been done whether this one does.
var failures = []struct {
	name string
	fail func(n int64) func(op vfs.Op, done int64) error
}{
	{"once", func(n int64) func(vfs.Op, int64) error {
		return func(_ vfs.Op, done int64) error { return failIf(done == n, errDisk) }
	}},
	{"for a while", func(n int64) func(vfs.Op, int64) error {
		return func(_ vfs.Op, done int64) error { return failIf(done >= n && done < n+40, errDisk) }
	}},
	{"disk full once", func(n int64) func(vfs.Op, int64) error {
		return func(_ vfs.Op, done int64) error { return failIf(done == n, fmt.Errorf("write: %w", vfs.ErrNoSpace)) }
	}},
	{"disk full, writes cut short", func(n int64) func(vfs.Op, int64) error {
		return func(op vfs.Op, done int64) error {
			return failIf(done >= n && done < n+12 && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpCreate),
				vfs.ShortWrite{Bytes: int(done % 90), Err: vfs.ErrNoSpace})
		}
	}},
	{"write cut short", func(n int64) func(vfs.Op, int64) error {
		return func(_ vfs.Op, done int64) error { return failIf(done == n, vfs.ShortWrite{Bytes: 70, Err: errDisk}) }
	}},
}

func failIf(fails bool, err error) error {
	if !fails {
		return nil
	}
	return err
}

// TestFailures lets the n-th operation on the disk fail, for one n after the
// other. Whatever the broker then acknowledges must be there after a restart
// and after a power cut, and nothing may be acknowledged behind a failed fsync.
func TestFailures(t *testing.T) {
	const steps = 30
	var counted atomic.Int64 // partitions are opened side by side
	runFailing(t, *seedFlag, steps, func(vfs.Op, int64) error { counted.Add(1); return nil })
	operations := counted.Load()
	cases := 0
	every := max(1, operations*int64(len(failures))/int64(*failuresFlag))
	for i, f := range failures {
		for n := 1 + int64(i)%every; n <= operations; n += every {
			seed := *seedFlag + uint64(n)%7
			disk, o := runFailing(t, seed, steps, f.fail(n))
			for name, left := range map[string]*vfs.Mem{"restart": disk.Clone(), "power cut": disk.CrashClone(0), "power cut with torn writes": disk.CrashClone(uint64(n))} {
				kept := left.Clone()
				if err := o.expect(never-1, 0).judge(t.Context(), inMemory(left)); err != nil {
					t.Fatalf("workload seed %d, operation %d fails (%s), then %s: %v\nthe disk is in %s", seed, n, f.name, name, err, save(t, kept))
				}
				cases++
			}
		}
	}
	t.Logf("%d cases, every %d-th of %d operations fails in %d ways, workload seeds from %d", cases, every, operations, len(failures), *seedFlag)
}

func runFailing(t *testing.T, seed uint64, steps int, fail func(vfs.Op, int64) error) (*vfs.Mem, *oracle) {
	t.Helper()
	disk := vfs.NewMem()
	var moments, done atomic.Int64
	o := runWorkload(t, seed, steps, inMemory(disk), func() int { return int(moments.Add(1)) }, func(op vfs.Op) error {
		if op.Kind == vfs.OpLock {
			return nil
		}
		return fail(op, done.Add(1))
	})
	return disk, o
}
