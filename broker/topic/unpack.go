package topic

import (
	"errors"
	"runtime"

	"github.com/millstream-io/millstream/broker/record"
)

// A batch is unpacked once to count its records, in a buffer that is used again.
const (
	// maxUnpackedBytes caps what a compressed batch may unpack to.
	maxUnpackedBytes = 64 << 20
	// keepUnpackedBytes is the largest buffer that is kept between batches, and what is tried first.
	keepUnpackedBytes = 4 << 20
	// maxLargeUnpacked is how many batches that unpack to more are in memory at a time.
	maxLargeUnpacked = 4
)

// unpacking bounds the memory that compressed batches take unpacked, however
// many connections send them at once: a few hundred bytes may unpack to
// maxUnpackedBytes. It is work for processors, so more at a time would gain nothing.
type unpacking struct{ any, large chan struct{} }

func newUnpacking() unpacking {
	return unpacking{any: make(chan struct{}, 4*runtime.GOMAXPROCS(0)), large: make(chan struct{}, maxLargeUnpacked)}
}

// run has f unpack to at most keepUnpackedBytes, and if that is too little, when
// it is its turn, to at most maxUnpackedBytes.
func (u *unpacking) run(f func(maxBytes int) error) error {
	u.any <- struct{}{}
	err := f(keepUnpackedBytes)
	<-u.any
	if !errors.Is(err, record.ErrTooLarge) {
		return err
	}
	u.large <- struct{}{}
	defer func() { <-u.large }()
	return f(maxUnpackedBytes)
}
