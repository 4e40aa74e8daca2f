// Package transform is the Go SDK of Millstream: write a function over records,
// compile it to WebAssembly, deploy it between topics.
//
//	package main
//
//	import (
//		"bytes"
//
//		"github.com/millstream-io/millstream/sdk/go/transform"
//	)
//
//	func init() {
//		transform.OnRecord(func(c *transform.Context, r transform.Record) error {
//			r.Value = bytes.ToUpper(r.Value)
//			c.Emit(r)
//			return nil
//		})
//	}
//
//	func main() {}
//
// A transform is a library, not a program: the host runs its init functions and
// then calls it, and main is never run. So register in init, and leave main
// empty.
//
// # Building
//
// The same source compiles with TinyGo, to some 30 KB, and with standard Go, to
// some 2 MB:
//
//	tinygo build -target=wasip1 -buildmode=c-shared -scheduler=none -opt=2 -llvm-features=+simd128 -no-debug -o p.wasm .
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o p.wasm .
//
// TinyGo 0.41 cannot recover from panics, and some of the standard library
// panics where standard Go returns an error (encoding/json of NaN,
// text/template): return errors, and test the compiled module.
//
// # Records
//
// A transform may emit any number of records for each one it handles, to one or
// several outputs. Key, event time and headers are kept if the record that is
// emitted is the one that came in with another value; a Record made from
// nothing keeps the event time only. Returning an error, or Context.Reject,
// fails this record alone; the deployment's error policy says where it goes.
//
// Nothing is copied or allocated per record by the SDK: what a RecordFunc gets
// are views of the input, valid until it returns, and what it emits is copied
// once, into the output.
//
// # Determinism
//
// A transform has no files, no network, no environment and no clock but the
// batch's: given the same records it gives the same results. A panic stops the
// instance; the host then finds the record that caused it and treats it as
// rejected, so what a transform remembers in variables must be such that a new
// instance can do without.
//
// # Testing
//
// Package transformtest runs a transform natively in go test.
package transform
