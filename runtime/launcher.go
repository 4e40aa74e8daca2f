package runtime

import (
	"context"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
)

// Launcher runs deployments outside of this process, each in one of its own
// that follows the catalog over the log (package isolation has one with child
// processes). A runtime with a launcher runs no guest itself, not even to prove a module: it keeps the catalog,
// decides what should run, and asks the launcher how it does.
//
// Safe for concurrent use; calls for one deployment take turns.
type Launcher interface {
	// Prove compiles a module and starts it once with its configuration, in a process of its own. Errors are what
	// a worker in this process would give: *module.Refusal, *host.Trap and *host.SetupError where the module is at fault.
	Prove(ctx context.Context, p Proof) error
	// Start sees to it that from now on the deployment runs as the catalog has it, whatever
	// becomes of its process, until Stop. It does not wait, and does nothing for one that was started.
	// The process follows the catalog: a new version needs no other Start.
	Start(name string)
	// Stop finishes what is in hand, commits and leaves the group; when ctx ends first the process is killed.
	// It returns when the process is gone, and does nothing for a deployment that was not started.
	Stop(ctx context.Context, name string) error
	// Watch has f told what becomes of processes that nobody asked for: that one has ended, and why. It is called
	// once, before any Start; f does not wait for anything.
	Watch(f func(name, event string))
	// Status tells how a started deployment does. It asks nobody that may not answer: what it tells is at most a second old.
	Status(name string) Launched
}

// Proof is what a module is proved with.
type Proof struct {
	Wasm   []byte
	Setup  host.Setup
	Limits host.Limits
}

// Launched is how a deployment does in a process of its own.
type Launched struct {
	Phase  string // one of package worker
	Reason string
	// Version of the deployment that the process has in hand; 0: it has not told yet.
	Version int
	// Counts are those of the present process.
	Counts Counts
	// Replacing are its partitions that have not changed over to the newest version yet.
	Replacing int
	// Owned are the partitions that it works on, without their positions.
	Owned map[engine.TopicPartition]PartitionStatus
}
