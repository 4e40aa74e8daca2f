package wire

import (
	"encoding/binary"
	"fmt"
)

// The guard stands between a socket and kmsg, whose decoders trust their input:
// they loop over tag counts that were never compared with the bytes at hand (seven
// bytes burn a core for a minute and a half) and allocate arrays by claimed
// lengths. It walks a request body by the request's form, allocates nothing, and
// takes time in proportion to the body.

// Memory that decoding may take: so much per byte of the body, and so much for
// small requests with many short names.
const (
	decodedPerByte = 8
	decodedSlack   = 64 << 10
	// stringBytes of a decoded string beyond its content: header and pointer.
	stringBytes = 24
	// tagBytes of a decoded unknown tag: an entry of a map and a slice.
	tagBytes = 128
	// maxApiVersionsBytes leaves room for the longest name and version of a client.
	maxApiVersionsBytes = 4 << 10
)

// guard walks the body of a request before it is decoded. It refuses lengths and
// counts that the bytes at hand cannot hold, and bodies that would take more
// memory than decodedPerByte and decodedSlack once decoded. What it accepts may
// still be malformed in its values, and may have bytes behind its last field.
func guard(key, version int16, body []byte) error {
	all := forms()
	if key < 0 || int(key) >= len(all) || all[key] == nil {
		return fmt.Errorf("request key %d has no known form", key)
	}
	if key == keyApiVersions && len(body) > maxApiVersionsBytes {
		return fmt.Errorf("ApiVersions request v%d of %d bytes, at most %d", version, len(body), maxApiVersionsBytes)
	}
	f := all[key]
	w := walk{
		body:     body,
		version:  version,
		flexible: f.flexibleFrom >= 0 && version >= f.flexibleFrom,
		budget:   len(body)*decodedPerByte + decodedSlack,
	}
	w.fields(f.fields)
	if w.fault != "" {
		return fmt.Errorf("request key %d version %d is malformed at byte %d of %d: %s", key, version, w.pos, len(body), w.fault)
	}
	return nil
}

// walk is the state of one guard; the first fault ends it.
type walk struct {
	body     []byte
	pos      int
	version  int16
	flexible bool
	budget   int // bytes that decoding may still take
	fault    string
}

func (w *walk) fields(list []field) {
	for i := range list {
		f := &list[i]
		if w.version < f.from || w.version > f.to {
			continue
		}
		switch f.kind {
		case fixedField:
			w.skip(f.size)
		case stringField:
			w.content(2)
		case bytesField:
			w.content(4)
		case arrayField:
			w.array(f)
		case optionalField:
			if present := w.pos < len(w.body) && w.body[w.pos] != 0xff; present {
				w.charge(f.size)
				w.skip(1)
				w.fields(f.fields)
			} else {
				w.skip(1)
			}
		case tagsField:
			w.tags()
		}
		if w.fault != "" {
			return
		}
	}
}

func (w *walk) skip(n int) {
	if n > len(w.body)-w.pos {
		w.fault = "a field reaches behind the end"
		return
	}
	w.pos += n
}

func (w *walk) charge(n int) {
	if w.budget -= n; w.budget < 0 {
		w.fault = "it would take too much memory once decoded"
	}
}

// length reads a length: of so many bytes, or of a varint that is one more in
// flexible versions. Null gives 0.
func (w *walk) length(bytes int) int {
	n := 0
	switch {
	case w.flexible:
		n = w.uvarint() - 1
	case bytes > len(w.body)-w.pos:
		w.fault = "a length reaches behind the end"
		return 0
	case bytes == 2:
		n = int(int16(binary.BigEndian.Uint16(w.body[w.pos:])))
		w.pos += 2
	default:
		n = int(int32(binary.BigEndian.Uint32(w.body[w.pos:])))
		w.pos += 4
	}
	if n < -1 && w.fault == "" {
		w.fault = "a length is negative"
	}
	return max(n, 0)
}

// content walks a string or bytes.
func (w *walk) content(lengthBytes int) {
	n := w.length(lengthBytes)
	w.charge(stringBytes + n)
	if w.fault == "" {
		w.skip(n)
	}
}

func (w *walk) array(f *field) {
	n := w.length(4)
	if w.fault != "" {
		return
	}
	if n > (len(w.body)-w.pos)/w.smallest(f.fields) {
		w.fault = "an array claims more elements than there are bytes for"
		return
	}
	w.charge(n * f.size)
	for range n {
		if w.fault != "" {
			return
		}
		w.fields(f.fields)
	}
}

// smallest returns the bytes of the smallest value of the fields, at least 1.
func (w *walk) smallest(list []field) int {
	n := 0
	for i := range list {
		f := &list[i]
		if w.version < f.from || w.version > f.to {
			continue
		}
		switch {
		case f.kind == fixedField:
			n += f.size
		case f.kind == tagsField && !w.flexible:
		case f.kind == stringField && !w.flexible:
			n += 2
		case (f.kind == bytesField || f.kind == arrayField) && !w.flexible:
			n += 4
		default:
			n++
		}
	}
	return max(n, 1)
}

// tags walks tagged fields, the known ones too: none of a request holds an array.
func (w *walk) tags() {
	if !w.flexible {
		return
	}
	n := w.uvarint()
	if w.fault == "" && n > (len(w.body)-w.pos)/2 {
		w.fault = "it claims more tags than there are bytes for"
		return
	}
	for range n {
		w.charge(tagBytes)
		w.uvarint()
		size := w.uvarint()
		if w.fault != "" {
			return
		}
		w.skip(size)
	}
}

// uvarint reads an unsigned varint of at most 32 bits.
func (w *walk) uvarint() int {
	if w.fault != "" {
		return 0
	}
	n, size := binary.Uvarint(w.body[w.pos:min(len(w.body), w.pos+binary.MaxVarintLen32)])
	if size <= 0 || n > 1<<32-1 {
		w.fault = "a varint is cut short or too long"
		return 0
	}
	w.pos += size
	return int(n)
}
