package txn

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
)

// inTopic reports whether a path is in the directory of partition 0 of a topic.
func inTopic(path, name string) bool { return filepath.Base(filepath.Dir(path)) == name+"-0" }

// crash is a disk as a power cut would leave it, and how many transactions were
// acknowledged by then: all before in-doubt ones.
type crash struct {
	disk         *vfs.Mem
	acknowledged int
	at           string
}

// recorder takes the disk at every operation that changes it.
type recorder struct {
	mem  *vfs.Mem
	lies bool // nothing is ever synced

	mu           sync.Mutex
	on           bool
	acknowledged int
	crashes      []crash
}

func (r *recorder) decide(op vfs.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on && op.Kind == vfs.OpSync && r.lies {
		return vfs.Ignore
	}
	if r.on && op.Kind.Mutates() {
		for seed := range uint64(3) {
			r.crashes = append(r.crashes, crash{r.mem.CrashClone(seed), r.acknowledged, fmt.Sprintf("before %s %s, seed %d", op.Kind, op.Path, seed)})
		}
	}
	return nil
}

// committedUpTo checks that values are 1, 2, … without those that were aborted, and returns the last.
func committedUpTo(values string) (last int, ok bool) {
	for i, v := range strings.Fields(values) {
		n, err := strconv.Atoi(v)
		if want := []int{1, 2, 4, 5}; err != nil || i >= len(want) || n != want[i] {
			return 0, false
		}
		last = n
	}
	return last, true
}

// record has transactions 1, 2, 4 and 5 committed and 3 aborted, with the power cut before every operation on the disk.
func (r *recorder) record(t *testing.T, v Version) {
	t.Helper()
	w := newWorld(t, &vfs.Fault{FS: r.mem, Decide: r.decide}, Options{})
	p, sequence := w.init(NoProducer), int32(0)
	r.on = true
	for n := 1; n <= 5; n++ {
		must(t, w.do(p, v, sequence, n))
		next, err := w.c.End(context.Background(), id, p, n != 3, v)
		must(t, err)
		if sequence++; next != p {
			sequence = 0
		}
		p = next
		r.mu.Lock()
		r.acknowledged = n
		r.mu.Unlock()
	}
	r.mu.Lock()
	r.on = false
	r.mu.Unlock()
	must(t, w.close())
	if len(r.crashes) < 100 {
		t.Fatalf("only %d crash states: the recorder is broken", len(r.crashes))
	}
}

// TestCrashAtEveryStep: whatever a power cut leaves, what was acknowledged is
// there, each transaction is in both topics and in the group's offsets or in
// none of them, nothing stays open for ever, and the producer's successor can write.
func TestCrashAtEveryStep(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			r := &recorder{mem: vfs.NewMem()}
			r.record(t, v)
			for _, c := range r.crashes {
				for _, problem := range afterCrash(t, c, v) {
					t.Errorf("power cut %s: %s", c.at, problem)
				}
			}
		})
	}
}

// TestCrashWithoutSync: the test above finds something when there is something to be found.
func TestCrashWithoutSync(t *testing.T) {
	r := &recorder{mem: vfs.NewMem(), lies: true}
	r.record(t, V2)
	problems := 0
	for _, c := range r.crashes {
		problems += len(afterCrash(t, c, V2))
	}
	if problems == 0 {
		t.Errorf("a disk that syncs nothing loses nothing in %d power cuts", len(r.crashes))
	}
}

// afterCrash opens what a power cut has left and lists what is wrong with it.
func afterCrash(t *testing.T, c crash, v Version) (problems []string) {
	t.Helper()
	w, err := openWorld(t, c.disk, Options{})
	defer w.close()
	for _, name := range []string{"a", "b"} {
		if err == nil {
			_, err = w.topics.Partition(name, 0)
		}
	}
	if err != nil {
		return []string{err.Error()}
	}
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	check := func(when string) {
		a, okA := committedUpTo(w.committed("a"))
		b, okB := committedUpTo(w.committed("b"))
		// The third was aborted: that it was acknowledged is not to be seen.
		lost := a < c.acknowledged && !(c.acknowledged == 3 && a == 2)
		if offset := int(w.groupOffset()); !okA || !okB || a != b || a != offset || lost {
			complain("%s: topics have %q and %q, the group %d; %d were acknowledged", when, w.committed("a"), w.committed("b"), offset, c.acknowledged)
		}
	}
	check("after the restart")
	if open := !w.stable(); open && !strings.HasPrefix(w.state(), StateOngoing.String()) {
		complain("something is open, the transaction is %s", w.state())
	}
	p, err := w.c.InitProducer(context.Background(), id, NoProducer, time.Minute)
	if err != nil {
		return append(problems, err.Error())
	}
	check("after another producer")
	if !w.stable() {
		complain("something is open after another producer")
	}
	a := w.committed("a")
	if err = w.do(p, v, 0, 99); err == nil {
		_, err = w.c.End(context.Background(), id, p, true, v)
	}
	if got := w.committed("a"); err != nil || got != strings.TrimSpace(a+" 99") || w.groupOffset() != 99 {
		complain("then committed %q, offset %d, %v", got, w.groupOffset(), err)
	}
	return problems
}

// TestSuccessorOfAHalfEndedTransaction: a power cut leaves a transaction that is decided without one of
// its markers, and the next one of its producer on no record; then the marker cannot be written
// for a while. What the next one has left is taken up nevertheless, or a later commit would commit it.
func TestSuccessorOfAHalfEndedTransaction(t *testing.T) {
	found := 0
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			if successorIsTakenUp(t, seed) {
				found++
			}
		})
	}
	if found == 0 {
		t.Error("no power cut leaves the successor without the marker: the test is broken")
	}
}

// successorIsTakenUp reports whether the power cut of the seed leaves what the test is about.
func successorIsTakenUp(t *testing.T, seed uint64) bool {
	disk := vfs.NewMem()
	w := newWorld(t, disk, Options{})
	by := w.writer()
	must(t, w.fill(by, 1))
	must(t, by.Commit(t.Context()))
	must(t, by.Add(Partition{Topic: "a"}))
	must(t, by.Within(Partition{Topic: "a"}, func() error { return w.append("a", by.Producer(), 2) }))
	must(t, w.part("a").WaitDurable(t.Context(), w.part("a").Offsets().LogEnd))
	left := disk.CrashClone(seed)
	must(t, w.close())
	var full atomic.Bool
	full.Store(true)
	w = newWorld(t, &vfs.Fault{FS: left, Decide: func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite && inTopic(op.Path, "b") && filepath.Ext(op.Path) == ".log" {
			return vfs.ErrNoSpace
		}
		return nil
	}}, Options{})
	defer w.close()
	reached := strings.HasPrefix(w.state(), "Prepare") && len(w.part("a").OpenTransactions()) > 0
	full.Store(false)
	time.Sleep(5 * time.Second)
	next := w.writer()
	if !w.stable() {
		t.Errorf("seed %d: something is open after another producer: %s", seed, w.state())
	}
	must(t, w.fill(next, 3))
	must(t, next.Commit(t.Context()))
	if a, b := w.committed("a"), w.committed("b"); a != "1 3" || b != "1 3" {
		t.Errorf("seed %d: topics have %q and %q, want 1 and 3", seed, a, b)
	}
	return reached
}
