package host_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/runtime/module/wasmtest/hostile"
)

// BenchmarkRunaway runs a guest without end while another goroutine forces
// collections: how late it is stopped, and the longest gap of a ticker meanwhile.
func BenchmarkRunaway(b *testing.B) {
	const wallTime = 250 * time.Millisecond
	wasm := wasmtest.Guest{Process: hostile.Forever(code())}.Bytes()
	h := newHost(b, host.Options{})
	p, err := h.Compile(b.Context(), wasm, host.Limits{FuelPerCall: 1 << 60, WallTime: wallTime})
	if err != nil {
		b.Fatal(err)
	}
	var longestGap, latest time.Duration
	for b.Loop() {
		i, err := p.Instantiate(b.Context(), oneOutput(""), nil)
		if err != nil {
			b.Fatal(err)
		}
		stop, gap := make(chan struct{}), make(chan time.Duration)
		go func() { gap <- watchGaps(stop) }()
		start := time.Now()
		if _, _, err := run(b.Context(), i, host.Batch{}, value("a")); err == nil {
			b.Fatal("the guest came to an end")
		}
		latest = max(latest, time.Since(start)-wallTime)
		close(stop)
		longestGap = max(longestGap, <-gap)
		if err := i.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(longestGap.Microseconds())/1000, "longest-gap-ms")
	b.ReportMetric(float64(latest.Microseconds())/1000, "stopped-late-ms")
}

// watchGaps returns the longest time between two ticks of 1 ms, forcing a
// collection every 20 ms.
func watchGaps(stop chan struct{}) time.Duration {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	var longest time.Duration
	last := time.Now()
	collected := last
	for {
		select {
		case <-stop:
			return longest
		case <-ticker.C:
		}
		now := time.Now()
		longest = max(longest, now.Sub(last))
		if now.Sub(collected) > 20*time.Millisecond {
			runtime.GC()
			collected = time.Now()
		}
		last = now
	}
}
