package group

import "sync"

// watchers are the members in this process that want to hear of rebalances.
type watchers struct {
	watchMu  sync.Mutex
	watching map[string]map[chan<- struct{}]int
}

// Watch tells ch (by a send that does not block) when the group begins a
// rebalance or ends one, until cancel. It is for members in this process, which
// need not wait for their next heartbeat to hear of it.
func (w *watchers) Watch(group string, ch chan<- struct{}) (cancel func()) {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	if w.watching == nil {
		w.watching = map[string]map[chan<- struct{}]int{}
	}
	if w.watching[group] == nil {
		w.watching[group] = map[chan<- struct{}]int{}
	}
	w.watching[group][ch]++
	return sync.OnceFunc(func() {
		w.watchMu.Lock()
		defer w.watchMu.Unlock()
		if w.watching[group][ch]--; w.watching[group][ch] == 0 {
			delete(w.watching[group], ch)
		}
		if len(w.watching[group]) == 0 {
			delete(w.watching, group)
		}
	})
}

func (w *watchers) wake(group string) {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	for ch := range w.watching[group] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
