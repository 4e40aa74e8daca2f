//go:build !race

package isolation_test

const underRace = false
