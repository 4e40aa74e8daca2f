package history

import "slices"

// checkSends looks at the order of sends, within an operation and from one
// operation of a process to its next.
func (a *analysis) checkSends() {
	last := map[int]map[string]*Op{} // process → key → its last operation that sent there
	for _, op := range a.all {
		if op.Outcome == Fail {
			continue
		}
		if !op.transactional() {
			keep(last[op.Process], op)
			continue
		}
		if last[op.Process] == nil {
			last[op.Process] = map[string]*Op{}
		}
		for _, key := range sortedKeys(a.sent[op]) {
			values, o := a.sent[op][key], a.logs[key]
			a.compareSends(op, key, values, o)
			if before := last[op.Process][key]; before != nil {
				sent := a.sent[before][key]
				if v1, v2 := sent[len(sent)-1], values[0]; o.distance(v1, v2) < 1 {
					a.report(Anomaly{Name: NonmonotonicSend, Key: key, Values: []int64{v1, v2}, Ops: []*Op{before, op}})
				}
			}
			last[op.Process][key] = op
		}
	}
}

func (a *analysis) compareSends(op *Op, key string, values []int64, o *order) {
	for i := 1; i < len(values); i++ {
		v1, v2 := values[i-1], values[i]
		switch d := o.distance(v1, v2); {
		case d < 1:
			a.report(Anomaly{Name: IntNonmonotonicSend, Key: key, Values: []int64{v1, v2}, Ops: []*Op{op}})
		case d > 1:
			a.report(Anomaly{Name: IntSendSkip, Key: key, Values: []int64{v1, v2}, Skipped: o.between(v1, v2), Ops: []*Op{op}})
		}
	}
}

// keep forgets the keys that an assignment or a subscription gives up.
func keep(last map[string]*Op, op *Op) {
	if op.Kind != Assign && op.Kind != Subscribe {
		return
	}
	for key := range last {
		if !slices.Contains(op.Keys, key) {
			delete(last, key)
		}
	}
}

// checkPolls looks at the order of polls, within an operation and from one
// operation of a process to its next. Operations that did not commit do not
// move a process on.
func (a *analysis) checkPolls() {
	last := map[int]map[string]*Op{}
	subscribed := map[int]bool{}
	for _, op := range a.all {
		if !op.transactional() {
			if op.Outcome != Fail {
				keep(last[op.Process], op)
				subscribed[op.Process] = op.Kind == Subscribe
			}
			continue
		}
		if last[op.Process] == nil {
			last[op.Process] = map[string]*Op{}
		}
		for _, key := range sortedKeys(a.polled[op]) {
			records, o := a.polled[op][key], a.logs[key]
			if len(records) == 0 {
				continue
			}
			if !slices.Contains(op.Rebalanced, key) {
				a.comparePolls(op, key, records, o)
			}
			if before := last[op.Process][key]; before != nil {
				polled := a.polled[before][key]
				c := Anomaly{Key: key, Values: []int64{polled[len(polled)-1].Value, records[0].Value}, Ops: []*Op{before, op}}
				a.compareOps(c, o, subscribed[op.Process])
			}
			if op.Outcome == OK {
				last[op.Process][key] = op
			}
		}
	}
}

func (a *analysis) comparePolls(op *Op, key string, records []Record, o *order) {
	for i := 1; i < len(records); i++ {
		v1, v2 := records[i-1].Value, records[i].Value
		c := Anomaly{Key: key, Values: []int64{v1, v2}, Offsets: []int64{records[i-1].Offset, records[i].Offset}, Ops: []*Op{op}}
		switch d := o.distance(v1, v2); {
		case d < 1:
			c.Name = IntNonmonotonicPoll
		case d > 1:
			c.Name, c.Skipped = IntPollSkip, o.between(v1, v2)
		default:
			continue
		}
		a.report(c)
	}
}

// compareOps compares the last value of an operation with the first one of the process's next.
func (a *analysis) compareOps(c Anomaly, o *order, subscribed bool) {
	switch d := o.distance(c.Values[0], c.Values[1]); {
	case d < 1 && subscribed:
		c.Name = NonmonotonicPollSubscribe
	case d < 1:
		c.Name = NonmonotonicPoll
	case d > 1 && subscribed:
		c.Name = PollSkipSubscribed
	case d > 1:
		c.Name = PollSkip
	default:
		return
	}
	if d := o.distance(c.Values[0], c.Values[1]); d > 1 {
		c.Skipped = o.between(c.Values[0], c.Values[1])
	}
	a.report(c)
}
