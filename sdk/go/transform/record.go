package transform

import (
	"time"
	"unsafe"

	"github.com/millstream-io/millstream/sdk/go/transform/internal/flat"
)

// Record is an event: what OnRecord gets and what Emit takes. A nil Key or
// Value is null, which is not the same as empty: on a compacted topic a null
// value deletes its key.
type Record struct {
	Key   []byte
	Value []byte
	// Timestamp is the event time in ms since the epoch. An emitted record with 0
	// has the event time of the record it was made from.
	Timestamp int64
	// Offset is the position in the input partition; of no meaning for emitted records.
	Offset  int64
	Headers Headers
}

// Time returns Timestamp as a time in UTC.
func (r Record) Time() time.Time { return time.UnixMilli(r.Timestamp).UTC() }

// Headers are the headers of a record, in order; names may repeat. The zero
// value has none. A copy may be changed without changing the original.
type Headers struct {
	flat  []byte
	count int
	// Headers of an input record grow in the arena of its Context, at start-1 if
	// start is not 0; others grow like any slice.
	arena *arena
	start int
}

// arena is memory for the headers made while one record is handled. It is used
// again for the next record, so in the long run it allocates nothing.
type arena struct{ buf []byte }

// NewHeaders returns headers of alternating names and values.
func NewHeaders(namesAndValues ...string) Headers {
	var h Headers
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		h.Add(namesAndValues[i], []byte(namesAndValues[i+1]))
	}
	return h
}

// Len returns the number of headers.
func (h Headers) Len() int { return h.count }

// Get returns the value of the last header of that name; a null value is nil.
func (h Headers) Get(name string) (value []byte, ok bool) {
	for rest := h.flat; len(rest) > 0; {
		var n string
		var v []byte
		if n, v, rest = next(rest); n == name {
			value, ok = v, true
		}
	}
	return value, ok
}

// Iterate walks the headers without allocating, whatever the compiler:
//
//	i := r.Headers.Iterate()
//	for i.Next() {
//		use(i.Name, i.Value)
//	}
//
// Declare it outside of the for clause, as here: TinyGo allocates a loop's own
// variables for each turn if their address is taken.
func (h Headers) Iterate() HeaderIterator { return HeaderIterator{rest: h.flat} }

// HeaderIterator stands at one header of a record. Name and Value are views; a
// null value is nil.
type HeaderIterator struct {
	Name  string
	Value []byte
	rest  []byte
}

// Next goes to the next header, at first to the first one; false means that there is none.
func (i *HeaderIterator) Next() bool {
	if len(i.rest) == 0 {
		return false
	}
	i.Name, i.Value, i.rest = next(i.rest)
	return true
}

// All walks the headers: for name, value := range r.Headers.All(). Names and
// values are views; a null value is nil. TinyGo allocates some 60 bytes for such
// a loop, standard Go nothing; Iterate never does.
func (h Headers) All() func(yield func(name string, value []byte) bool) {
	return func(yield func(string, []byte) bool) {
		for rest := h.flat; len(rest) > 0; {
			var name string
			var value []byte
			if name, value, rest = next(rest); !yield(name, value) {
				return
			}
		}
	}
}

// next takes one header off the front of rest.
func next(rest []byte) (name string, value, left []byte) {
	nameLen, valueLen := flat.Load32(rest, 0), flat.Load32(rest, 4)
	n, at := flat.Take(rest, flat.HeaderEntryBytes, nameLen)
	value, at = flat.Take(rest, at, valueLen)
	return unsafe.String(unsafe.SliceData(n), len(n)), value, rest[at:]
}

// Add appends a header. A nil value is null.
func (h *Headers) Add(name string, value []byte) {
	var fixed [flat.HeaderEntryBytes]byte
	flat.Store32(fixed[:], 0, uint32(len(name)))
	flat.Store32(fixed[:], 4, flat.Length(value))
	b := h.own()
	b = append(b, fixed[:]...)
	b = append(b, name...)
	b = append(b, value...)
	h.keep(b)
	h.count++
}

// Set appends a header in the place of all headers of that name.
func (h *Headers) Set(name string, value []byte) {
	h.Delete(name)
	h.Add(name, value)
}

// Delete removes all headers of that name.
func (h *Headers) Delete(name string) {
	if _, ok := h.Get(name); !ok {
		return
	}
	old := h.flat
	*h = Headers{arena: h.arena}
	for len(old) > 0 {
		n, value, rest := next(old)
		if n != name {
			h.Add(n, value)
		}
		old = rest
	}
}

// own returns a buffer that ends with the headers, to append more to.
func (h *Headers) own() []byte {
	if h.arena == nil {
		// The capacity is cut: a copy of h may share the bytes.
		return h.flat[:len(h.flat):len(h.flat)]
	}
	a := h.arena
	if h.start == 0 || h.start-1+len(h.flat) != len(a.buf) {
		h.start = len(a.buf) + 1
		a.buf = append(a.buf, h.flat...)
	}
	return a.buf
}

// keep takes back what own returned, with more behind it.
func (h *Headers) keep(b []byte) {
	if h.arena == nil {
		h.flat = b
		return
	}
	h.arena.buf = b
	h.flat = b[h.start-1 : len(b) : len(b)]
}
