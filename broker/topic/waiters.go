package topic

import (
	"sync"
	"sync/atomic"
)

// waiters are the channels that want to hear of changes. A channel with room
// for one loses nothing: what it holds already says "look again".
type waiters struct {
	count atomic.Int32
	mu    sync.Mutex
	chans map[chan<- struct{}]int
}

// add registers ch; a channel may be registered several times.
func (w *waiters) add(ch chan<- struct{}) (cancel func()) {
	w.mu.Lock()
	if w.chans == nil {
		w.chans = make(map[chan<- struct{}]int)
	}
	w.chans[ch]++
	w.count.Add(1)
	w.mu.Unlock()
	var once sync.Once
	return func() {
		once.Do(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.count.Add(-1)
			if w.chans[ch]--; w.chans[ch] == 0 {
				delete(w.chans, ch)
			}
		})
	}
}

// wake tells all waiters without waiting for any.
func (w *waiters) wake() {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.chans {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
