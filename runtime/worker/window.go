package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
)

// windowSlots divide the window of a failure limit: it slides by one of them.
const windowSlots = 60

// failureWindow counts what became of records within a sliding time, for all
// partitions of a release. It is safe for concurrent use.
type failureWindow struct {
	percent int64
	width   time.Duration // of a slot
	length  time.Duration

	mu     sync.Mutex
	slots  [windowSlots]outcomes
	newest int64 // number of the newest slot since the epoch
	sum    outcomes
	row    int64  // failed records since the last one that went well
	last   string // the newest failure, for people
}

// outcomes are counts of records.
type outcomes struct{ records, failed int64 }

func newFailureWindow(l deploy.FailureLimit) *failureWindow {
	if l.Percent == 0 {
		l.Percent = deploy.DefaultFailurePercent
	}
	if l.Window == 0 {
		l.Window = deploy.DefaultFailureWindow
	}
	return &failureWindow{percent: int64(l.Percent), length: l.Window, width: max(1, l.Window/windowSlots)}
}

// unlimited tells that all records may fail.
func (f *failureWindow) unlimited() bool { return f.percent >= 100 }

// add counts records of which some failed; negative numbers take back what was not committed.
func (f *failureWindow) add(o outcomes) {
	if o == (outcomes{}) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	slot := f.slide()
	slot.records += o.records
	slot.failed += o.failed
	f.sum.records += o.records
	f.sum.failed += o.failed
	if o.records > o.failed {
		f.row = 0
	}
	f.row = max(0, f.row+o.failed)
}

// slide forgets what is older than the window and returns the present slot; f.mu is held.
func (f *failureWindow) slide() *outcomes {
	now := time.Now().UnixNano() / int64(f.width)
	for n := max(f.newest+1, now-windowSlots+1); n <= now; n++ {
		old := &f.slots[n%windowSlots]
		f.sum.records -= old.records
		f.sum.failed -= old.failed
		*old = outcomes{}
	}
	f.newest = max(f.newest, now)
	return &f.slots[f.newest%windowSlots]
}

// Verdict of a failureWindow: too many failed of so many, all in the window unless inARow.
type tooMany struct {
	outcomes
	percent int64
	window  time.Duration
	inARow  bool
}

// exceeded tells whether the limit is reached with these records on top. A window with fewer records
// than must fail at least says nothing of a module that fails slowly: then the last ones in a row count, whenever they were.
func (f *failureWindow) exceeded(more outcomes) *tooMany {
	if f.unlimited() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slide()
	sum := outcomes{f.sum.records + more.records, f.sum.failed + more.failed}
	switch {
	case sum.failed >= deploy.MinFailures && sum.failed*100 >= f.percent*sum.records:
		return &tooMany{outcomes: sum, percent: f.percent, window: f.length}
	case sum.records < deploy.MinFailures && more.failed == more.records && f.row+more.failed >= deploy.MinFailures:
		n := f.row + more.failed
		return &tooMany{outcomes: outcomes{n, n}, percent: f.percent, window: f.length, inARow: true}
	}
	return nil
}

// note remembers the newest failure.
func (f *failureWindow) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = what
}

// notice tells people about failures in the window that are no reason to stop; "" if there are none.
func (f *failureWindow) notice() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slide()
	if f.sum.failed <= 0 {
		return ""
	}
	text := fmt.Sprintf("%d of %d records of the last %s failed, the newest at %s", f.sum.failed, f.sum.records, f.length, f.last)
	if !f.unlimited() {
		text += fmt.Sprintf("; the limit is %d %%, from %d on", f.percent, deploy.MinFailures)
	}
	return text
}
