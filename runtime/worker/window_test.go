package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
)

func TestTheWindowSlides(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		f := newFailureWindow(deploy.FailureLimit{Window: time.Minute})
		f.add(outcomes{99, 99})
		if f.exceeded(outcomes{2, 1}) == nil {
			t.Error("100 of 101 are not too many")
		}
		time.Sleep(59 * time.Second)
		f.add(outcomes{10, 0})
		if over := f.exceeded(outcomes{1, 1}); over == nil || over.failed != 100 || over.records != 110 {
			t.Errorf("after a minute but a second: %+v", over)
		}
		time.Sleep(2 * time.Second)
		if over := f.exceeded(outcomes{99, 99}); over != nil {
			t.Errorf("those of a minute ago count still: %+v", over)
		}
		time.Sleep(time.Hour)
		f.add(outcomes{500, 0})
		f.add(outcomes{200, 200})
		if over := f.exceeded(outcomes{1, 1}); over != nil {
			t.Errorf("201 of 701 are too many: %+v", over)
		}
		f.add(outcomes{-200, -200})
		if f.sum != (outcomes{500, 0}) || f.row != 0 {
			t.Errorf("what was taken back counts still: %+v, %d in a row", f.sum, f.row)
		}
	})
}

// A hint may be wrong: a transaction does not wait for records for longer than it may last.
func TestATransactionDoesNotWaitForRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newStill(t, 1)
		s.ready, s.polls = true, 1 // one fetch, then nothing
		started := time.Now()
		for s.commits == 0 {
			if err := p.once(); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(started); took != DefaultCommitInterval {
			t.Errorf("it was committed after %v, want %v", took, DefaultCommitInterval)
		}
		p.close()
		if err := p.w.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
