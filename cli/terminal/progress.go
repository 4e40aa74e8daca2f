package terminal

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress tells on one line that long work goes on, if a person is looking and
// it takes longer than a moment. A nil Progress is silent.
type Progress struct {
	mu      sync.Mutex
	w       io.Writer
	what    func() string
	started time.Time
	shown   bool
	stop    chan struct{}
	stopped chan struct{}
}

// progressDelay keeps short work silent.
const progressDelay = 400 * time.Millisecond

// NewProgress starts telling about what, until Done. Without a terminal it returns nil.
func NewProgress(w io.Writer, terminal bool, what string) *Progress {
	if !terminal {
		return nil
	}
	p := &Progress{w: w, what: func() string { return what }, started: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	go p.run()
	return p
}

func (p *Progress) run() {
	defer close(p.stopped)
	t := time.NewTicker(progressDelay)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-t.C:
			p.mu.Lock()
			fmt.Fprintf(p.w, "\r\x1b[K%s … %s", p.what(), Duration(now.Sub(p.started)))
			p.shown = true
			p.mu.Unlock()
		}
	}
}

// Set changes what is told.
func (p *Progress) Set(what string) { p.Watch(func() string { return what }) }

// Watch makes what is told change by itself: what is called from another goroutine until Done.
func (p *Progress) Watch(what func() string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.what = what
	p.mu.Unlock()
}

// Done ends the telling and clears the line. It must be called once.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	close(p.stop)
	<-p.stopped
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
	}
}
