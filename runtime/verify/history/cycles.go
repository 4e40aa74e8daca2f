package history

import (
	"slices"
)

// graph is a directed graph of operations. Behind the operations come nodes
// that stand for moments, so that the order of time needs few edges.
type graph struct {
	out [][]int32
}

func (g *graph) edge(from, to int) {
	if from != to {
		g.out[from] = append(g.out[from], int32(to))
	}
}

func (g *graph) clone() *graph {
	c := &graph{out: make([][]int32, len(g.out))}
	for i, to := range g.out {
		c.out[i] = slices.Clone(to)
	}
	return c
}

// checkCycles looks for circles of operations. wr: one read what the other
// wrote; ww: one wrote behind the other. A circle of wr edges alone is forbidden,
// also together with the order of a process or of time; with ww edges Kafka
// allows it, as it does not isolate writes.
func (a *analysis) checkCycles() {
	number := make(map[*Op]int, len(a.ops))
	for i, op := range a.ops {
		number[op] = i
	}
	wr, ww := a.readGraph(number), a.writeGraph(number)
	if a.cycle(G1c, wr) == 0 {
		if a.cycle(G1cProcess, a.withProcesses(wr, number)) == 0 {
			a.cycle(G1cRealtime, a.withTime(wr))
		}
	}
	if a.cycle(G0, ww) == 0 {
		if a.cycle(G0Process, a.withProcesses(ww, number)) == 0 {
			a.cycle(G0Realtime, a.withTime(ww))
		}
	}
	if len(a.found[G1c]) == 0 && len(a.found[G0]) == 0 {
		both := wr.clone()
		for i, to := range ww.out {
			both.out[i] = append(both.out[i], to...)
		}
		a.cycle(G1cWithWrites, both)
	}
}

func (a *analysis) readGraph(number map[*Op]int) *graph {
	g := &graph{out: make([][]int32, len(a.ops))}
	for _, op := range a.ops {
		for _, key := range sortedKeys(a.polled[op]) {
			for _, r := range a.polled[op][key] {
				if writer := a.writers[key][r.Value]; writer != nil {
					g.edge(number[writer], number[op])
				}
			}
		}
	}
	return g
}

func (a *analysis) writeGraph(number map[*Op]int) *graph {
	g := &graph{out: make([][]int32, len(a.ops))}
	for _, key := range a.keys {
		before := -1
		for _, values := range a.logs[key].values {
			writer := a.writers[key][values[0]]
			if writer == nil {
				continue
			}
			if before >= 0 {
				g.edge(before, number[writer])
			}
			before = number[writer]
		}
	}
	return g
}

func (a *analysis) withProcesses(g *graph, number map[*Op]int) *graph {
	g = g.clone()
	last := map[int]*Op{}
	for _, op := range a.ops {
		if before := last[op.Process]; before != nil {
			g.edge(number[before], number[op])
		}
		last[op.Process] = op
	}
	return g
}

// withTime adds an edge from each operation to those that began after it ended,
// by way of a chain of moments. What has no known end is before nothing.
func (a *analysis) withTime(g *graph) *graph {
	g = g.clone()
	type moment struct {
		op  int
		end bool
		at  int64
	}
	var moments []moment
	for i, op := range a.ops {
		moments = append(moments, moment{i, false, int64(op.Invoked)})
		if op.Outcome == OK {
			moments = append(moments, moment{i, true, int64(op.Completed)})
		}
	}
	slices.SortStableFunc(moments, func(x, y moment) int {
		if x.at != y.at {
			return int(x.at - y.at)
		}
		if x.end == y.end {
			return 0
		}
		if y.end { // what begins at the moment in which another ends overlaps it
			return -1
		}
		return 1
	})
	node := -1 // the latest moment's
	for _, m := range moments {
		if !m.end {
			if node >= 0 {
				g.edge(node, m.op)
			}
			continue
		}
		g.out = append(g.out, nil)
		if node >= 0 {
			g.edge(node, len(g.out)-1)
		}
		node = len(g.out) - 1
		g.edge(m.op, node)
	}
	return g
}

// cycle reports a shortest circle of each strongly connected component, and returns how many there are.
func (a *analysis) cycle(name Name, g *graph) int {
	components := g.components()
	n := 0
	for _, c := range components {
		var ops []*Op
		for _, i := range g.shortest(c) {
			if i < len(a.ops) {
				ops = append(ops, a.ops[i])
			}
		}
		if len(ops) > 1 {
			n++
			a.report(Anomaly{Name: name, Ops: ops})
		}
	}
	return n
}

// components returns the strongly connected components of more than one node
// (Tarjan's algorithm, without recursion).
func (g *graph) components() [][]int {
	n := len(g.out)
	index, low, onStack := make([]int, n), make([]int, n), make([]bool, n)
	var stack []int
	var out [][]int
	type frame struct{ node, next int }
	count := 0
	for root := range n {
		if index[root] != 0 {
			continue
		}
		work := []frame{{root, 0}}
		for len(work) > 0 {
			f := &work[len(work)-1]
			v := f.node
			if f.next == 0 {
				count++
				index[v], low[v], onStack[v] = count, count, true
				stack = append(stack, v)
			}
			if f.next < len(g.out[v]) {
				w := int(g.out[v][f.next])
				f.next++
				if index[w] == 0 {
					work = append(work, frame{w, 0})
				} else if onStack[w] {
					low[v] = min(low[v], index[w])
				}
				continue
			}
			work = work[:len(work)-1]
			if len(work) > 0 {
				low[work[len(work)-1].node] = min(low[work[len(work)-1].node], low[v])
			}
			if low[v] != index[v] {
				continue
			}
			var component []int
			for {
				w := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				onStack[w] = false
				component = append(component, w)
				if w == v {
					break
				}
			}
			if len(component) > 1 {
				out = append(out, component)
			}
		}
	}
	return out
}

// shortest returns a shortest circle through the component's smallest node.
func (g *graph) shortest(component []int) []int {
	start := slices.Min(component)
	in := make(map[int]bool, len(component))
	for _, v := range component {
		in[v] = true
	}
	from := map[int]int{}
	queue := []int{start}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, to := range g.out[v] {
			w := int(to)
			if w == start {
				path := []int{v}
				for v != start {
					v = from[v]
					path = append(path, v)
				}
				slices.Reverse(path)
				return path
			}
			if _, ok := from[w]; !ok && in[w] {
				from[w] = v
				queue = append(queue, w)
			}
		}
	}
	return component
}
