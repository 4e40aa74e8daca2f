package txn

import (
	"fmt"
	"maps"
	"math"
	"time"
)

// lastEpoch is the highest epoch that a producer is given: one more must be
// left to fence it with. Behind it comes another producer id.
const lastEpoch = math.MaxInt16 - 1

// metadata is all that is known of a transactional id. Its methods say what
// comes next and change nothing.
type metadata struct {
	producer Producer
	// previousID is the producer id before the one in force, if V2 changed it at the
	// end of a transaction; next is the one that comes into force once the prepared
	// transaction is complete. NoProducer's if there is none.
	previousID int64
	next       Producer
	// lastEpoch is the epoch before the one that the producer was told last, so
	// that it can ask again; -1 if nobody may. It is not stored.
	lastEpoch  int16
	timeout    time.Duration
	state      State
	partitions map[Partition]struct{} // never changed, only replaced
	started    time.Time              // of the open transaction
	updated    time.Time
	version    Version // of the client that opened the transaction
}

// newMetadata is a transactional id before its first producer.
func newMetadata() metadata {
	return metadata{producer: NoProducer, previousID: -1, next: NoProducer, lastEpoch: -1}
}

func (m *metadata) exhausted() bool { return m.producer.Epoch >= lastEpoch }

// owns checks that a producer is the one in force.
func (m *metadata) owns(p Producer) error {
	switch {
	case m.producer.ID != p.ID:
		return fmt.Errorf("%w: %d, the producer id is %d", ErrUnknownProducer, p.ID, m.producer.ID)
	case m.producer.Epoch != p.Epoch:
		return fmt.Errorf("%w: producer %d has epoch %d, its epoch is %d", ErrFenced, p.ID, p.Epoch, m.producer.Epoch)
	}
	return nil
}

// takeover says what InitProducerId has to do first.
type takeover int

const (
	proceed    takeover = iota // nothing: initialize gives the next state
	abortFirst                 // the open transaction has to be aborted
	newID                      // a producer id is needed
	askAgain                   // the answer was given before: the producer in force
)

// takeOver decides on InitProducerId. expected is what the producer says it
// is, NoProducer if it is a new one (KIP-360).
func (m *metadata) takeOver(expected Producer) (takeover, error) {
	fenced := fmt.Errorf("%w: it says it is producer %d with epoch %d; the transactional id belongs to %d with epoch %d",
		ErrFenced, expected.ID, expected.Epoch, m.producer.ID, m.producer.Epoch)
	known := expected.ID >= 0 && m.producer.Epoch >= 0
	if known && expected.ID != m.producer.ID && (expected.ID != m.previousID || expected.Epoch < lastEpoch) {
		return 0, fenced
	}
	current := !known || expected.ID == m.producer.ID && expected.Epoch == m.producer.Epoch
	switch {
	case m.state.prepared():
		return 0, fmt.Errorf("%w: it is %v", ErrConcurrent, m.state)
	case m.state == StateOngoing && !current:
		return 0, fenced
	case m.state == StateOngoing:
		return abortFirst, nil
	case m.producer.Epoch < 0, m.exhausted() && current:
		return newID, nil
	case current:
		return proceed, nil
	case expected.ID == m.previousID && m.producer.Epoch == 0, expected.ID == m.producer.ID && expected.Epoch == m.lastEpoch:
		return askAgain, nil
	}
	return 0, fenced
}

// initialize is the state after InitProducerId. id is the new producer id, -1
// to keep the old one with the next epoch.
func (m *metadata) initialize(id int64, expected Producer, timeout time.Duration, now time.Time) metadata {
	n := newMetadata()
	n.timeout, n.updated = timeout, now
	n.producer = Producer{m.producer.ID, m.producer.Epoch + 1}
	if expected.ID >= 0 {
		n.lastEpoch = m.producer.Epoch
	}
	if id >= 0 {
		n.producer, n.lastEpoch = Producer{id, 0}, -1
		if expected.ID >= 0 {
			n.previousID = m.producer.ID
		}
	}
	return n
}

// add is the state after partitions were added; changed is false if they had been before.
func (m *metadata) add(p Producer, partitions []Partition, v Version, now time.Time) (n metadata, changed bool, err error) {
	if err := m.owns(p); err != nil {
		return *m, false, err
	}
	if m.state.prepared() {
		return *m, false, fmt.Errorf("%w: it is %v", ErrConcurrent, m.state)
	}
	n = *m
	if len(partitions) == 0 {
		return n, false, nil
	}
	if m.state != StateOngoing {
		n.state, n.started, n.partitions, changed = StateOngoing, now, nil, true
	}
	if n.version != v {
		n.version, changed = v, true
	}
	var added map[Partition]struct{}
	for _, tp := range partitions {
		if _, ok := n.partitions[tp]; !ok {
			if added == nil {
				added = maps.Clone(n.partitions)
			}
			if added == nil {
				added = make(map[Partition]struct{})
			}
			added[tp] = struct{}{}
		}
	}
	if added != nil {
		n.partitions, changed = added, true
	}
	n.updated = now
	return n, changed, nil
}

// holds checks that a producer may write to a partition now.
func (m *metadata) holds(p Producer, tp Partition) error {
	if err := m.owns(p); err != nil {
		return err
	}
	if m.state.prepared() {
		return fmt.Errorf("%w: it is %v", ErrConcurrent, m.state)
	}
	if _, ok := m.partitions[tp]; !ok || m.state != StateOngoing {
		return fmt.Errorf("%w: %s-%d, the transaction is %v", ErrNotInTransaction, tp.Topic, tp.Partition, m.state)
	}
	return nil
}

// end decides on EndTxn: done is true if it was carried out before.
func (m *metadata) end(p Producer, commit bool, v Version) (done bool, err error) {
	if v == V2 {
		return m.endV2(p, commit)
	}
	if err := m.owns(p); err != nil {
		return false, err
	}
	switch {
	case m.state == StateOngoing:
		return false, nil
	case m.state == preparedState(commit):
		return false, fmt.Errorf("%w: it is %v", ErrConcurrent, m.state)
	case m.state == completedState(commit):
		return true, nil
	}
	return false, m.cannotEnd(commit)
}

// endV2 tells a repeated request by the epoch, which grew with the first one.
func (m *metadata) endV2(p Producer, commit bool) (done bool, err error) {
	overflown := m.previousID == p.ID && p.Epoch == lastEpoch && m.producer.Epoch == 0
	if m.producer.ID != p.ID && !overflown {
		return false, m.owns(p)
	}
	again := overflown || m.producer.ID == p.ID && m.producer.Epoch == p.Epoch+1
	switch {
	case m.state.prepared():
		if !again {
			return false, m.fenced(p)
		}
		if m.state != preparedState(commit) {
			return false, m.cannotEnd(commit)
		}
		return false, fmt.Errorf("%w: it is %v", ErrConcurrent, m.state)
	case again && m.state == completedState(commit):
		return true, nil
	case again && (m.state == StateCompleteCommit || m.state == StateCompleteAbort):
		return false, m.cannotEnd(commit)
	}
	if err := m.owns(p); err != nil {
		return false, err
	}
	if m.state == StateOngoing || !commit {
		return false, nil // a producer that is not sure to have begun may abort
	}
	return false, m.cannotEnd(commit)
}

func (m *metadata) fenced(p Producer) error {
	return fmt.Errorf("%w: producer %d has epoch %d, its epoch is %d", ErrFenced, p.ID, p.Epoch, m.producer.Epoch)
}

func (m *metadata) cannotEnd(commit bool) error {
	verb := "aborted"
	if commit {
		verb = "committed"
	}
	return fmt.Errorf("%w: it is %v and cannot be %s", ErrInvalidState, m.state, verb)
}

// prepare is the state after the decision. The epoch grows with V2, and when
// the broker aborts so that the producer cannot go on. nextID is the producer
// id that follows when the epochs of the present one are used up, else -1.
func (m *metadata) prepare(commit, bump bool, nextID int64, now time.Time) metadata {
	n := *m
	n.state, n.updated, n.lastEpoch, n.next = preparedState(commit), now, -1, NoProducer
	if m.state != StateOngoing {
		n.partitions, n.started = nil, now
	}
	if bump && m.producer.Epoch < math.MaxInt16 {
		n.producer.Epoch++
	}
	if nextID >= 0 {
		n.next = Producer{nextID, 0}
	}
	return n
}

// complete is the state after all markers.
func (m *metadata) complete(now time.Time) metadata {
	n := *m
	n.state = completedState(m.state == StatePrepareCommit)
	n.partitions, n.started, n.updated = nil, time.Time{}, now
	if m.next.ID >= 0 {
		n.previousID, n.producer, n.next = m.producer.ID, m.next, NoProducer
	}
	return n
}

// ends reports whether what a producer has open in a partition with an epoch is
// the transaction that is prepared. That it is complete may not be on record
// while its successor writes already; with V2 that one has the epoch that this
// one ended with. With V1 it is on record before it writes.
func (m *metadata) ends(epoch int16) bool {
	return epoch < m.producer.Epoch || m.version != V2 && epoch == m.producer.Epoch
}

func preparedState(commit bool) State {
	if commit {
		return StatePrepareCommit
	}
	return StatePrepareAbort
}

func completedState(commit bool) State {
	if commit {
		return StateCompleteCommit
	}
	return StateCompleteAbort
}
