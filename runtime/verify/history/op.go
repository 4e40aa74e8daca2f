// Package history checks recorded histories of Kafka clients for the anomalies
// that Kafka's model of transactions forbids, after jepsen.tests.kafka.
//
// A history is what clients saw: sends with the offsets they were acknowledged
// at, polls with the records they returned, transactions of both, each with its
// outcome. From it the checker infers the order of each log, and from that the
// anomalies; it never looks into the broker. Check is pure: the same history
// gives the same result, whatever recorded it. Tests import this package,
// production code does not.
//
// Outcomes are three-valued. An operation whose outcome is unknown (Info: the
// connection was cut while the commit was on its way) may have happened or not;
// it counts as committed as soon as somebody read one of its values, and then
// all of its values have to be there. Polls count whatever became of their
// transaction: a consumer of committed records never sees others.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Outcome is what a client knows of an operation.
type Outcome string

// Outcomes. An operation that never returned is Info.
const (
	OK   Outcome = "ok"   // it happened
	Fail Outcome = "fail" // it did not, and never will
	Info Outcome = "info" // unknown
)

// Kind of an operation.
type Kind string

// Kinds of operations. Assign and Subscribe replace what the process consumes;
// a process whose client was thrown away (Crash) goes on under another number.
const (
	Send      Kind = "send"
	Poll      Kind = "poll"
	Txn       Kind = "txn"
	Assign    Kind = "assign"
	Subscribe Kind = "subscribe"
	Crash     Kind = "crash"
)

// Unknown is the offset of a send that was never acknowledged.
const Unknown int64 = -1

// Record is a value at an offset. Values are unique within a history.
type Record struct {
	Offset int64 `json:"o"`
	Value  int64 `json:"v"`
}

// Step is one micro-operation: a send if Key is set, otherwise a poll.
type Step struct {
	Key    string              `json:"key,omitempty"`
	Sent   Record              `json:"sent,omitzero"`
	Polled map[string][]Record `json:"polled,omitempty"` // by key, in the order in which they came
}

// Op is an operation from invocation to completion. A key is a partition of a
// topic, written as topic/partition.
type Op struct {
	Process    int           `json:"process"`
	Kind       Kind          `json:"kind"`
	Outcome    Outcome       `json:"outcome"`
	Steps      []Step        `json:"steps,omitempty"`
	Keys       []string      `json:"keys,omitempty"`       // of Assign and Subscribe
	Rebalanced []string      `json:"rebalanced,omitempty"` // keys that came or went meanwhile
	Group      string        `json:"group,omitempty"`      // whose offsets the transaction committed
	Invoked    time.Duration `json:"invoked"`
	Completed  time.Duration `json:"completed"`
	Error      string        `json:"error,omitempty"`
}

func (o *Op) transactional() bool { return o.Kind == Send || o.Kind == Poll || o.Kind == Txn }

// String is the operation in one line, records elided beyond a few.
func (o *Op) String() string {
	s := fmt.Sprintf("process %d %s %s [%.3fs–%.3fs]", o.Process, o.Kind, o.Outcome, o.Invoked.Seconds(), o.Completed.Seconds())
	for _, step := range o.Steps {
		if step.Key != "" {
			s += fmt.Sprintf(" send(%s, %s)", step.Key, step.Sent)
			continue
		}
		s += " poll("
		for i, key := range sortedKeys(step.Polled) {
			if i > 0 {
				s += " "
			}
			s += key + ":" + elide(step.Polled[key])
		}
		s += ")"
	}
	if len(o.Keys) > 0 {
		s += fmt.Sprintf(" %v", o.Keys)
	}
	if o.Error != "" {
		s += " (" + o.Error + ")"
	}
	return s
}

// String is value@offset.
func (r Record) String() string {
	if r.Offset == Unknown {
		return fmt.Sprintf("%d@?", r.Value)
	}
	return fmt.Sprintf("%d@%d", r.Value, r.Offset)
}

func elide(records []Record) string {
	const shown = 3
	if len(records) <= 2*shown {
		return fmt.Sprint(records)
	}
	head, tail := fmt.Sprint(records[:shown]), fmt.Sprint(records[len(records)-shown:])
	return fmt.Sprintf("%s…%d…%s", head[:len(head)-1], len(records)-2*shown, tail[1:])
}

// Write writes a history as lines of JSON, to be looked at or read again.
func Write(w io.Writer, ops []Op) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for i := range ops {
		if err := enc.Encode(&ops[i]); err != nil {
			return err
		}
	}
	return b.Flush()
}

// Read reads what Write wrote.
func Read(r io.Reader) ([]Op, error) {
	dec := json.NewDecoder(r)
	var ops []Op
	for {
		var op Op
		err := dec.Decode(&op)
		if err == io.EOF {
			return ops, nil
		}
		if err != nil {
			return nil, fmt.Errorf("operation %d of the history: %w", len(ops)+1, err)
		}
		ops = append(ops, op)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
