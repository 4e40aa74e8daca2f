// Package wasi gives guests the little of WASI preview 1 that compilers take
// for granted, and nothing else: no files, no sockets, no environment, no
// sleep, and no clock or randomness of the machine. Time is the batch's, random
// bytes come from the batch's seed, so a guest is a pure function of what it is
// given; what it prints becomes log lines.
//
// All functions of the snapshot exist, because standard libraries import many
// that they hardly call; those that would reach outside answer with an error
// number. A function that is not in the snapshot is not offered.
//
// A System belongs to one instance and is found through the call's context; it
// is used by one goroutine at a time.
package wasi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Module is the name of the import module.
const Module = "wasi_snapshot_preview1"

// Price of a host call in fuel units: what it costs the host next to a loop iteration of a guest.
const callFuel = 64

// ExitError is what the host functions panic with when the guest calls proc_exit.
type ExitError struct{ Code uint32 }

// Error implements error.
func (e *ExitError) Error() string { return fmt.Sprintf("the module called proc_exit(%d)", e.Code) }

// System is what one instance sees of the world.
type System struct {
	// Write takes what the guest prints on fd 1 or 2. p is a view, valid during the call.
	Write func(fd int, p []byte)
	// Charge takes fuel for work that the host does on the guest's behalf.
	Charge func(units int64)

	wall      int64 // ns since the epoch
	monotonic int64 // ns
	random    rand.PCG
}

// Begin sets the clock and the seed of the next call. The monotonic clock never goes back.
func (s *System) Begin(now time.Time, seed uint64) {
	s.wall = now.UnixNano()
	s.monotonic = max(s.monotonic, s.wall)
	s.random.Seed(seed, 0x6d696c6c73747265)
}

type systemKey struct{}

// WithSystem returns a context whose guest calls reach s.
func WithSystem(ctx context.Context, s *System) context.Context {
	return context.WithValue(ctx, systemKey{}, s)
}

// Offers tells whether the function is part of the snapshot.
func Offers(name string) bool {
	_, ok := signatures[name]
	return ok
}

// Instantiate registers the import module with r.
func Instantiate(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(Module)
	given := functions()
	for name, signature := range signatures {
		f, ok := given[name]
		if !ok {
			f = refuse(refusals[name])
		}
		b.NewFunctionBuilder().WithGoModuleFunction(adapt(f), valueTypes(signature), resultTypes(name)).Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// function is one WASI function: it reads its parameters from stack and returns its error number.
type function func(s *System, m api.Memory, stack []uint64) errno

func adapt(f function) api.GoModuleFunc {
	return func(ctx context.Context, m api.Module, stack []uint64) {
		s, _ := ctx.Value(systemKey{}).(*System)
		s.Charge(callFuel)
		code := f(s, m.Memory(), stack)
		if len(stack) > 0 {
			stack[0] = uint64(code)
		}
	}
}

func refuse(code errno) function {
	if code == success {
		code = errBadFile
	}
	return func(*System, api.Memory, []uint64) errno { return code }
}

func valueTypes(signature string) []api.ValueType {
	types := make([]api.ValueType, len(signature))
	for i, c := range signature {
		types[i] = api.ValueTypeI32
		if c == 'I' {
			types[i] = api.ValueTypeI64
		}
	}
	return types
}

func resultTypes(name string) []api.ValueType {
	if name == "proc_exit" {
		return nil
	}
	return []api.ValueType{api.ValueTypeI32}
}
