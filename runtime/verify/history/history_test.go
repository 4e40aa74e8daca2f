package history

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parse reads a history as the tests write it, a line for an operation:
//
//	process kind outcome step…
//
// A step is send:key=value@offset (offset "?" if unknown), poll:key=value@offset,…;key=… or
// poll: for an empty one; assignments list keys as a,b. group=name and rebalanced=keys may
// follow, and time=invoked-completed; without it operations come one after another.
func parse(t *testing.T, text string) []Op {
	t.Helper()
	var ops []Op
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		n := time.Duration(len(ops))
		op := Op{Process: int(number(t, words[0])), Kind: Kind(words[1]), Outcome: Outcome(words[2]), Invoked: 2 * n, Completed: 2*n + 1}
		for _, word := range words[3:] {
			switch name, rest, _ := strings.Cut(word, ":"); {
			case name == "send":
				key, record, _ := strings.Cut(rest, "=")
				op.Steps = append(op.Steps, Step{Key: key, Sent: parseRecord(t, record)})
			case name == "poll":
				op.Steps = append(op.Steps, Step{Polled: parsePolled(t, rest)})
			case strings.HasPrefix(word, "group="):
				op.Group = word[len("group="):]
			case strings.HasPrefix(word, "rebalanced="):
				op.Rebalanced = strings.Split(word[len("rebalanced="):], ",")
			case strings.HasPrefix(word, "time="):
				from, to, _ := strings.Cut(word[len("time="):], "-")
				op.Invoked, op.Completed = time.Duration(number(t, from)), time.Duration(number(t, to))
			default:
				op.Keys = strings.Split(word, ",")
			}
		}
		ops = append(ops, op)
	}
	return ops
}

func parsePolled(t *testing.T, text string) map[string][]Record {
	out := map[string][]Record{}
	for part := range strings.SplitSeq(text, ";") {
		key, records, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		for r := range strings.SplitSeq(records, ",") {
			out[key] = append(out[key], parseRecord(t, r))
		}
	}
	return out
}

func parseRecord(t *testing.T, text string) Record {
	value, offset, _ := strings.Cut(text, "@")
	if offset == "?" {
		return Record{Value: number(t, value), Offset: Unknown}
	}
	return Record{Value: number(t, value), Offset: number(t, offset)}
}

func number(t *testing.T, text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Each anomaly with histories that have it and close relatives that do not.
// Unseen is reported of nearly every small history, and compared only where the
// case wants it or is named after it; what is allowed where the case says so.
func TestAnomalies(t *testing.T) {
	for _, c := range []struct {
		name, history string
		want          []Name
	}{
		{"nothing", ``, nil},
		{"all is well", `
			0 send ok send:x=1@0 send:x=2@1
			1 txn ok send:y=3@0 poll:x=1@0
			1 txn ok poll:x=2@1
			2 poll ok poll:y=3@0 poll:x=1@0,2@1`, nil},

		{"inconsistent-offsets: two reads", `
			0 send info send:x=1@?
			3 send info send:x=2@?
			1 poll ok poll:x=1@0
			2 poll ok poll:x=2@0`, []Name{InconsistentOffsets}},
		{"inconsistent-offsets: two sends", `
			0 send ok send:x=1@537
			1 send ok send:x=2@537`, []Name{InconsistentOffsets}},
		{"inconsistent-offsets: a send of unknown outcome proves nothing", `
			0 send info send:x=1@0 send:y=3@?
			1 send ok send:x=2@0`, nil},
		{"inconsistent-offsets: unless something else of it was read", `
			0 send info send:x=1@0 send:y=3@?
			1 send ok send:x=2@0
			2 poll ok poll:y=3@0`, []Name{InconsistentOffsets}},

		{"G1a", `
			0 send fail send:x=1@? send:y=2@?
			1 poll ok poll:x=1@0`, []Name{G1a}},
		{"G1a: also by a transaction that failed", `
			0 send fail send:x=1@?
			1 txn fail poll:x=1@0`, []Name{G1a}},
		{"G1a: not if the outcome is unknown", `
			0 send info send:x=1@?
			1 poll ok poll:x=1@0`, nil},

		{"lost-write", `
			0 send ok send:x=1@0
			0 send ok send:x=2@1 send:x=4@3
			1 send info send:x=3@?
			2 poll ok poll:x=3@2`, []Name{LostWrite}},
		{"lost-write: not above the highest offset read", `
			0 send ok send:x=1@0 send:x=2@1
			2 poll ok poll:x=1@0`, nil},
		{"lost-write: behind another value at its offset", `
			0 send ok send:x=1@0
			0 send ok send:x=2@0 send:x=3@2
			1 poll ok poll:x=2@0,3@2`, []Name{InconsistentOffsets, LostWrite, NonmonotonicSend}},
		{"lost-write: part of a transaction of unknown outcome", `
			0 send info send:x=1@? send:y=2@0
			1 send info send:y=3@?
			2 poll ok poll:x=1@0
			3 poll ok poll:y=3@1`, []Name{LostWrite}},
		{"lost-write: unless nobody saw any of it", `
			0 send info send:x=1@? send:y=2@0
			1 send info send:y=3@?
			3 poll ok poll:y=3@1`, nil},
		{"lost-write: what an aborted transaction polled does not count", `
			0 send ok send:x=1@0
			0 send ok send:x=2@1
			1 poll fail poll:x=1@0
			2 poll ok poll:x=2@1`, []Name{LostWrite}},

		{"duplicate: sent and polled elsewhere", `
			0 send ok send:x=1@1
			1 send info send:x=2@?
			2 poll ok poll:x=2@2,1@3`, []Name{Duplicate}},
		{"duplicate: seen by a transaction that failed", `
			0 send ok send:x=1@1
			1 poll fail poll:x=1@11`, []Name{Duplicate}},
		{"duplicate: not if the same offset is read twice", `
			0 send ok send:x=1@1
			1 poll ok poll:x=1@1
			2 poll ok poll:x=1@1`, nil},
		{"duplicate: not of a send that failed", `
			0 send fail send:x=1@1
			1 send ok send:x=2@1`, nil},

		{"precommitted-read", `
			0 txn ok send:x=1@0 poll:x=1@0`, []Name{PrecommittedRead}},
		{"precommitted-read: not of another's", `
			1 send ok send:x=2@0
			0 txn ok send:x=1@1 poll:x=2@0`, nil},

		{"nonmonotonic-send", `
			0 send ok send:x=3@3 send:x=4@4
			0 send ok send:x=1@1 send:x=2@2`, []Name{NonmonotonicSend}},
		{"nonmonotonic-send: not of two processes", `
			0 send ok send:x=3@3 send:x=4@4
			1 send ok send:x=1@1 send:x=2@2`, nil},
		{"nonmonotonic-send: not after another assignment", `
			0 send ok send:x=3@3
			0 assign ok y
			0 send ok send:x=1@1`, nil},
		{"nonmonotonic-send: an assignment that keeps the key changes nothing", `
			0 send ok send:x=3@3
			0 assign ok x,y
			0 send ok send:x=1@1`, []Name{NonmonotonicSend}},

		{"int-nonmonotonic-send: by its offsets", `
			0 send ok send:x=3@3 send:x=1@1`, []Name{IntNonmonotonicSend}},
		{"int-nonmonotonic-send: by what others polled", `
			0 send info send:y=4@? send:y=2@?
			1 send info send:y=3@?
			2 poll ok poll:y=2@2,3@3,4@4`, []Name{IntNonmonotonicSend}},
		{"int-send-skip is allowed", `
			0 send ok send:x=1@1 send:x=3@?
			1 send info send:x=2@?
			2 poll ok poll:x=1@1,2@2,3@3`, []Name{G0, IntSendSkip}},

		{"int-poll-skip: within a poll", `
			0 send info send:x=1@? send:x=2@? send:x=4@?
			1 poll ok poll:x=1@1,4@4
			2 poll ok poll:x=2@2`, []Name{IntPollSkip}},
		{"int-poll-skip: between polls", `
			0 send info send:x=1@? send:x=2@? send:x=4@?
			1 poll ok poll:x=1@1 poll:x=4@4
			2 poll ok poll:x=2@2`, []Name{IntPollSkip}},
		{"int-poll-skip: not over a gap of markers", `
			0 send info send:x=1@? send:x=4@?
			1 poll ok poll:x=1@1,4@4`, nil},
		{"int-poll-skip: not in a rebalance", `
			0 send info send:x=1@? send:x=2@? send:x=4@?
			1 poll ok poll:x=1@1,4@4 rebalanced=x
			2 poll ok poll:x=2@2`, nil},

		{"int-nonmonotonic-poll: within a poll", `
			0 send info send:x=1@? send:x=3@?
			1 poll ok poll:x=3@3,1@1`, []Name{IntNonmonotonicPoll}},
		{"int-nonmonotonic-poll: the same again", `
			0 send info send:x=1@? send:x=3@?
			1 poll ok poll:x=1@1,3@3 poll:x=3@3`, []Name{IntNonmonotonicPoll}},

		{"unseen", `
			0 send ok send:x=1@0 send:x=2@1
			1 poll ok poll:x=1@0`, []Name{Unseen}},
		{"unseen: nothing", `
			0 send ok send:x=1@0
			0 send info send:x=2@?
			0 send fail send:x=3@?
			1 poll ok poll:x=1@0`, nil},
		{"unseen: a transaction that failed has not polled it", `
			0 send ok send:x=1@0
			1 poll fail poll:x=1@0`, []Name{Unseen}},

		{"G1c", `
			0 txn ok send:x=1@0 poll:y=2@0
			1 txn ok send:y=2@0 poll:x=1@0`, []Name{G1c}},
		{"G1c: of three", `
			0 txn ok send:x=1@0 poll:z=3@0
			1 txn ok send:y=2@0 poll:x=1@0
			2 txn ok send:z=3@0 poll:y=2@0`, []Name{G1c}},
		{"G1c: one way only", `
			0 txn ok send:x=1@0
			1 txn ok send:y=2@0 poll:x=1@0
			2 poll ok poll:y=2@0 poll:x=1@0`, nil},
		{"G1c-process: a process reads what it will write", `
			0 poll ok poll:y=2@0
			0 send ok send:x=1@0
			1 txn ok send:y=2@0 poll:x=1@0`, []Name{G1cProcess}},
		{"G1c-realtime: another has read it before", `
			0 poll ok poll:y=2@0 time=0-1
			2 send ok send:x=1@0 time=2-3
			1 txn ok send:y=2@0 poll:x=1@0 time=0-4`, []Name{G1cRealtime}},
		{"G1c-realtime: not if the moments overlap", `
			0 poll ok poll:y=2@0 time=0-5
			2 send ok send:x=1@0 time=2-3
			1 txn ok send:y=2@0 poll:x=1@0 time=0-4`, nil},
		{"G1c-realtime: what has no known end is before nothing", `
			0 poll info poll:y=2@0 time=0-1
			2 send ok send:x=1@0 time=2-3
			1 txn ok send:y=2@0 poll:x=1@0 time=0-4`, nil},
		{"G1c with ww edges is allowed", `
			0 txn ok send:x=1@0 send:y=3@2
			1 txn ok poll:x=1@0 send:y=2@1`, []Name{G0Realtime, G1cWithWrites}},
		{"G0 is allowed", `
			0 send ok send:x=1@0 send:y=3@1
			1 send ok send:x=2@1 send:y=4@0`, []Name{G0}},
		{"G0-process is allowed", `
			0 send info send:x=1@1
			0 send ok send:y=3@5
			1 send ok send:y=4@6 send:x=2@0
			2 poll ok poll:x=2@0,1@1`, []Name{G0Process}},
		{"G0-realtime is allowed", `
			0 send ok send:x=1@1
			2 send ok send:y=3@5
			1 send ok send:y=4@6 send:x=2@0`, []Name{G0Realtime}},

		{"poll-skip: assigned", `
			3 send info send:x=1@? send:x=2@? send:x=3@? send:x=4@?
			0 assign ok x
			0 poll ok poll:x=1@1,2@2
			1 poll ok poll:x=3@3
			0 poll ok poll:x=4@4`, []Name{PollSkip}},
		{"poll-skip: subscribed, which is allowed", `
			3 send info send:x=1@? send:x=2@? send:x=3@? send:x=4@?
			0 subscribe ok x
			0 poll ok poll:x=1@1,2@2
			1 poll ok poll:x=3@3
			0 poll ok poll:x=4@4`, []Name{PollSkipSubscribed}},
		{"poll-skip: not after another assignment", `
			3 send info send:x=1@? send:x=2@? send:x=3@? send:x=4@?
			0 poll ok poll:x=1@1,2@2
			1 poll ok poll:x=3@3
			0 assign info y
			0 poll ok poll:x=4@4`, nil},
		{"poll-skip: transactions that fail go back to where they began", `
			2 send ok send:x=10@0 send:x=11@1 send:x=12@2
			0 assign ok x
			0 txn ok poll:x=10@0
			0 txn fail poll:x=11@1,12@2
			0 txn info poll:x=11@1,12@2
			0 txn ok poll:x=11@1,12@2`, nil},
		{"poll-skip: transactions that fail and do not go back", `
			2 send ok send:x=10@0 send:x=11@1 send:x=12@2
			0 assign ok x
			0 txn ok poll:x=10@0
			0 txn fail poll:x=11@1
			0 txn ok poll:x=12@2
			1 poll ok poll:x=11@1`, []Name{PollSkip}},

		{"nonmonotonic-poll: assigned", `
			1 send ok send:x=1@1 send:x=2@2 send:x=3@3 send:x=4@4
			0 assign ok x
			0 poll ok poll:x=1@1,2@2,3@3
			0 poll ok poll:x=2@2,3@3,4@4`, []Name{NonmonotonicPoll}},
		{"nonmonotonic-poll: the process has kept the key", `
			1 send ok send:x=1@1 send:x=2@2
			0 assign ok x
			0 poll ok poll:x=1@1,2@2
			0 assign ok x,y
			0 poll ok poll:x=2@2`, []Name{NonmonotonicPoll}},
		{"nonmonotonic-poll: the process has given up the key", `
			1 send ok send:x=1@1 send:x=2@2
			0 assign ok x
			0 poll ok poll:x=1@1,2@2
			0 assign ok y
			0 assign ok x
			0 poll ok poll:x=2@2`, nil},
		{"nonmonotonic-poll: subscribed, which is allowed", `
			1 send ok send:x=1@1 send:x=2@2
			0 subscribe ok x
			0 poll ok poll:x=1@1,2@2
			0 poll ok poll:x=2@2`, []Name{NonmonotonicPollSubscribe}},

		{"no-writer", `
			0 send ok send:x=1@0
			1 poll ok poll:x=1@0,2@1`, []Name{NoWriter}},
		{"no-writer: in another log", `
			0 send ok send:x=1@0
			1 poll ok poll:x=1@0;y=1@0`, []Name{NoWriter}},

		{"group-repeat", `
			0 send ok send:x=1@0
			1 txn ok poll:x=1@0 group=g
			2 txn ok poll:x=1@0 group=g`, []Name{GroupRepeat}},
		{"group-repeat: not of two groups, nor of what failed or is unknown", `
			0 send ok send:x=1@0
			1 txn ok poll:x=1@0 group=g
			2 txn ok poll:x=1@0 group=h
			3 txn fail poll:x=1@0 group=g
			4 txn info poll:x=1@0 group=g
			5 poll ok poll:x=1@0`, nil},
		{"group-skip", `
			0 send ok send:x=1@0 send:x=2@1
			1 txn ok poll:x=2@1 group=g
			2 poll ok poll:x=1@0`, []Name{GroupSkip}},
		{"group-skip: not if it may have been consumed", `
			0 send ok send:x=1@0 send:x=2@1
			1 txn info poll:x=1@0 group=g
			3 txn ok poll:x=2@1 group=g
			2 poll ok poll:x=1@0`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Check(parse(t, c.history))
			got := r.Forbidden()
			if strings.Contains(c.name, "allowed") {
				got = append(got, r.Tolerated()...)
			}
			if !slices.Contains(c.want, Unseen) && !strings.HasPrefix(c.name, "unseen") {
				got = slices.DeleteFunc(got, func(n Name) bool { return n == Unseen })
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v\n%s", got, c.want, r.Report())
			}
		})
	}
}

func TestEveryAnomalyHasAMeaning(t *testing.T) {
	for n, meaning := range meanings {
		if n == "" || meaning == "" {
			t.Errorf("%q means %q", n, meaning)
		}
	}
	if n := len(meanings); n != 25 {
		t.Errorf("%d anomalies have a meaning", n)
	}
}

func TestReportNamesRecordsOffsetsAndOperations(t *testing.T) {
	r := Check(parse(t, `
		0 send ok send:x=1@0 send:x=2@1
		3 send info send:x=3@?
		1 txn fail send:y=7@4
		2 poll ok poll:x=1@0,3@2;y=7@4`))
	want := `2 operations committed, 1 failed, 1 of unknown outcome; 2 values acknowledged, 3 records polled
G1a: a value of a failed transaction was read; 1 cases
  y values [7] offsets [4] 
    process 1 txn fail [0.000s–0.000s] send(y, 7@4)
    process 2 poll ok [0.000s–0.000s] poll(x:[1@0 3@2] y:[7@4])
int-poll-skip: polls of one transaction left out records; 1 cases
  x values [1 3] offsets [0 2] left out 1: [2] 
    process 2 poll ok [0.000s–0.000s] poll(x:[1@0 3@2] y:[7@4])
lost-write: acknowledged, below the highest offset read, never read; 1 cases
  x values [2] offsets [1 2] 
    process 0 send ok [0.000s–0.000s] send(x, 1@0) send(x, 2@1)
    process 2 poll ok [0.000s–0.000s] poll(x:[1@0 3@2] y:[7@4])
unseen: acknowledged, and not polled by anybody in the end; 1 cases
  x values [2] 
    process 0 send ok [0.000s–0.000s] send(x, 1@0) send(x, 2@1)
`
	if diff := cmp.Diff(want, r.Report()); diff != "" {
		t.Error(diff)
	}
}

func TestWriteAndRead(t *testing.T) {
	ops := parse(t, `
		0 send ok send:x=1@0 send:x=2@?
		1 assign ok x,y
		2 txn info poll:x=1@0;y=3@9 poll: group=g rebalanced=x`)
	ops[2].Error = "connection reset"
	var b bytes.Buffer
	if err := Write(&b, ops); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	ops[2].Steps[1].Polled = nil // an empty poll is one without records
	if diff := cmp.Diff(ops, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Read(strings.NewReader(`{"process":1}{`)); err == nil {
		t.Error("half a line was read")
	}
}

// A history of the size that a minute of work gives is checked in about a second.
func BenchmarkCheck(b *testing.B) {
	var ops []Op
	for i := range int64(20_000) {
		key := "x/" + strconv.FormatInt(i%8, 10)
		ops = append(ops, Op{Process: int(i % 8), Kind: Txn, Outcome: OK, Invoked: time.Duration(2 * i), Completed: time.Duration(2*i + 1), Steps: []Step{
			{Key: key, Sent: Record{Offset: 3 * i, Value: 2 * i}}, {Key: key, Sent: Record{Offset: 3*i + 1, Value: 2*i + 1}},
		}})
		if i >= 8 {
			j := i - 8
			ops[i].Steps = append(ops[i].Steps, Step{Polled: map[string][]Record{key: {{3 * j, 2 * j}, {3*j + 1, 2*j + 1}}}})
		}
	}
	for b.Loop() {
		if r := Check(ops); len(r.Forbidden()) != 1 {
			b.Fatal(r.Report())
		}
	}
}
