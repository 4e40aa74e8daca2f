// Package crashtest proves that what the broker acknowledged is there: it
// holds tests only, over the whole façade (broker.Open, topics, groups).
//
// A workload runs against a broker on a recorded file system (vfs.Recorder)
// and tells an oracle what it attempts and what was acknowledged, each with
// the number of changes the disk had seen by then. Then the record is played
// back, and after every single change the disk is taken as a power cut would
// leave it (vfs.Mem.CrashClone: what was synced only, and samples in which
// unsynced writes are lost, torn by sector or arrive in another order). A
// broker is opened over each such state, and the oracle judges it.
//
// The same on a real disk (TestPowerCut, make powercut): the workload runs on
// ext4 over a loop device over a file served by FUSE, which records every block
// that is written and every flush. Disks are made of the record as a power cut
// would leave them; the kernel mounts each of them, and the oracle judges. This
// needs root, /dev/fuse and loop devices, and is skipped where they are
// missing. All mounts are made in a mount namespace that ends with the test.
//
// Other tests let the n-th operation fail, or change single bits of a disk
// that was synced. Control runs, in which the disk lies about its flushes or
// an acknowledgement comes too early, must be found out: they show that the
// oracle sees what it looks for.
//
// A workload follows from its seed, which is printed. Goroutines of the broker
// may take turns in another order in another run; so a state that is refused
// is written to the test's artifact directory (go test -artifacts) as it was.
package crashtest
