package crashtest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/broker/vfs"
	"go.uber.org/goleak"
)

var (
	statesFlag = flag.Int("crash.states", 1500, "crash states to open, about")
	seedFlag   = flag.Uint64("crash.seed", 1, "seed of the first workload")
)

func TestMain(m *testing.M) {
	if serveInstead() {
		return
	}
	goleak.VerifyTestMain(m)
}

// samples is how many ways each moment's crash is tried, beside the loss of everything that was not synced.
const samples = 6

// recordWorkload runs a workload and returns the disk's record and who knows what it means.
func recordWorkload(t *testing.T, seed uint64, steps int) ([]vfs.Change, *oracle) {
	t.Helper()
	r := &vfs.Recorder{FS: vfs.NewMem()}
	o := runWorkload(t, seed, steps, volume{r, dataDir}, r.Len, nil)
	return r.Changes(), o
}

// state is one way a crash may have left the disk.
type state struct {
	seed   uint64 // of the workload
	at     int    // changes that were done
	sample uint64 // of what was not synced
	last   string // the last change
	again  int    // changes that the recovery did before a second crash; 0: none
	disk   *vfs.Mem
}

func (s state) String() string {
	return fmt.Sprintf("workload seed %d, crash after change %d (%s), sample %d, again after %d", s.seed, s.at, s.last, s.sample, s.again)
}

// playback is how a record is played back.
type playback struct {
	skip  func(vfs.Change) bool // changes that the disk did not do, though it said so
	early int                   // acknowledgements count as given so many changes before they were
	every int                   // take only every so many-th moment
	// deepen is which share of the states is crashed a second time, at every change of its recovery: one in so many; 0: none.
	deepen uint64
}

// play applies changes one after the other and judges the states in between.
// It returns how many there were and the first that was refused.
func play(seed uint64, changes []vfs.Change, o *oracle, pb playback) (count int, bad state, err error) {
	states := make(chan state)
	var stop atomic.Bool
	var deeper atomic.Int64
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for s := range states {
				failed, failure := judgeState(o, s, &pb)
				deeper.Add(int64(failed.again))
				if failure != nil {
					mu.Lock()
					if err == nil {
						bad, err = failed, failure
					}
					mu.Unlock()
					stop.Store(true)
				}
			}
		})
	}
	disk := vfs.NewMem()
	player := vfs.Player{FS: disk}
	for i, c := range changes {
		if stop.Load() {
			break
		}
		if pb.skip != nil && pb.skip(c) {
			continue
		}
		if applied := player.Apply(c); applied != nil {
			mu.Lock()
			bad, err = state{seed: seed, at: i, last: c.String()}, fmt.Errorf("the record cannot be played back: %w", applied)
			mu.Unlock()
			break
		}
		if c.Kind == vfs.OpOpen || i%max(pb.every, 1) != 0 {
			continue
		}
		for sample := range uint64(samples + 1) {
			if sample > 0 {
				sample += uint64(i) * samples
			}
			states <- state{seed: seed, at: i + 1, sample: sample, last: c.String(), disk: disk.CrashClone(sample)}
			count++
		}
	}
	close(states)
	workers.Wait()
	return count + int(deeper.Load()), bad, err
}

// judgeState judges one state; now and then also those that another power cut
// leaves while the broker recovers from it. It returns the state that was refused.
func judgeState(o *oracle, s state, pb *playback) (state, error) {
	ctx := context.Background()
	kept := s.disk.Clone()
	if err := o.expect(s.at, pb.early).judge(ctx, inMemory(s.disk)); err != nil {
		s.disk = kept
		return s, err
	}
	if pb.deepen == 0 || (uint64(s.at)+s.sample)%pb.deepen != 0 {
		return s, nil
	}
	r := &vfs.Recorder{FS: kept.Clone()}
	b, err := openBroker(ctx, volume{r, dataDir})
	if err != nil {
		return s, err
	}
	changes := r.Changes()
	if err := b.Close(ctx); err != nil {
		return s, err
	}
	player := vfs.Player{FS: kept}
	for i, c := range changes {
		if err := player.Apply(c); err != nil {
			return s, fmt.Errorf("the record cannot be played back: %w", err)
		}
		if c.Kind == vfs.OpOpen {
			continue
		}
		s.again = i + 1
		s.disk = kept.CrashClone(uint64(i) * (s.sample + 1))
		left := s.disk.Clone()
		if err := o.expect(s.at, pb.early).judge(ctx, inMemory(s.disk)); err != nil {
			s.disk = left
			return s, fmt.Errorf("after a second power cut behind %s: %w", c, err)
		}
	}
	return s, nil
}

// TestCrashStates opens the broker over thousands of states that a power cut may leave.
func TestCrashStates(t *testing.T) {
	total, moments := 0, 0
	var did coverage
	for seed := *seedFlag; total < *statesFlag; seed++ {
		changes, o := recordWorkload(t, seed, 80)
		every := max(1, len(changes)*(samples+1)/max(*statesFlag-total, 1))
		n, bad, err := play(seed, changes, o, playback{every: every, deepen: 97})
		total += n
		moments += len(changes)
		did.add(changes, o)
		if err != nil {
			t.Fatalf("%v: %v\nthe disk is in %s", bad, err, save(t, bad.disk))
		}
	}
	t.Logf("%d states after %d changes of the disk, workload seeds from %d, %+v: nothing lost", total, moments, *seedFlag, did)
	if did.Segments == 0 || did.Compacted == 0 || did.Dropped == 0 || did.Deleted == 0 || did.Transactions == 0 || did.CompactedTransactions == 0 || did.Offsets == 0 || did.Heartbeats == 0 {
		t.Errorf("the workload has left something out: %+v", did)
	}
}

// coverage counts what a workload did to the disk.
type coverage struct{ Segments, Compacted, Dropped, Deleted, Transactions, CompactedTransactions, Offsets, Heartbeats int }

func (c *coverage) add(changes []vfs.Change, o *oracle) {
	c.Transactions += len(o.txns)
	c.Heartbeats += len(o.beats)
	for _, x := range o.txns {
		c.Offsets += len(x.offsets)
	}
	for _, a := range o.attempts {
		if a.txn != nil && o.lives[a.place.life].compact {
			c.CompactedTransactions++
		}
	}
	for _, x := range changes {
		switch {
		case x.Kind == vfs.OpCreate && strings.HasSuffix(x.Path, ".log"):
			c.Segments++
		case x.Kind == vfs.OpRename && strings.HasSuffix(x.Path, ".log.cleaned"):
			c.Compacted++
		case x.Kind == vfs.OpRename && strings.HasSuffix(x.To, ".log.deleted"):
			c.Dropped++
		case x.Kind == vfs.OpRemoveAll:
			c.Deleted++
		}
	}
}

// TestControls lets the disk lie and acknowledgements come early: the oracle has to notice.
func TestControls(t *testing.T) {
	for name, pb := range map[string]playback{
		"fsync of files is ignored":       {skip: func(c vfs.Change) bool { return c.Kind == vfs.OpSync }},
		"fsync of directories is ignored": {skip: func(c vfs.Change) bool { return c.Kind == vfs.OpSyncDir }},
		"acknowledged before the fsync":   {early: 3},
	} {
		t.Run(name, func(t *testing.T) {
			changes, o := recordWorkload(t, *seedFlag, 40)
			n, bad, err := play(*seedFlag, changes, o, pb)
			if err == nil {
				t.Fatalf("%d states, and nothing was noticed", n)
			}
			t.Logf("noticed, as it must be: %v: %v", bad, err)
		})
	}
}

// save writes a disk to the test's artifact directory.
func save(t *testing.T, disk *vfs.Mem) string {
	t.Helper()
	dir := t.ArtifactDir()
	if disk == nil {
		return dir
	}
	if err := saveDir(disk, dataDir, dir); err != nil {
		t.Errorf("saving the disk: %v", err)
	}
	return dir
}

func saveDir(disk *vfs.Mem, from, to string) error {
	names, err := disk.List(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	for _, name := range names {
		f, err := disk.Open(filepath.Join(from, name))
		if err != nil {
			if err := saveDir(disk, filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
			continue
		}
		size, err := f.Size()
		if err != nil {
			return err
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
