// Package hostile is a corpus of modules that want to hurt their host: malformed
// ones, bombs for a decoder, compiler or instance, guests that never end, flood what they
// can, or lie about addresses and sizes. Each says what must become of it.
//
// They are assembled by package wasmtest when they are asked for: no binaries are in the repository.
package hostile

import (
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// Fate is what must become of a module.
type Fate string

// The fates.
const (
	Refused  Fate = "refused"  // before any of its code is compiled in the host's process
	Stopped  Fate = "stopped"  // by a trap, at its start or in a call
	Harmless Fate = "harmless" // it runs, and what it did hurts nobody
)

// Module is one of the corpus. It is run on two small records, without headers.
type Module struct {
	Name string
	Want Fate
	Wasm []byte
}

// Good is a module that passes records through: it must run before and after any other.
func Good() []byte { return wasmtest.Guest{}.Bytes() }

// Modules is the whole corpus; what the pre-check alone refuses has more cases in package module.
func Modules() []Module {
	var all []Module
	all = append(all, malformedModules()...)
	all = append(all, bombs()...)
	all = append(all, strangeInterfaces()...)
	all = append(all, illTypedModules()...)
	all = append(all, runaways()...)
	all = append(all, crowds()...)
	all = append(all, floods()...)
	all = append(all, trespassers()...)
	return append(all, confusions()...)
}

func code() wasmtest.Code { return wasmtest.Code{} }

func unreachable() wasmtest.Code { return code().Op(wasmtest.Unreachable) }

// Forever repeats body without end.
func Forever(body wasmtest.Code) wasmtest.Code {
	return code().Loop(wasmtest.NoResult).Append(body).Br(0).End().Op(wasmtest.Unreachable)
}

// answer is a body for Process: records<<32 | size.
func answer(records, size int32) wasmtest.Code {
	return code().I64Const(int64(records)<<32 | int64(uint32(size)))
}

// withData is a guest with p at address before it starts.
func withData(g wasmtest.Guest, address int32, p []byte) wasmtest.Guest {
	prepare := g.Prepare
	g.Prepare = func(b *wasmtest.Builder) {
		b.Data(address, p)
		if prepare != nil {
			prepare(b)
		}
	}
	return g
}
