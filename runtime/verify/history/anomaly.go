package history

import (
	"fmt"
	"slices"
	"strings"
)

// Name of an anomaly, as jepsen.tests.kafka calls it.
type Name string

// Anomalies that must not be.
const (
	InconsistentOffsets Name = "inconsistent-offsets"
	G1a                 Name = "G1a"
	LostWrite           Name = "lost-write"
	Duplicate           Name = "duplicate"
	PrecommittedRead    Name = "precommitted-read"
	NonmonotonicSend    Name = "nonmonotonic-send"
	IntNonmonotonicSend Name = "int-nonmonotonic-send"
	IntPollSkip         Name = "int-poll-skip"
	IntNonmonotonicPoll Name = "int-nonmonotonic-poll"
	Unseen              Name = "unseen"
	G1c                 Name = "G1c"
	G1cProcess          Name = "G1c-process"
	G1cRealtime         Name = "G1c-realtime"
	PollSkip            Name = "poll-skip"
	NonmonotonicPoll    Name = "nonmonotonic-poll"
	NoWriter            Name = "no-writer"
	GroupRepeat         Name = "group-repeat"
	GroupSkip           Name = "group-skip"
)

// Anomalies that Kafka's model allows: transactions interleave their writes,
// and a rebalance may come between two polls.
const (
	IntSendSkip               Name = "int-send-skip"
	G0                        Name = "G0"
	G0Process                 Name = "G0-process"
	G0Realtime                Name = "G0-realtime"
	G1cWithWrites             Name = "G1c-with-ww"
	PollSkipSubscribed        Name = "poll-skip-subscribed"
	NonmonotonicPollSubscribe Name = "nonmonotonic-poll-subscribed"
)

// meanings of the anomalies, for reports.
var meanings = map[Name]string{
	InconsistentOffsets:       "two values at one offset",
	G1a:                       "a value of a failed transaction was read",
	LostWrite:                 "acknowledged, below the highest offset read, never read",
	Duplicate:                 "one value at two offsets",
	PrecommittedRead:          "a transaction polled what it wrote itself",
	NonmonotonicSend:          "sends of one process are out of order in the log",
	IntNonmonotonicSend:       "sends of one transaction are out of order in the log",
	IntPollSkip:               "polls of one transaction left out records",
	IntNonmonotonicPoll:       "polls of one transaction went back",
	Unseen:                    "acknowledged, and not polled by anybody in the end",
	G1c:                       "transactions read from one another in a circle",
	G1cProcess:                "transactions read from one another in a circle, with the order of a process",
	G1cRealtime:               "transactions read from one another in a circle, with the order of time",
	PollSkip:                  "a process with assigned partitions left out records",
	NonmonotonicPoll:          "a process with assigned partitions went back",
	NoWriter:                  "a value was read that nobody sent",
	GroupRepeat:               "two committed transactions of a group consumed the same record",
	GroupSkip:                 "a group went past a record that none of its transactions consumed",
	IntSendSkip:               "sends of one transaction have others between them",
	G0:                        "transactions wrote over one another in a circle",
	G0Process:                 "the same with the order of a process",
	G0Realtime:                "the same with the order of time",
	G1cWithWrites:             "a circle of reads and overwrites",
	PollSkipSubscribed:        "a subscribed process left out records",
	NonmonotonicPollSubscribe: "a subscribed process went back",
}

// Allowed reports whether Kafka's model allows an anomaly.
func (n Name) Allowed() bool {
	switch n {
	case IntSendSkip, G0, G0Process, G0Realtime, G1cWithWrites, PollSkipSubscribed, NonmonotonicPollSubscribe:
		return true
	}
	return false
}

// Anomaly is one case.
type Anomaly struct {
	Name    Name
	Key     string
	Values  []int64 // concerned, in the order in which they were seen
	Offsets []int64 // concerned
	Skipped []int64 // values left out
	Ops     []*Op   // the operations that show it
}

// Result of a check.
type Result struct {
	Anomalies map[Name][]Anomaly

	// What the history holds; a check of little says little.
	Committed, Failed, Indefinite int // transactions, sends and polls
	Sent, Polled                  int // values acknowledged; records polled by committed operations
}

// Forbidden returns the names of the anomalies found that must not be, sorted.
func (r *Result) Forbidden() []Name { return r.names(false) }

// Tolerated returns the names of the anomalies found that Kafka's model allows, sorted.
func (r *Result) Tolerated() []Name { return r.names(true) }

func (r *Result) names(allowed bool) []Name {
	var out []Name
	for n := range r.Anomalies {
		if n.Allowed() == allowed {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Report tells what was found, a few cases of each kind, the forbidden first.
func (r *Result) Report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations committed, %d failed, %d of unknown outcome; %d values acknowledged, %d records polled\n",
		r.Committed, r.Failed, r.Indefinite, r.Sent, r.Polled)
	for _, n := range r.Forbidden() {
		cases := r.Anomalies[n]
		fmt.Fprintf(&b, "%s: %s; %d cases\n", n, meanings[n], len(cases))
		const shown = 5
		for _, c := range cases[:min(len(cases), shown)] {
			b.WriteString(c.String())
		}
	}
	for _, n := range r.Tolerated() {
		fmt.Fprintf(&b, "%s (allowed): %d cases\n", n, len(r.Anomalies[n]))
	}
	return b.String()
}

// String is the case in a few lines.
func (a Anomaly) String() string {
	var b strings.Builder
	b.WriteString("  ")
	if a.Key != "" {
		fmt.Fprintf(&b, "%s ", a.Key)
	}
	if len(a.Values) > 0 {
		fmt.Fprintf(&b, "values %v ", a.Values)
	}
	if len(a.Offsets) > 0 {
		fmt.Fprintf(&b, "offsets %v ", a.Offsets)
	}
	if n := len(a.Skipped); n > 0 {
		fmt.Fprintf(&b, "left out %d: %v ", n, a.Skipped[:min(n, 8)])
	}
	b.WriteString("\n")
	for _, op := range a.Ops {
		fmt.Fprintf(&b, "    %s\n", op)
	}
	return b.String()
}
