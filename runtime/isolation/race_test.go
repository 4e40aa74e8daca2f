//go:build race

package isolation_test

// underRace: the race detector needs more memory than the cap of a child allows.
const underRace = true
