package native

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/sdk/abi"
)

// Process runs the guest once on the records that the view of Input holds:
// h.Count of them in size bytes. It returns what the checked outputs are; they
// are views, valid until the guest runs again. More than maxOutput bytes of
// output entries end in ErrOutput. It does not allocate unless the guest
// flushes more than ever before.
func (g *Guest) Process(ctx context.Context, h *abi.BatchHeader, size int, maxOutput int64) error {
	a := g.areas[abi.AreaInput]
	total := size + abi.BatchHeaderBytes
	if size < 0 || uint64(total) > uint64(a.size) {
		return fmt.Errorf("batch of %d bytes in an input area of %d: call Input first", total, a.size)
	}
	block, ok := g.module.Memory().Read(a.address, uint32(total))
	if !ok {
		return g.outside("input", a)
	}
	h.Put(block)
	g.checker.Reset(h.Count, g.outputs)
	g.flushed = g.flushed[:0]
	g.maxOutput = maxOutput
	g.processing = true
	result, err := g.call(ctx, g.process, uint64(a.address), uint64(total))
	g.processing = false
	if err != nil {
		return err
	}
	if records := int64(result >> 32); records != int64(h.Count) {
		return fmt.Errorf("%w: it says it handled %d records of a batch of %d", ErrProtocol, records, h.Count)
	}
	return g.finish(uint32(result))
}

// finish checks the last size bytes of output, which lie in the output area.
func (g *Guest) finish(size uint32) error {
	out := g.areas[abi.AreaOutput]
	if size > out.size {
		return fmt.Errorf("%w: %d bytes of output in an area of %d", ErrProtocol, size, out.size)
	}
	tail, ok := g.module.Memory().Read(out.address, size)
	if !ok {
		return g.outside("output", out)
	}
	if total := int64(len(g.flushed)) + int64(size); total > g.maxOutput {
		return g.tooMuch(total)
	}
	if err := g.check(tail); err != nil {
		return err
	}
	g.iterator.Reset(g.flushed, tail, g.checker.Verdicts)
	return nil
}

// flush checks a piece of output and keeps a copy.
func (g *Guest) flush(piece []byte) error {
	// The copy is checked, not the original: reasons of verdicts are views of it.
	start := len(g.flushed)
	if int64(start)+int64(len(piece)) > g.maxOutput {
		return g.tooMuch(int64(start) + int64(len(piece)))
	}
	g.flushed = append(g.flushed, piece...)
	return g.check(g.flushed[start:])
}

func (g *Guest) check(piece []byte) error {
	if err := g.checker.Check(piece); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func (g *Guest) tooMuch(total int64) error {
	return fmt.Errorf("%w: %d bytes of entries, %d are allowed", ErrOutput, total, g.maxOutput)
}

// Outputs walks the outputs of the latest Process, those of rejected inputs
// left out. Outputs that set no timestamp have abi.NoTimestamp, unless Stamp tells otherwise.
func (g *Guest) Outputs() *abi.OutputIterator { return &g.iterator }

// Verdicts are the inputs that the latest Process rejected, ascending.
func (g *Guest) Verdicts() []abi.Verdict { return g.checker.Verdicts }

// OutputCount and OutputBytes are the outputs of the latest Process: entries and their bytes.
func (g *Guest) OutputCount() int { return g.checker.Count }

// OutputBytes is the size of the entries that OutputCount counts.
func (g *Guest) OutputBytes() int { return g.checker.SizeBytes }
