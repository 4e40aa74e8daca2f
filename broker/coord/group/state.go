package group

// State is the state of a classic group.
type State int8

// The states of a group and how it moves between them:
//
//	Empty → PreparingRebalance            a member joins
//	PreparingRebalance → CompletingRebalance   every member has joined, or the rebalance timeout is over
//	PreparingRebalance → Empty            nobody is left
//	CompletingRebalance → Stable          the leader has brought the assignment
//	CompletingRebalance, Stable → PreparingRebalance   a member joins, leaves, is lost, or the leader rejoins
//	Empty → Dead                          deleted, or nothing is left to remember
const (
	StateEmpty State = iota
	StatePreparingRebalance
	StateCompletingRebalance
	StateStable
	StateDead
)

// String returns Kafka's name of the state.
func (s State) String() string {
	switch s {
	case StateEmpty:
		return "Empty"
	case StatePreparingRebalance:
		return "PreparingRebalance"
	case StateCompletingRebalance:
		return "CompletingRebalance"
	case StateStable:
		return "Stable"
	case StateDead:
		return "Dead"
	}
	return "Unknown"
}
