package worker

import (
	"time"

	"github.com/millstream-io/millstream/runtime/host"
)

const (
	// callBytes is the size of the guest's input area, and so of a call's batch.
	callBytes = 256 << 10
	// pollBytes of the log make, in the guests' form, one batch of callBytes or a little less.
	pollBytes = 192 << 10
	// minCallBytes is how small the area may become for a guest that cannot give more.
	minCallBytes = 4 << 10
	// maxCallRecords bounds the bookkeeping of a call.
	maxCallRecords = 1 << 16
)

// sizing finds how many records go into one call of a guest, so that a call
// takes at most about half of its fuel and of its time.
type sizing struct {
	fuelBudget int64
	timeBudget time.Duration

	bytes   int // of the input area
	records int
	// Averages over the last calls; 0 = unknown.
	fuelPerRecord float64
	timePerRecord float64
}

func newSizing(l host.Limits) sizing {
	return sizing{fuelBudget: l.FuelPerCall / 2, timeBudget: l.WallTime / 2, bytes: callBytes, records: maxCallRecords}
}

// succeeded learns from a call that went well.
func (s *sizing) succeeded(n int, fuel int64, took time.Duration) {
	s.fuelPerRecord = average(s.fuelPerRecord, float64(fuel)/float64(n))
	s.timePerRecord = average(s.timePerRecord, float64(took)/float64(n))
	s.records = min(2*s.records, maxCallRecords)
	// Every further record adds a hundredth to the fuel of a call (host.Limits).
	s.fit(float64(s.fuelBudget), s.fuelPerRecord-float64(s.fuelBudget)/100)
	s.fit(float64(s.timeBudget), s.timePerRecord)
}

// fit lowers the number of records to what a budget allows at so much for each.
func (s *sizing) fit(budget, each float64) {
	if budget > 0 && each*float64(s.records) > budget {
		s.records = max(1, int(budget/each))
	}
}

// exceeded learns from a call of n records that was stopped for taking too much.
func (s *sizing) exceeded(n int) {
	s.records = max(1, n/2)
	// What was known of single records is no longer true.
	s.fuelPerRecord, s.timePerRecord = 0, 0
}

// refused learns that the guest has no room for an area of this size; it tells
// whether a smaller one can be tried. The area stays that small.
func (s *sizing) refused() bool {
	if s.bytes <= minCallBytes {
		return false
	}
	s.bytes /= 2
	return true
}

func average(old, latest float64) float64 {
	if old == 0 {
		return latest
	}
	return old + (latest-old)/4
}
