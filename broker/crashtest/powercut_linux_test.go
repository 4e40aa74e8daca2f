package crashtest

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"golang.org/x/sys/unix"
)

var powercutFlag = flag.Int("powercut.points", 0, "moments at which the power of a real disk is cut, about")

// envNamespace says that the process has a mount namespace of its own, in
// which nothing it mounts outlives it, and where in it there is room for disks.
const envNamespace = "MILLSTREAM_CRASHTEST_NAMESPACE"

const (
	diskBytes    = 48 << 20
	scratchBytes = 1 << 30 // for images and records, in memory
)

// TestPowerCut cuts the power of a real ext4. Every write and every flush of
// the disk below it is recorded while the broker does the workload; then, for
// one moment after the other, a disk is made as the cut would leave it. The
// kernel mounts it, which replays the journal of ext4, and the oracle judges
// the broker that is opened over it. What was written behind the last flush
// may be there, or not, or in part, whatever was written later.
func TestPowerCut(t *testing.T) { inNamespace(t, cutPower) }

func cutPower(t *testing.T, scratch string) {
	total, moments, repaired := 0, 0, 0
	var coverage cutCoverage
	for seed := *seedFlag; total < *powercutFlag; seed++ {
		cut := recordDisk(t, scratch, seed, 80, nil)
		n := min(*powercutFlag-total, 60)
		failed, err := cut.play(n, false)
		if err != nil {
			image := filepath.Join(t.ArtifactDir(), imageFile)
			t.Fatalf("workload seed %d: %v: %v\nthe disk is %s (%v)", seed, failed, err, image, writeSparse(image, failed.disk))
		}
		total += n
		moments += len(cut.events)
		repaired += cut.repaired
		coverage.add(cut)
	}
	t.Logf("%d moments of %d writes and flushes of the disk, workload seeds from %d, %+v, %d repaired by fsck: nothing lost",
		total, moments, *seedFlag, coverage, repaired)
	if c := coverage; total >= 200 && (c.Unsynced == 0 || c.Compacted == 0 || c.Dropped == 0 || c.Deleted == 0 || c.Transactions == 0 || c.Heartbeats == 0) {
		t.Errorf("the workload has left something out: %+v", c)
	}
}

// TestPowerCutControls lets the broker believe in flushes that did not happen; the oracle has to notice.
func TestPowerCutControls(t *testing.T) { inNamespace(t, cutPowerOfLiars) }

func cutPowerOfLiars(t *testing.T, scratch string) {
	points := max(*powercutFlag/5, 20)
	t.Run("the broker does not fsync", func(t *testing.T) {
		cut := recordDisk(t, scratch, *seedFlag, 40, func(op vfs.Op) error {
			if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir {
				return vfs.Ignore
			}
			return nil
		})
		mustNotice(t, cut, points, false)
	})
	t.Run("records are not synced", func(t *testing.T) {
		cut := recordDisk(t, scratch, *seedFlag, 40, func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.HasSuffix(op.Path, ".log") && !strings.Contains(op.Path, "__") {
				return vfs.Ignore
			}
			return nil
		})
		mustNotice(t, cut, points, false)
	})
	t.Run("the disk does not flush", func(t *testing.T) {
		mustNotice(t, recordDisk(t, scratch, *seedFlag, 40, nil), points, true)
	})
}

func mustNotice(t *testing.T, cut *diskRecord, points int, noFlush bool) {
	t.Helper()
	failed, err := cut.play(points, noFlush)
	if err == nil {
		t.Fatalf("%d moments, and nothing was noticed", points)
	}
	t.Logf("noticed, as it must be: %v: %v", failed, err)
}

// inNamespace runs a test in a process that has a mount namespace of its own; scratch is where there is room for disks.
func inNamespace(t *testing.T, test func(t *testing.T, scratch string)) {
	t.Helper()
	scratch := os.Getenv(envNamespace)
	if scratch != "" {
		test(t, scratch)
		return
	}
	if *powercutFlag == 0 {
		t.Skip("cutting the power of real disks is asked for by -powercut.points (make powercut)")
	}
	if missing := missingForMounts(); missing != "" {
		t.Skipf("SKIPPED: no disk can be recorded here, there is no %s", missing)
	}
	scratch = t.TempDir()
	child := exec.CommandContext(t.Context(), "/proc/self/exe", append(slices.Clone(os.Args[1:]), "-test.run=^"+t.Name()+"$", "-test.v")...)
	child.Env = append(os.Environ(), envNamespace+"="+scratch)
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // the death of this thread would count as ours
	defer runtime.UnlockOSThread()
	out, err := child.CombinedOutput()
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		t.Log(lines.Text())
	}
	if err != nil {
		t.Fatalf("in a mount namespace of its own: %v", err)
	}
}

// diskRecord is what a workload did to a disk.
type diskRecord struct {
	scratch  string
	base     []byte // the disk before
	events   []blockEvent
	oracle   *oracle
	rng      *rand.Rand
	unsynced int // moments at which there was something to lose
	mu       sync.Mutex
	repaired int
	files    fileCount
}

// recordDisk runs a workload on an ext4 on a recorded disk.
func recordDisk(t *testing.T, scratch string, seed uint64, steps int, decide func(vfs.Op) error) *diskRecord {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "record")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", scratchBytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	image := filepath.Join(dir, imageFile)
	if err := makeExt4(image, diskBytes); err != nil {
		t.Fatal(err)
	}
	d := &diskRecord{scratch: dir, rng: rand.New(rand.NewPCG(seed, 3))}
	if d.base, err = os.ReadFile(image); err != nil {
		t.Fatal(err)
	}
	stop, err := startBlockFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, recordFile)
	m, err := mountExt4(filepath.Join(dir, mountFile), filepath.Join(dir, "ext4"))
	if err == nil {
		now := func() int {
			info, err := os.Stat(record)
			if err != nil {
				t.Error(err)
				return 0
			}
			return int(info.Size())
		}
		disk := volume{&vfs.Fault{FS: vfs.OS{}, Decide: func(op vfs.Op) error {
			d.files.note(op)
			if decide == nil {
				return nil
			}
			return decide(op)
		}}, filepath.Join(m.dir, "data")}
		d.oracle = runWorkload(t, seed, steps, disk, now, nil)
		err = m.unmount()
	}
	b, readErr := os.ReadFile(record)
	if err := errors.Join(err, stop(), readErr); err != nil {
		t.Fatal(err)
	}
	if d.events, err = readBlockRecord(b); err != nil {
		t.Fatal(err)
	}
	return d
}

// fileCount counts what the broker did to its files.
type fileCount struct{ Segments, Compacted, Dropped, Deleted atomic.Int32 }

func (c *fileCount) note(op vfs.Op) {
	switch {
	case op.Kind == vfs.OpCreate && strings.HasSuffix(op.Path, ".log"):
		c.Segments.Add(1)
	case op.Kind == vfs.OpRename && strings.HasSuffix(op.Path, ".log"):
		c.Compacted.Add(1)
	case op.Kind == vfs.OpRename && strings.HasSuffix(op.Path, ".log.deleted"):
		c.Dropped.Add(1)
	case op.Kind == vfs.OpRemoveAll:
		c.Deleted.Add(1)
	}
}

// cutCoverage counts what the disks were asked for.
type cutCoverage struct {
	Writes, Flushes, Unsynced             int // of the disk; moments at which there was something to lose
	Segments, Compacted, Dropped, Deleted int // files and directories
	Transactions, Commits, Heartbeats     int
}

func (c *cutCoverage) add(d *diskRecord) {
	c.Unsynced += d.unsynced
	c.Transactions += len(d.oracle.txns)
	c.Commits += len(d.oracle.commits)
	c.Heartbeats += len(d.oracle.beats)
	c.Segments += int(d.files.Segments.Load())
	c.Compacted += int(d.files.Compacted.Load())
	c.Dropped += int(d.files.Dropped.Load())
	c.Deleted += int(d.files.Deleted.Load())
	for i := range d.events {
		if d.events[i].flush {
			c.Flushes++
		} else {
			c.Writes++
		}
	}
}

// cut is a moment at which the power fails, and what becomes of the writes that were not flushed.
type cut struct {
	at     int // event behind which it fails
	moment int // the same, as the oracle counts
	fate   fate
	disk   []byte
}

func (c cut) String() string {
	return fmt.Sprintf("cut behind event %d of the disk, %v", c.at, c.fate)
}

// play judges the disk after so many moments; noFlush: a flush makes nothing
// durable. It returns the first that was refused.
func (d *diskRecord) play(points int, noFlush bool) (failed cut, err error) {
	durable := slices.Clone(d.base)
	var pending []blockEvent
	chosen := map[int]int{}
	for range points {
		chosen[d.rng.IntN(len(d.events))]++
	}
	cuts := make(chan cut)
	done := make(chan struct{})
	var workers sync.WaitGroup
	var once sync.Once
	for worker := range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			dir := filepath.Join(d.scratch, fmt.Sprint("cut", worker))
			for c := range cuts {
				if e := d.judge(c, dir); e != nil {
					once.Do(func() { failed, err = c, e; close(done) })
				}
			}
		})
	}
	n := 0
events:
	for i, e := range d.events {
		if e.flush && !noFlush {
			for _, w := range pending {
				copy(durable[w.at:], w.data)
			}
			pending = pending[:0]
		} else if !e.flush {
			pending = append(pending, e)
		}
		for range chosen[i] {
			n++
			if len(pending) > 0 {
				d.unsynced++
			}
			c := cut{at: i, moment: e.end, fate: fate(n % int(fates))}
			c.disk = c.fate.apply(durable, pending, d.rng)
			select {
			case cuts <- c:
			case <-done:
				break events
			}
		}
	}
	close(cuts)
	workers.Wait()
	return failed, err
}

// judge mounts a disk and opens a broker over it.
func (d *diskRecord) judge(c cut, dir string) (err error) {
	image := dir + ".image"
	if err := writeSparse(image, c.disk); err != nil {
		return err
	}
	m, err := mountExt4(image, dir)
	if err != nil {
		out, _ := exec.Command("e2fsck", "-p", image).CombinedOutput()
		var again error
		if m, again = mountExt4(image, dir); again != nil {
			return fmt.Errorf("%w; after e2fsck (%s): %w", err, out, again)
		}
		d.mu.Lock()
		d.repaired++
		d.mu.Unlock()
	}
	defer func() { err = errors.Join(err, m.unmount(), os.Remove(image)) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return d.oracle.expect(c.moment, 0).judge(ctx, volume{vfs.OS{}, filepath.Join(m.dir, "data")})
}
