// Package sim runs whole deployments in simulated time and looks for outputs that are lost,
// repeated, out of order or torn. It is tests only: workers as they are, guests that are
// functions, and a log in memory that behaves like a cluster as far as a worker can see one:
// producer epochs, open and aborted transactions, members that are dropped when they are silent,
// requests that take their time, are lost, or arrive after their sender has died.
//
// Each seed is one run of its own: how many partitions and workers, what is written, which
// records are poison, who is killed, paused, stopped or replaced and when, and what the
// network and the disks do meanwhile. All of it is drawn from the seed; what is not is the order of
// goroutines that are ready at the same instant. A failure prints its seed and options;
// `go test ./runtime/sim -v -run TestSimulation -sim.seed N` runs it again. Bugs that are planted in the cluster prove that
// the simulation would see them.
package sim
