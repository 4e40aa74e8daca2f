//go:build race

package sim

// defaultSeeds: the race detector takes its time.
const defaultSeeds = 100
