package transform

import (
	"errors"
	"time"
	"unsafe"

	"github.com/millstream-io/millstream/sdk/go/transform/internal/flat"
)

// Level is the level of a log line.
type Level uint32

// The log levels.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
)

// Output is a handle of one of the deployment's outputs. The zero value is the
// first one, where Emit writes.
type Output uint16

// Context is what a RecordFunc works with. It belongs to the call: keep no
// pointer to it.
type Context struct {
	environment
	now       int64
	seed      uint64
	input     uint32
	partition int32

	area  []byte // where output entries go
	used  int    // bytes of area
	large []byte // for an entry that is larger than area
	arena arena

	// Of the record at hand.
	index    uint32
	mark     int // where its entries begin in area
	failed   bool
	reason   string
	original int64 // its event time
}

// Emit writes r to the first output. Its slices are copied.
func (c *Context) Emit(r Record) {
	if !c.write(0, &r) {
		c.writeElse(0, &r)
	}
}

// EmitTo writes r to an output that was looked up by Setup.Output. Its slices
// are copied. A record that cannot be written (no such output, a negative event
// time) rejects the record at hand.
func (c *Context) EmitTo(output Output, r Record) {
	if !c.write(uint32(output), &r) {
		c.writeElse(uint32(output), &r)
	}
}

// write is the way of nearly every record. It calls nothing that could allocate
// or panic: TinyGo would clear and fill, in each call, room for all the pointers
// it holds. What is rare is left to writeElse.
//
//go:noinline
func (c *Context) write(output uint32, r *Record) bool {
	// TinyGo asks no pointer that was converted whether it is nil.
	c, r = (*Context)(unsafe.Pointer(c)), (*Record)(unsafe.Pointer(r))
	h := flat.OutputHeader{KindFlagsOutput: flat.KindRecord | output<<16}
	if r.Timestamp != 0 && r.Timestamp != c.original {
		h.KindFlagsOutput |= flat.FlagTimestamp << 8
		h.Timestamp = r.Timestamp
	}
	size := flat.OutputHeaderBytes + len(r.Key) + len(r.Value) + len(r.Headers.flat)
	if c.failed || output >= uint32(len(c.outputs)) || h.Timestamp < 0 || size > len(c.area)-c.used {
		return false
	}
	h.Size, h.Index = uint32(size), c.index
	h.KeyLength, h.ValueLength, h.HeaderCount = flat.Length(r.Key), flat.Length(r.Value), uint32(r.Headers.count)
	flat.StoreOutput(flat.Rest(c.area, c.used), &h, r.Key, r.Value, r.Headers.flat)
	c.used += size
	return true
}

// writeElse does what write cannot: it refuses, makes room, or hands an entry
// that is larger than the area over by itself.
//
//go:noinline
func (c *Context) writeElse(output uint32, r *Record) {
	switch {
	case c.failed:
		return
	case output >= uint32(len(c.outputs)), r.Timestamp < 0 && r.Timestamp != c.original:
		c.refuse(output)
		return
	}
	size := flat.OutputHeaderBytes + len(r.Key) + len(r.Value) + len(r.Headers.flat)
	if c.makeRoom(size) {
		c.write(output, r)
		return
	}
	h := flat.OutputHeader{
		Size: uint32(size), KindFlagsOutput: flat.KindRecord | output<<16, Index: c.index,
		KeyLength: flat.Length(r.Key), ValueLength: flat.Length(r.Value), HeaderCount: uint32(r.Headers.count),
	}
	if r.Timestamp != 0 && r.Timestamp != c.original {
		h.KindFlagsOutput |= flat.FlagTimestamp << 8
		h.Timestamp = r.Timestamp
	}
	flat.StoreOutput(c.large[:size], &h, r.Key, r.Value, r.Headers.flat)
	c.host.flush(c.large[:size])
}

// refuse rejects the record at hand because of one that cannot be written.
//
//go:noinline
func (c *Context) refuse(output uint32) {
	if output >= uint32(len(c.outputs)) {
		c.Reject("emit: the deployment has no such output; it has: " + list(c.outputs))
		return
	}
	c.Reject("emit: event time before 1970")
}

// EmitNamed writes r to the output of that name. It is EmitTo for code that
// keeps no handles; a name that does not exist rejects the record at hand.
func (c *Context) EmitNamed(name string, r Record) {
	output, err := c.Output(name)
	if err != nil {
		c.Reject("emit: " + err.Error())
		return
	}
	c.EmitTo(output, r)
}

// makeRoom hands the entries in the output area over, so that there is room
// for size bytes. If the area is smaller than that, it makes c.large as large.
// The host drops the entries of the record at hand if it is rejected later.
//
//go:noinline
func (c *Context) makeRoom(size int) (inArea bool) {
	if c.used > 0 {
		c.host.flush(c.area[:c.used])
	}
	c.used, c.mark = 0, 0
	if size <= len(c.area) {
		return true
	}
	if cap(c.large) < size {
		c.large = make([]byte, size)
	}
	return false
}

// Reject fails the record at hand, as returning an error does: what it emitted
// is dropped, and what it emits from now on. The first reason counts.
func (c *Context) Reject(reason string) {
	if !c.failed {
		c.failed, c.reason = true, reason
	}
}

// Now is the time of the batch, the same for all its records: a transform sees
// no other clock, so that it gives the same results when it is replayed.
func (c *Context) Now() time.Time { return time.UnixMilli(c.now).UTC() }

// Seed is a number for pseudo-random generators that differs from batch to
// batch, and is the same when a batch is replayed. Standard Go's crypto/rand draws from
// it, too; TinyGo's is seeded only once, at the start.
func (c *Context) Seed() uint64 { return c.seed }

// Topic is the input topic of the record.
func (c *Context) Topic() string {
	if int(c.input) >= len(c.inputs) {
		return ""
	}
	return c.inputs[c.input]
}

// Partition is the partition of the record in its topic.
func (c *Context) Partition() int { return int(c.partition) }

// verdict ends a record that failed.
//
//go:noinline
func (c *Context) verdict(err error) {
	if err != nil {
		c.failed, c.reason = true, err.Error()
	}
	c.used = c.mark
	reason := unsafe.Slice(unsafe.StringData(c.reason), len(c.reason))
	size := flat.OutputHeaderBytes + len(reason)
	inArea := size <= len(c.area)-c.used || c.makeRoom(size)
	b := c.large
	if inArea {
		b = c.area[c.used:]
		c.used += size
	}
	b = b[:size]
	flat.Store32(b, 0, uint32(size))
	flat.Store32(b, 4, flat.KindReject)
	flat.Store32(b, 8, c.index)
	flat.Store32(b, 12, flat.Null)
	flat.Store32(b, 16, uint32(len(reason)))
	flat.Store32(b, 20, 0)
	flat.Store64(b, 24, 0)
	copy(b[flat.OutputHeaderBytes:], reason)
	if !inArea {
		c.host.flush(b)
	}
}

// environment is what Setup and Context have in common.
type environment struct {
	host       port
	deployment string
	inputs     []string
	outputs    []string
	config     []pair
	assets     []pair
}

type pair struct {
	name  string
	value []byte
}

// Deployment is the name of the deployment.
func (e *environment) Deployment() string { return e.deployment }

// Outputs are the names of the deployment's outputs. The slice is the SDK's own.
func (e *environment) Outputs() []string { return e.outputs }

// Inputs are the deployment's input topics. The slice is the SDK's own.
func (e *environment) Inputs() []string { return e.inputs }

// Output looks an output up by its name.
func (e *environment) Output(name string) (Output, error) {
	for i, n := range e.outputs {
		if n == name {
			return Output(i), nil
		}
	}
	return 0, errors.New("output " + name + " is not bound to a topic; bound are: " + list(e.outputs))
}

// Config returns a config value, or the empty string.
func (e *environment) Config(name string) string {
	value, _ := e.LookupConfig(name)
	return value
}

// LookupConfig returns a config value and whether the deployment sets it.
func (e *environment) LookupConfig(name string) (value string, ok bool) {
	v, ok := find(e.config, name)
	return unsafe.String(unsafe.SliceData(v), len(v)), ok
}

// Asset returns the content of a file that was given at deploy time. It must
// not be changed, and stays valid.
func (e *environment) Asset(name string) (content []byte, ok bool) { return find(e.assets, name) }

// Log writes a line to the deployment's log.
func (e *environment) Log(level Level, line string) {
	e.host.log(uint32(level), unsafe.Slice(unsafe.StringData(line), len(line)))
}

func find(pairs []pair, name string) ([]byte, bool) {
	for i := range pairs {
		if pairs[i].name == name {
			return pairs[i].value, true
		}
	}
	return nil, false
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	s := names[0]
	for _, n := range names[1:] {
		s += ", " + n
	}
	return s
}
