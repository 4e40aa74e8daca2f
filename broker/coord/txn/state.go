package txn

// State is the state of a transactional id. The numbers are those of the stored format.
type State int8

// The states and how a transactional id moves between them:
//
//	Empty, CompleteCommit, CompleteAbort → Ongoing   a partition or a group's offsets are added
//	Ongoing → PrepareCommit, PrepareAbort            the producer ends it, it times out, or another producer takes over
//	PrepareCommit → CompleteCommit                   all markers are durable
//	PrepareAbort → CompleteAbort
//	Empty, CompleteCommit, CompleteAbort → PrepareAbort   a V2 producer aborts what it is not sure to have begun
//	Empty, CompleteCommit, CompleteAbort → Empty     a producer is initialized
//	PrepareCommit, PrepareAbort → Ongoing            complete, with the next transaction open since before a power cut
//
// Dead and PrepareEpochFence are Kafka's; they have names only.
const (
	StateEmpty State = iota
	StateOngoing
	StatePrepareCommit
	StatePrepareAbort
	StateCompleteCommit
	StateCompleteAbort
	StateDead
	StatePrepareEpochFence
)

// names are Kafka's names of the states.
func names() []string {
	return []string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}
}

// String returns Kafka's name of the state.
func (s State) String() string {
	if n := names(); s >= 0 && int(s) < len(n) {
		return n[s]
	}
	return "Unknown"
}

// ParseState finds a state by Kafka's name.
func ParseState(name string) (State, bool) {
	for i, n := range names() {
		if n == name {
			return State(i), true
		}
	}
	return 0, false
}

// prepared reports whether the end is decided and not carried out.
func (s State) prepared() bool { return s == StatePrepareCommit || s == StatePrepareAbort }

// idle reports whether no transaction is open or being ended.
func (s State) idle() bool {
	return s == StateEmpty || s == StateCompleteCommit || s == StateCompleteAbort
}
