package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/sdk/abi"
)

// recordOffsetAt is where a record of the guest ABI has its offset.
const recordOffsetAt = 16

// caller takes records of one partition through one guest.
type caller struct {
	w       *Worker
	session engine.Session
	tp      engine.TopicPartition
	seed    uint64
	release *release
	logs    *LogSource
	size    sizing
	guest   *lodger // nil: to be made

	fetch   engine.Fetch
	now     time.Time // the clock of the guest, the same for all calls of a fetch
	bytesIn int64     // of the flat form, taken by calls that went well

	hard context.Context // ends: drop what is in hand
}

// call takes as many records from first on as one call of the guest may
// have, not reaching end, and produces their outputs. next is the first record that is not handled:
// behind the batch, or with a *Failure the record that stops the deployment.
// With a *refusal the transaction is spoilt.
func (p *partition) call(first, end int) (next int, err error) {
	n, result, err := p.process(first, min(end-first, p.size.records))
	if err != nil {
		if trapped, ok := errors.AsType[*trap](err); ok {
			return p.narrow(first, n, trapped)
		}
		return first, err
	}
	return p.produce(first, n, result)
}

// trap is a failed call whose guest is spent.
type trap struct {
	cause *host.Trap
	// fresh: the guest had handled nothing before, so the trap is not a late effect of other records.
	fresh bool
}

func (t *trap) Error() string { return t.cause.Error() }

// process encodes records from first on, at most limit, and runs the guest on
// them. With a *trap, n is the number of records that were or were to be in the call.
func (p *caller) process(first, limit int) (n int, r host.Result, err error) {
	g, input, size, n, err := p.encode(first, limit)
	if err != nil {
		return n, r, err
	}
	stats := p.w.config.Stats
	started := time.Now()
	r, err = g.Process(p.hard, host.Batch{
		Count: n, SizeBytes: size, Input: p.session.Input(), Partition: p.tp.Partition,
		Now: p.now, Seed: mix(p.seed, binary.LittleEndian.Uint64(input[recordOffsetAt:])),
		Timestamps: p.fetch.Timestamps()[first : first+n],
	})
	took := time.Since(started)
	stats.observeCall(took)
	p.logs.Dropped(g.DroppedLines())
	if err != nil {
		return n, r, p.spent(err)
	}
	g.used = true
	p.size.succeeded(n, r.Fuel, took)
	stats.Fuel.Add(r.Fuel)
	p.bytesIn = int64(size)
	return n, r, nil
}

// instance returns the partition's guest, making it if there is none.
func (p *caller) instance() (*lodger, error) {
	if p.guest != nil {
		return p.guest, nil
	}
	g, err := p.w.releases.takeGuest(p.hard, p.release, p.logs)
	if err != nil {
		if p.hard.Err() != nil {
			return nil, p.hard.Err()
		}
		return nil, fmt.Errorf("start the module again: %w", err)
	}
	p.guest = g
	return g, nil
}

// encode writes records into the input area of the guest; a single record
// that is larger than the area enlarges it.
func (p *caller) encode(first, limit int) (g *lodger, input []byte, size, n int, err error) {
	for {
		if g, err = p.instance(); err != nil {
			return nil, nil, 0, 0, err
		}
		if input, err = g.Input(p.hard, p.size.bytes); err == nil {
			break
		}
		if err = p.spent(err); !isTrap(err) || !p.size.refused() {
			return nil, nil, 0, 1, err
		}
	}
	size, n, need := p.fetch.Encode(input[:min(len(input), p.size.bytes)], first, limit)
	if n > 0 {
		return g, input, size, n, nil
	}
	if input, err = g.Input(p.hard, need); err != nil {
		return nil, nil, 0, 1, p.spent(err)
	}
	if size, n, need = p.fetch.Encode(input, first, 1); n == 0 {
		return nil, nil, 0, 1, fmt.Errorf("the record at offset %d needs %d bytes of an input area of %d", p.fetch.Record(first).Offset, need, len(input))
	}
	return g, input, size, n, nil
}

func isTrap(err error) bool {
	_, ok := errors.AsType[*trap](err)
	return ok
}

// spent takes the guest away after an error and tells a trap from the end of the worker.
func (p *caller) spent(err error) error {
	fresh := !p.guest.used
	p.dropGuest()
	p.w.config.Stats.Restarts.Add(1)
	cause, ok := errors.AsType[*host.Trap](err)
	switch {
	case p.hard.Err() != nil:
		return p.hard.Err()
	case !ok || cause.Kind == host.TrapCancelled:
		return fmt.Errorf("call the module: %w", err)
	}
	p.w.config.Stats.Traps.Add(1)
	return &trap{cause, fresh}
}

// produce hands the outputs of a call to the session and applies the error policy to its rejects.
func (p *partition) produce(first, n int, r host.Result) (next int, err error) {
	if len(r.Rejects) > 0 {
		if i, failure := p.stopsAt(first, r.Rejects); failure != nil {
			return p.produceBefore(first, r, i, failure)
		}
	}
	tally := &p.transaction.tally
	tally.bytesIn += p.bytesIn
	if r.OutputCount > 0 {
		if err := p.write(first, r.Outputs); err != nil {
			return first, err
		}
		tally.recordsOut += int64(r.OutputCount)
		tally.bytesOut += int64(r.OutputBytes)
	}
	if err := p.applyAll(first, r.Rejects); err != nil {
		return first, err
	}
	tally.recordsIn += int64(n)
	p.saw(n, len(r.Rejects))
	return first + n, nil
}

// stopsAt finds the first reject that ends the deployment, if there is one.
func (p *judge) stopsAt(first int, rejects []host.Reject) (i int, failure *Failure) {
	for i, reject := range rejects {
		// What is not seen yet of this call: the records up to this one, of which i have failed already.
		failure := p.stops(first+reject.Index, outcomes{int64(reject.Index + 1), int64(i + 1)}, rejection(reject))
		if failure != nil {
			return i, failure
		}
	}
	return 0, nil
}

func rejection(r host.Reject) deadletter.Failure {
	return deadletter.Failure{Kind: deadletter.KindReject, Reason: r.Reason}
}

func (p *judge) applyAll(first int, rejects []host.Reject) error {
	for _, reject := range rejects {
		if err := p.apply(first+reject.Index, rejection(reject)); err != nil {
			return err
		}
	}
	return nil
}

// produceBefore hands on what comes ahead of the reject with index i, which stops the deployment.
func (p *partition) produceBefore(first int, r host.Result, i int, failure *Failure) (next int, err error) {
	index := r.Rejects[i].Index
	kept := &before{outputs: r.Outputs, input: index}
	if err := p.write(first, kept); err != nil {
		return first, err
	}
	if err := p.applyAll(first, r.Rejects[:i]); err != nil {
		return first, err
	}
	tally := &p.transaction.tally
	tally.recordsOut += kept.count
	tally.recordsIn += int64(index)
	tally.rejected++
	return first + index, failure
}

// write adds outputs of the call that begins at record first to the open batch.
func (p *judge) write(first int, outputs abi.Outputs) error {
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.session.Produce(p.hard, outputs); err != nil {
		return p.refused(first, err)
	}
	return nil
}

// before ends a sequence of outputs ahead of those of an input.
type before struct {
	outputs abi.Outputs
	input   int
	count   int64
}

// Next implements abi.Outputs; entries ascend by input.
func (b *before) Next(o *abi.Output) bool {
	if !b.outputs.Next(o) || o.Input >= b.input {
		return false
	}
	b.count++
	return true
}

// seedOf is FNV-1a over the name of the partition.
func seedOf(tp engine.TopicPartition) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(tp.Topic) {
		h = (h ^ uint64(tp.Topic[i])) * 1099511628211
	}
	return mix(h, uint64(tp.Partition))
}

// mix is a step of SplitMix64: near inputs give far outputs.
func mix(a, b uint64) uint64 {
	z := a + (b+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (p *caller) dropGuest() {
	if p.guest == nil {
		return
	}
	p.w.closeGuest(p.guest)
	p.guest = nil
}
