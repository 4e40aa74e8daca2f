package txn

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
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
	mem *vfs.Mem

	mu           sync.Mutex
	on           bool
	acknowledged int
	crashes      []crash
}

func (r *recorder) decide(op vfs.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on && op.Kind.Mutates() {
		for seed := range uint64(3) {
			r.crashes = append(r.crashes, crash{r.mem.CrashClone(seed), r.acknowledged, fmt.Sprintf("before %s %s, seed %d", op.Kind, op.Path, seed)})
		}
	}
	return nil
}

// committedUpTo checks that values are 1, 2, … without those that were aborted, and returns the last.
func committedUpTo(t *testing.T, at, values string) int {
	t.Helper()
	last := 0
	for i, v := range strings.Fields(values) {
		n, err := strconv.Atoi(v)
		if want := []int{1, 2, 4, 5}[i]; err != nil || n != want {
			t.Errorf("%s: committed %q, the %dth should be %d", at, values, i+1, want)
		}
		last = n
	}
	return last
}

// TestCrashAtEveryStep cuts power before every operation on the disk while
// transactions 1, 2, 4 and 5 are committed and 3 is aborted. Whatever is
// left: what was acknowledged is there, each transaction is in both topics and
// in the group's offsets or in none of them, nothing stays open for ever, and the
// producer's successor can write.
func TestCrashAtEveryStep(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			r := &recorder{mem: vfs.NewMem()}
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
			t.Logf("%d crash states", len(r.crashes))
			if len(r.crashes) < 100 {
				t.Fatalf("only %d crash states: the recorder is broken", len(r.crashes))
			}
			for _, c := range r.crashes {
				afterCrash(t, c, v)
			}
		})
	}
}

func afterCrash(t *testing.T, c crash, v Version) {
	t.Helper()
	w := newWorld(t, c.disk, Options{})
	check := func(when string) {
		t.Helper()
		at := fmt.Sprintf("power cut %s, %s", c.at, when)
		a := committedUpTo(t, at, w.committed("a"))
		b := committedUpTo(t, at, w.committed("b"))
		offset := int(w.groupOffset())
		if acknowledged := max(c.acknowledged, 0); a != b || a != offset || a < acknowledged && !(acknowledged == 3 && a == 2) {
			t.Errorf("%s: topics have %d and %d, the group %d; %d were acknowledged", at, a, b, offset, acknowledged)
		}
	}
	check("after the restart")
	if open := !w.stable(); open && !strings.HasPrefix(w.state(), StateOngoing.String()) {
		t.Errorf("power cut %s: something is open, the transaction is %s", c.at, w.state())
	}
	p, err := w.c.InitProducer(context.Background(), id, NoProducer, time.Minute)
	must(t, err)
	check("after another producer")
	if !w.stable() {
		t.Errorf("power cut %s: something is open after another producer", c.at)
	}
	a := w.committed("a")
	must(t, w.do(p, v, 0, 99))
	_, err = w.c.End(context.Background(), id, p, true, v)
	must(t, err)
	if got := w.committed("a"); got != strings.TrimSpace(a+" 99") || w.groupOffset() != 99 {
		t.Errorf("power cut %s: then committed %q, offset %d", c.at, got, w.groupOffset())
	}
	must(t, w.close())
}
