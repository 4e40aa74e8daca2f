package history

import (
	"maps"
	"slices"
)

// analysis is what the checks have in common.
type analysis struct {
	all    []*Op // everything, in order of completion
	ops    []*Op // sends, polls and transactions among them
	sent   map[*Op]map[string][]int64
	polled map[*Op]map[string][]Record

	keys      []string
	logs      map[string]*order
	writers   map[string]map[int64]*Op
	readers   map[string]map[int64][]*Op
	committed map[string]map[int64]bool // values that operations with outcome OK have polled
	found     map[Name][]Anomaly
}

// order is what a history tells of one log. Indices are offsets without the
// gaps that transactions' markers leave.
type order struct {
	offsets []int64       // by index
	values  [][]int64     // by index; more than one is an anomaly
	index   map[int64]int // of a value; its last one
	first   map[int64]int // of a value; its first one
}

// Check looks for all anomalies. The order of ops does not matter: they are
// sorted by their completion.
func Check(ops []Op) *Result {
	a := newAnalysis(ops)
	a.checkOrders()
	a.checkReads()
	a.checkLost()
	a.checkUnseen()
	a.checkSends()
	a.checkPolls()
	a.checkGroups()
	a.checkCycles()
	r := &Result{Anomalies: a.found}
	for _, op := range a.ops {
		switch op.Outcome {
		case OK:
			r.Committed++
			for _, values := range a.sent[op] {
				r.Sent += len(values)
			}
			for _, records := range a.polled[op] {
				r.Polled += len(records)
			}
		case Fail:
			r.Failed++
		default:
			r.Indefinite++
		}
	}
	return r
}

func newAnalysis(ops []Op) *analysis {
	a := &analysis{
		sent: map[*Op]map[string][]int64{}, polled: map[*Op]map[string][]Record{},
		logs: map[string]*order{}, writers: map[string]map[int64]*Op{}, readers: map[string]map[int64][]*Op{},
		committed: map[string]map[int64]bool{}, found: map[Name][]Anomaly{},
	}
	for i := range ops {
		a.all = append(a.all, &ops[i])
	}
	slices.SortStableFunc(a.all, func(x, y *Op) int { return int(x.Completed - y.Completed) })
	for _, op := range a.all {
		if op.transactional() {
			a.add(op)
		}
	}
	a.infer()
	return a
}

// add indexes what an operation sent and polled.
func (a *analysis) add(op *Op) {
	a.ops = append(a.ops, op)
	sent, polled := map[string][]int64{}, map[string][]Record{}
	for _, step := range op.Steps {
		if step.Key != "" {
			sent[step.Key] = append(sent[step.Key], step.Sent.Value)
			put(a.writers, step.Key, step.Sent.Value, op)
		}
		for key, records := range step.Polled {
			polled[key] = append(polled[key], records...)
			for _, r := range records {
				put(a.readers, key, r.Value, append(a.readers[key][r.Value], op))
				if op.Outcome == OK {
					put(a.committed, key, r.Value, true)
				}
			}
		}
	}
	a.sent[op], a.polled[op] = sent, polled
}

func put[V any](m map[string]map[int64]V, key string, value int64, v V) {
	if m[key] == nil {
		m[key] = map[int64]V{}
	}
	m[key][value] = v
}

// happened reports whether an operation's writes must be in the log: it said
// so, or somebody read one of them although nobody knows.
func (a *analysis) happened(op *Op) bool {
	if op.Outcome != Info {
		return op.Outcome == OK
	}
	for key, values := range a.sent[op] {
		for _, v := range values {
			if a.committed[key][v] {
				return true
			}
		}
	}
	return false
}

// infer finds the order of each log: from all polls, and from the sends that
// must have happened.
func (a *analysis) infer() {
	seen := map[string]map[int64][]int64{} // key → offset → values
	note := func(key string, r Record) {
		if r.Offset != Unknown && !slices.Contains(seen[key][r.Offset], r.Value) {
			put(seen, key, r.Offset, append(seen[key][r.Offset], r.Value))
		}
	}
	for _, op := range a.ops {
		happened := a.happened(op)
		for _, step := range op.Steps {
			if step.Key != "" && happened {
				note(step.Key, step.Sent)
			}
			for key, records := range step.Polled {
				for _, r := range records {
					note(key, r)
				}
			}
		}
	}
	a.keys = sortedKeys(seen)
	for key, byOffset := range seen {
		o := &order{offsets: slices.Sorted(maps.Keys(byOffset)), index: map[int64]int{}, first: map[int64]int{}}
		for i, offset := range o.offsets {
			values := byOffset[offset]
			slices.Sort(values)
			o.values = append(o.values, values)
			for _, v := range values {
				o.index[v] = i
				if _, ok := o.first[v]; !ok {
					o.first[v] = i
				}
			}
		}
		a.logs[key] = o
	}
}

func (a *analysis) report(c Anomaly) { a.found[c.Name] = append(a.found[c.Name], c) }

// distance is how many places v2 is behind v1 in the order of a log; 1 if that is not known.
func (o *order) distance(v1, v2 int64) int {
	if o == nil {
		return 1
	}
	i1, ok1 := o.index[v1]
	i2, ok2 := o.index[v2]
	if !ok1 || !ok2 {
		return 1
	}
	return i2 - i1
}

// between lists the values between two.
func (o *order) between(v1, v2 int64) []int64 {
	var out []int64
	for i := o.index[v1] + 1; i < o.index[v2]; i++ {
		out = append(out, o.values[i][0])
	}
	return out
}
