// Upper writes the value of every record in upper case. See README.md.
package main

import (
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/internal/letters"
	"github.com/millstream-io/millstream/sdk/go/transform"
)

func init() {
	u := &upper{value: make([]byte, 0, 1024)} // never nil: an empty value is not null
	transform.OnRecord(u.record)
}

func main() {}

// upper is the state of one instance: a buffer that is used again for every record.
type upper struct{ value []byte }

func (u *upper) record(c *transform.Context, r transform.Record) error {
	if r.Value != nil {
		if cap(u.value) < len(r.Value) {
			u.value = make([]byte, len(r.Value)+len(r.Value)/2)
		}
		r.Value = upperCase(u.value[:0], r.Value)
	}
	c.Emit(r)
	return nil
}

// upperCase writes text in upper case to dst, which has room for it. No letter becomes longer.
func upperCase(dst, text []byte) []byte {
	dst = dst[:len(text)]
	var seen byte
	for i, c := range text { // no branch and no bounds check: compiled to 16 bytes at a time
		seen |= c
		lower := byte(0)
		if c-'a' < 26 {
			lower = 'a' - 'A'
		}
		dst[i] = c - lower
	}
	if seen < utf8.RuneSelf {
		return dst
	}
	dst = dst[:0]
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError {
			dst = append(dst, text[i:i+size]...) // not UTF-8: as it is
		} else {
			dst = utf8.AppendRune(dst, letters.ToUpper(r))
		}
		i += size
	}
	return dst
}
