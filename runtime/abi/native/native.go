// Package native is the host's side of the native guest ABI, version 1, as
// sdk/abi/SPEC.md defines it: the import module, the areas in guest memory, and
// the one call per batch. It trusts nothing the guest says: each address and
// length is checked where it is used, and outputs are checked as a whole before
// the first one is handed out.
//
// Fuel, time and the kinds of traps are the business of package host, which
// owns the instance. A Guest belongs to one goroutine. What it returns are views
// of guest memory, valid until the guest runs again.
package native

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/sdk/abi"
)

// What a guest can do wrong beside trapping; all are wrapped with the details.
var (
	// ErrProtocol: it broke the ABI.
	ErrProtocol = errors.New("the module broke the ABI")
	// ErrOutput: it put out more than it may.
	ErrOutput = errors.New("too much output")
	// ErrArea: it refused to give an area of the size the host needs.
	ErrArea = errors.New("the module gives no area of memory")
)

// Prices of host calls in fuel units: a flat one, and one for every so many bytes moved.
const (
	callFuel     = 64
	bytesPerFuel = 4
)

// Offers tells whether the import module has the function.
func Offers(name string) bool { return name == abi.ImportLog || name == abi.ImportFlush }

type guestKey struct{}

// WithGuest returns a context whose guest calls reach g.
func WithGuest(ctx context.Context, g *Guest) context.Context {
	return context.WithValue(ctx, guestKey{}, g)
}

// Instantiate registers the import module with r.
func Instantiate(ctx context.Context, r wazero.Runtime) error {
	i32 := api.ValueTypeI32
	b := r.NewHostModuleBuilder(abi.ImportModule)
	b.NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(importLog), []api.ValueType{i32, i32, i32}, nil).
		Export(abi.ImportLog)
	b.NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(importFlush), []api.ValueType{i32, i32}, nil).
		Export(abi.ImportFlush)
	_, err := b.Instantiate(ctx)
	return err
}

func importLog(ctx context.Context, m api.Module, stack []uint64) {
	g, _ := ctx.Value(guestKey{}).(*Guest)
	level, address, size := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	line, ok := m.Memory().Read(address, size)
	if !ok {
		panic(fmt.Errorf("%w: log line of %d bytes at %#x lies outside of memory", ErrProtocol, size, address))
	}
	g.hooks.Charge(callFuel + int64(len(line))/bytesPerFuel)
	g.hooks.Log(min(level, abi.LevelError), line)
}

func importFlush(ctx context.Context, m api.Module, stack []uint64) {
	g, _ := ctx.Value(guestKey{}).(*Guest)
	address, size := uint32(stack[0]), uint32(stack[1])
	if !g.processing {
		panic(fmt.Errorf("%w: flush outside of %s", ErrProtocol, abi.ExportProcess))
	}
	piece, ok := m.Memory().Read(address, size)
	if !ok {
		panic(fmt.Errorf("%w: flush of %d bytes at %#x lies outside of memory", ErrProtocol, size, address))
	}
	g.hooks.Charge(callFuel + int64(len(piece))/bytesPerFuel)
	if err := g.flush(piece); err != nil {
		panic(err)
	}
}

// Hooks are what a Guest needs of its host.
type Hooks struct {
	// Log takes a line of ImportLog; level is one of the ABI's, line a view.
	Log func(level uint32, line []byte)
	// Charge takes fuel for work that the host does on the guest's behalf.
	Charge func(units int64)
}

// area is a part of guest memory that the guest has given to the host.
type area struct{ address, size uint32 }

func (a area) overlaps(b area) bool {
	return a.size > 0 && b.size > 0 &&
		uint64(a.address) < uint64(b.address)+uint64(b.size) && uint64(b.address) < uint64(a.address)+uint64(a.size)
}

// Guest speaks the ABI with one instance.
type Guest struct {
	module  api.Module
	hooks   Hooks
	alloc   api.Function
	setup   api.Function
	process api.Function
	stack   [2]uint64

	areas   [3]area // by abi.AreaSetup, …
	outputs int     // outputs of the deployment

	processing bool
	maxOutput  int64
	flushed    []byte
	checker    abi.OutputChecker
	iterator   abi.OutputIterator
}

// Attach makes g speak with m. Error: ErrProtocol, naming what m does not export.
func (g *Guest) Attach(m api.Module, hooks Hooks) error {
	*g = Guest{module: m, hooks: hooks}
	for _, export := range []struct {
		name string
		f    *api.Function
	}{{abi.ExportAlloc, &g.alloc}, {abi.ExportSetup, &g.setup}, {abi.ExportProcess, &g.process}} {
		if *export.f = m.ExportedFunction(export.name); *export.f == nil {
			return fmt.Errorf("%w: it does not export %s", ErrProtocol, export.name)
		}
	}
	if m.Memory() == nil {
		return fmt.Errorf("%w: it has no memory", ErrProtocol)
	}
	return nil
}

// Setup hands the setup block over. refusal is what the guest says against its
// configuration, empty if it is ready.
func (g *Guest) Setup(ctx context.Context, s *abi.Setup) (refusal string, err error) {
	g.outputs = len(s.Outputs)
	size := abi.SetupSize(s)
	if size > math.MaxInt32 {
		return "", fmt.Errorf("%w: setup block of %d bytes", ErrArea, size)
	}
	if err := g.ensure(ctx, abi.AreaSetup, uint32(size)); err != nil {
		return "", err
	}
	a := g.areas[abi.AreaSetup]
	dst, ok := g.module.Memory().Read(a.address, uint32(size))
	if !ok {
		return "", g.outside("setup", a)
	}
	abi.AppendSetup(dst[:0:size], s)
	result, err := g.call(ctx, g.setup, uint64(a.address), uint64(size))
	if err != nil || result == 0 {
		return "", err
	}
	message, ok := g.module.Memory().Read(uint32(result>>32), uint32(result))
	if !ok {
		return "", fmt.Errorf("%w: message of %d bytes at %#x lies outside of memory", ErrProtocol, uint32(result), uint32(result>>32))
	}
	return string(message[:min(len(message), maxMessageBytes)]), nil
}

const maxMessageBytes = 4096

// Areas grow in steps, so that batches of about the same size need one alloc.
const (
	minAreaBytes       = 64 << 10
	maxOutputAreaBytes = 1 << 20
)

// Input returns a view of the input area behind the batch header, size bytes
// long. The guest is asked for a larger area when it is too small. Errors:
// ErrArea, ErrProtocol, or a trap.
func (g *Guest) Input(ctx context.Context, size int) ([]byte, error) {
	if size < 0 || size > math.MaxInt32-abi.BatchHeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes of input", ErrArea, size)
	}
	need := uint32(size + abi.BatchHeaderBytes)
	if g.areas[abi.AreaInput].size < need {
		if err := g.enlarge(ctx, need); err != nil {
			return nil, err
		}
	}
	a := g.areas[abi.AreaInput]
	view, ok := g.module.Memory().Read(a.address, need)
	if !ok {
		return nil, g.outside("input", a)
	}
	return view[abi.BatchHeaderBytes:need:need], nil
}

// enlarge gets an input area of at least need bytes and an output area to match.
func (g *Guest) enlarge(ctx context.Context, need uint32) error {
	rounded := (need + minAreaBytes - 1) / minAreaBytes * minAreaBytes
	if err := g.ensure(ctx, abi.AreaInput, rounded); err != nil {
		return err
	}
	return g.ensure(ctx, abi.AreaOutput, min(rounded, maxOutputAreaBytes))
}

// ensure asks the guest for an area unless the one it gave is large enough.
func (g *Guest) ensure(ctx context.Context, kind int, size uint32) error {
	if g.areas[kind].size >= size {
		return nil
	}
	g.areas[kind] = area{}
	result, err := g.call(ctx, g.alloc, uint64(kind), uint64(size))
	if err != nil {
		return err
	}
	a := area{address: uint32(result), size: size}
	name := areaNames[kind]
	if a.address == 0 {
		return fmt.Errorf("%w: %d bytes for %s", ErrArea, size, name)
	}
	if a.address%8 != 0 {
		return fmt.Errorf("%w: %s area at %#x is not aligned to 8 bytes", ErrProtocol, name, a.address)
	}
	if uint64(a.address)+uint64(size) > uint64(g.module.Memory().Size()) {
		return g.outside(name, a)
	}
	for other, b := range g.areas {
		if a.overlaps(b) {
			return fmt.Errorf("%w: %s area overlaps the %s area", ErrProtocol, name, areaNames[other])
		}
	}
	g.areas[kind] = a
	return nil
}

var areaNames = [3]string{abi.AreaSetup: "setup", abi.AreaInput: "input", abi.AreaOutput: "output"}

func (g *Guest) outside(name string, a area) error {
	return fmt.Errorf("%w: %s area of %d bytes at %#x lies outside of memory", ErrProtocol, name, a.size, a.address)
}

// call calls f, which has two i32 parameters and one result.
func (g *Guest) call(ctx context.Context, f api.Function, a, b uint64) (uint64, error) {
	g.stack = [2]uint64{a, b}
	if err := f.CallWithStack(ctx, g.stack[:]); err != nil {
		return 0, err
	}
	return g.stack[0], nil
}
