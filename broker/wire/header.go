package wire

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// keyProduce and keyApiVersions are the two kinds of request that frames and headers treat differently.
const (
	keyProduce     = 0
	keyApiVersions = 18
)

// minHeaderBytes is the smallest request: key, version, correlation id and a null client id.
const minHeaderBytes = 10

var errHeader = errors.New("malformed request header")

// headerTable knows from which version on a request and its response are flexible (KIP-482).
type headerTable struct {
	flexibleFrom []int16 // by key; -1: never
}

func newHeaderTable() headerTable {
	t := headerTable{flexibleFrom: make([]int16, kmsg.MaxKey+1)}
	for key := range t.flexibleFrom {
		t.flexibleFrom[key] = -1
		r := kmsg.RequestForKey(int16(key))
		if r == nil {
			continue
		}
		for v := range r.MaxVersion() + 1 {
			if r.SetVersion(v); r.IsFlexible() {
				t.flexibleFrom[key] = v
				break
			}
		}
	}
	return t
}

func (t *headerTable) flexible(key, version int16) bool {
	if key < 0 || int(key) >= len(t.flexibleFrom) {
		return false
	}
	from := t.flexibleFrom[key]
	return from >= 0 && version >= from
}

// flexibleResponse reports whether the response's header has tags. That of
// ApiVersions never has: the client does not know yet what we speak.
func (t *headerTable) flexibleResponse(key, version int16) bool {
	return key != keyApiVersions && t.flexible(key, version)
}

// header is a request header, versions 1 and 2.
type header struct {
	key, version  int16
	correlationID int32
	clientID      []byte // aliases the frame
}

// parseHeader splits a frame into header and what follows: the header's tags,
// if it has any, and the body. The client id is a nullable string with a
// 16-bit length in all versions.
func parseHeader(frame []byte) (h header, rest []byte, err error) {
	b := kbin.Reader{Src: frame}
	h.key, h.version, h.correlationID = b.Int16(), b.Int16(), b.Int32()
	if n := b.Int16(); n > 0 {
		h.clientID = b.Span(int(n))
	}
	if err := b.Complete(); err != nil {
		return h, nil, fmt.Errorf("%w: %w", errHeader, err)
	}
	return h, b.Src, nil
}

// body returns the body behind the tags of a header.
func (t *headerTable) body(h header, rest []byte) ([]byte, error) {
	if !t.flexible(h.key, h.version) {
		return rest, nil
	}
	return skipTags(rest)
}

// skipTags passes over tagged fields. A count that cannot fit in the bytes
// left is refused at once: reading on would loop for as long as it says.
func skipTags(b []byte) (rest []byte, err error) {
	r := kbin.Reader{Src: b}
	count := r.Uvarint()
	if int64(count)*2 > int64(len(r.Src)) {
		return nil, fmt.Errorf("%w: %d tags in %d bytes", errHeader, count, len(r.Src))
	}
	for ; count > 0; count-- {
		r.Uvarint()
		size := r.Uvarint()
		if int64(size) > int64(len(r.Src)) {
			return nil, fmt.Errorf("%w: tag of %d bytes, %d are left", errHeader, size, len(r.Src))
		}
		r.Span(int(size))
	}
	if err := r.Complete(); err != nil {
		return nil, fmt.Errorf("%w: %w", errHeader, err)
	}
	return r.Src, nil
}
