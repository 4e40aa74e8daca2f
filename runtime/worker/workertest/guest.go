package workertest

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/sdk/abi"
)

// Call is what a guest function gets for one record.
type Call struct {
	Record abi.Record
	Batch  host.Batch
	Log    host.LogFunc

	index   int
	outputs []byte
}

// Emit puts a record out with the key and headers of the input and its event time.
func (c *Call) Emit(output int, value []byte) {
	o := abi.Output{Input: c.index, Index: output, Key: c.Record.Key, Value: value, Headers: c.Record.Headers, HeaderCount: c.Record.HeaderCount}
	c.outputs = abi.AppendOutput(c.outputs, &o, false)
}

// Func handles one record. An error that is a *host.Trap stops the guest, any other rejects the record.
type Func func(c *Call) error

// Upper puts every record out in upper case ASCII.
func Upper(c *Call) error {
	value := append([]byte{}, c.Record.Value...)
	for i, b := range value {
		if b >= 'a' && b <= 'z' {
			value[i] = b - 'a' + 'A'
		}
	}
	c.Emit(0, value)
	return nil
}

// Program makes guests that run a Func. The zero value of all but Func will do.
type Program struct {
	Func Func
	// Start is asked for every guest; an error keeps it from starting.
	Start func(s host.Setup) error
	// FuelPerRecord and FuelPerCall play a fuel limit, if both are set.
	FuelPerRecord, FuelPerCall int64
	// MaxInputBytes is the largest input area; 0 = any.
	MaxInputBytes int
	// DroppedLines is what the next guest that is asked says it dropped.
	DroppedLines atomic.Int64

	Made  atomic.Int64 // guests
	Calls atomic.Int64
	Open  atomic.Int64 // guests not closed
}

var _ worker.Program = (*Program)(nil)

// Instantiate implements worker.Program.
func (p *Program) Instantiate(_ context.Context, s host.Setup, log host.LogFunc) (worker.Guest, error) {
	if p.Start != nil {
		if err := p.Start(s); err != nil {
			return nil, err
		}
	}
	p.Made.Add(1)
	p.Open.Add(1)
	return &guest{program: p, setup: s, log: log}, nil
}

type guest struct {
	program *Program
	setup   host.Setup
	log     host.LogFunc
	input   []byte
	spent   bool
	closed  bool

	checker  abi.OutputChecker
	iterator abi.OutputIterator
}

// Input implements worker.Guest.
func (g *guest) Input(_ context.Context, size int) ([]byte, error) {
	if g.spent || g.closed {
		return nil, fmt.Errorf("a spent guest was called")
	}
	if most := g.program.MaxInputBytes; most > 0 && size > most {
		g.spent = true
		return nil, &host.Trap{Kind: host.TrapMemory, Detail: fmt.Sprintf("input area of %d bytes", size)}
	}
	if len(g.input) < size {
		g.input = make([]byte, size)
	}
	return g.input[:size], nil
}

// Process implements worker.Guest.
func (g *guest) Process(_ context.Context, b host.Batch) (host.Result, error) {
	g.program.Calls.Add(1)
	if g.spent || g.closed {
		return host.Result{}, fmt.Errorf("a spent guest was called")
	}
	call := Call{Batch: b, Log: g.log}
	fuel := g.program.FuelPerRecord * int64(b.Count)
	if g.program.FuelPerCall > 0 && fuel > g.program.FuelPerCall {
		g.spent = true
		return host.Result{}, &host.Trap{Kind: host.TrapFuel, Detail: "fuel"}
	}
	in := g.input[:b.SizeBytes]
	for i := range b.Count {
		n, err := abi.ReadRecord(in, &call.Record)
		if err != nil {
			return host.Result{}, err
		}
		in, call.index = in[n:], i
		if err := g.program.Func(&call); err != nil {
			if t, ok := err.(*host.Trap); ok { //nolint:errorlint // a Func returns it bare
				g.spent = true
				return host.Result{}, t
			}
			call.outputs = abi.AppendReject(call.outputs, i, err.Error())
		}
	}
	g.checker.Reset(b.Count, len(g.setup.Outputs))
	if err := g.checker.Check(call.outputs); err != nil {
		g.spent = true
		return host.Result{}, &host.Trap{Kind: host.TrapProtocol, Detail: err.Error()}
	}
	r := host.Result{Outputs: &g.iterator, OutputCount: g.checker.Count, OutputBytes: g.checker.SizeBytes, Fuel: fuel}
	for _, v := range g.checker.Verdicts {
		r.Rejects = append(r.Rejects, host.Reject{Index: v.Input, Reason: string(v.Reason)})
	}
	g.iterator.Reset(call.outputs, nil, g.checker.Verdicts)
	g.iterator.Stamp(b.Timestamps, b.Now.UnixMilli())
	return r, nil
}

// DroppedLines implements worker.Guest.
func (g *guest) DroppedLines() int { return int(g.program.DroppedLines.Swap(0)) }

// Close implements worker.Guest.
func (g *guest) Close(context.Context) error {
	if !g.closed {
		g.closed = true
		g.program.Open.Add(-1)
	}
	return nil
}
