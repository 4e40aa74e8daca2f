package history

import "slices"

// checkOrders looks for offsets with two values and values with two offsets.
func (a *analysis) checkOrders() {
	for _, key := range a.keys {
		o := a.logs[key]
		places := map[int64][]int64{}
		for i, values := range o.values {
			if len(values) > 1 {
				a.report(Anomaly{Name: InconsistentOffsets, Key: key, Values: values, Offsets: o.offsets[i : i+1], Ops: a.around(key, values)})
			}
			for _, v := range values {
				places[v] = append(places[v], o.offsets[i])
			}
		}
		for _, values := range o.values {
			for _, v := range values {
				if at := places[v]; len(at) > 1 {
					a.report(Anomaly{Name: Duplicate, Key: key, Values: []int64{v}, Offsets: at, Ops: a.around(key, []int64{v})})
					delete(places, v)
				}
			}
		}
	}
}

// around returns a writer and a reader or two of each value.
func (a *analysis) around(key string, values []int64) []*Op {
	var out []*Op
	add := func(op *Op) {
		if op != nil && !slices.Contains(out, op) {
			out = append(out, op)
		}
	}
	for _, v := range values {
		add(a.writers[key][v])
		for _, op := range a.readers[key][v][:min(2, len(a.readers[key][v]))] {
			add(op)
		}
	}
	return out
}

// checkReads looks for reads of what was aborted, of a transaction's own
// writes, and of what nobody wrote.
func (a *analysis) checkReads() {
	for _, op := range a.ops {
		for _, key := range sortedKeys(a.polled[op]) {
			for _, r := range a.polled[op][key] {
				c := Anomaly{Key: key, Values: []int64{r.Value}, Offsets: []int64{r.Offset}}
				switch writer := a.writers[key][r.Value]; {
				case writer == nil:
					c.Name, c.Ops = NoWriter, []*Op{op}
				case writer == op:
					c.Name, c.Ops = PrecommittedRead, []*Op{op}
				case writer.Outcome == Fail:
					c.Name, c.Ops = G1a, []*Op{writer, op}
				default:
					continue
				}
				a.report(c)
			}
		}
	}
}

// checkLost looks for values below the highest one read that nobody has read.
func (a *analysis) checkLost() {
	for _, key := range a.keys {
		o, read := a.logs[key], a.committed[key]
		bound := -1
		for v := range read {
			// A value at two offsets bounds by its first one only, so that
			// duplicates are not reported as losses too.
			if i, ok := o.first[v]; ok {
				bound = max(bound, i)
			}
		}
		for i, values := range o.values[:bound+1] {
			for _, v := range values {
				if writer := a.writers[key][v]; !read[v] && o.index[v] == i && writer != nil && a.happened(writer) {
					ops := append([]*Op{writer}, a.readers[key][o.values[bound][0]][:min(1, len(a.readers[key][o.values[bound][0]]))]...)
					a.report(Anomaly{Name: LostWrite, Key: key, Values: []int64{v}, Offsets: []int64{o.offsets[i], o.offsets[bound]}, Ops: ops})
				}
			}
		}
	}
}

// checkUnseen looks for acknowledged values that nobody has polled in the end.
func (a *analysis) checkUnseen() {
	for _, op := range a.ops {
		if op.Outcome != OK {
			continue
		}
		for _, key := range sortedKeys(a.sent[op]) {
			var unseen []int64
			for _, v := range a.sent[op][key] {
				if !a.committed[key][v] {
					unseen = append(unseen, v)
				}
			}
			if len(unseen) > 0 {
				a.report(Anomaly{Name: Unseen, Key: key, Values: unseen, Ops: []*Op{op}})
			}
		}
	}
}

// checkGroups looks at what the transactions of a consumer group have consumed:
// each record once.
func (a *analysis) checkGroups() {
	type place struct {
		group, key string
		offset     int64
	}
	by := map[place]*Op{}
	furthest := map[place]int64{} // with offset 0
	maybe := map[place]bool{}
	for _, op := range a.ops {
		if op.Group == "" || op.Outcome == Fail {
			continue
		}
		for _, key := range sortedKeys(a.polled[op]) {
			for _, r := range a.polled[op][key] {
				p := place{op.Group, key, r.Offset}
				maybe[p] = true
				if op.Outcome != OK {
					continue
				}
				if other := by[p]; other != nil && other != op {
					a.report(Anomaly{Name: GroupRepeat, Key: key, Values: []int64{r.Value}, Offsets: []int64{r.Offset}, Ops: []*Op{other, op}})
				}
				by[p] = op
				end := place{op.Group, key, 0}
				furthest[end] = max(furthest[end], r.Offset)
			}
		}
	}
	for end, last := range furthest {
		o := a.logs[end.key]
		for i, offset := range o.offsets {
			if offset >= last {
				break
			}
			for _, v := range o.values[i] {
				if writer := a.writers[end.key][v]; writer != nil && a.happened(writer) && !maybe[place{end.group, end.key, offset}] {
					a.report(Anomaly{Name: GroupSkip, Key: end.key, Values: []int64{v}, Offsets: []int64{offset, last},
						Ops: []*Op{writer, by[place{end.group, end.key, last}]}})
				}
			}
		}
	}
}
