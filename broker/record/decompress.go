package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxZstdWindow is the largest window a zstd frame may ask for: what the
// highest level (22) uses, and the limit of libzstd's own decoder. DecodeAll
// does not allocate the window, but the limit refuses nonsense early.
const maxZstdWindow = 128 << 20

// maxZstdBlock is the most that one block of a zstd frame holds (RFC 8878, 3.1.1.2.4).
const maxZstdBlock = 128 << 10

// decoders keep the decompressors that are expensive to make. They hold no
// data between two uses, so the pool is no hidden state.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

type decoder struct {
	in   bytes.Reader
	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder
}

// decompress appends the decompressed src to dst, which grows to at most maxBytes.
func decompress(dst, src []byte, codec Codec, maxBytes int) ([]byte, error) {
	if codec < Gzip || codec > Zstd {
		return dst, fmt.Errorf("%w: unknown compression %d", ErrCorrupt, int8(codec))
	}
	if codec == Snappy {
		return decompressSnappy(dst, src, maxBytes)
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	var err error
	switch codec {
	case Gzip:
		dst, err = d.decompressGzip(dst, src, maxBytes)
	case LZ4:
		dst, err = d.decompressLZ4(dst, src, maxBytes)
	default:
		dst, err = d.decompressZstd(dst, src, maxBytes)
	}
	d.in.Reset(nil)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: %s: %w", ErrCorrupt, codec, err)
	}
	return dst, err
}

func errTooLarge(codec Codec, maxBytes int) error {
	return fmt.Errorf("%w: %s records decompress to more than %d bytes", ErrTooLarge, codec, maxBytes)
}

func (d *decoder) decompressGzip(dst, src []byte, maxBytes int) (_ []byte, err error) {
	d.in.Reset(src)
	if d.gzip == nil {
		d.gzip, err = gzip.NewReader(&d.in)
	} else {
		err = d.gzip.Reset(&d.in)
	}
	if err != nil {
		d.gzip = nil
		return dst, err
	}
	return readAll(dst, d.gzip, Gzip, len(src), maxBytes)
}

func (d *decoder) decompressLZ4(dst, src []byte, maxBytes int) ([]byte, error) {
	d.in.Reset(src)
	if d.lz4 == nil {
		d.lz4 = lz4.NewReader(&d.in)
	} else {
		d.lz4.Reset(&d.in)
	}
	dst, err := readAll(dst, d.lz4, LZ4, len(src), maxBytes)
	if err != nil {
		d.lz4 = nil // its state after an error is not worth trusting
	}
	return dst, err
}

// readAll appends what r gives to dst, at most maxBytes in all.
func readAll(dst []byte, r io.Reader, codec Codec, hint, maxBytes int) ([]byte, error) {
	start := len(dst)
	dst = slices.Grow(dst, min(4*hint, maxBytes)+1)
	for {
		if len(dst)-start > maxBytes {
			return dst, errTooLarge(codec, maxBytes)
		}
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(cap(dst), maxBytes)+1)
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), start+maxBytes+1)])
		dst = dst[:len(dst)+n]
		if err == io.EOF && len(dst)-start <= maxBytes {
			return dst, nil
		}
		if err != nil && err != io.EOF {
			return dst, err
		}
	}
}

// decompressZstd decodes into ever larger buffers when the frame does not say
// how large its content is, so that memory follows what is really there.
func (d *decoder) decompressZstd(dst, src []byte, maxBytes int) (_ []byte, err error) {
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return dst, err
		}
	}
	start := len(dst)
	room := min(max(4*len(src), cap(dst)-start), maxBytes)
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return dst, err
	}
	if h.HasFCS {
		if h.FrameContentSize > uint64(max(maxBytes, 0)) {
			return dst, errTooLarge(Zstd, maxBytes)
		}
		if claimed := int(h.FrameContentSize); claimed < 1<<20 { // a claim is cheap: believe small ones only
			room = max(room, claimed)
		}
	}
	for {
		dst = slices.Grow(dst, room)
		out, err := d.zstd.DecodeAll(src, dst[:start:start+room])
		switch {
		case err == nil:
			return out, nil
		case !errors.Is(err, zstd.ErrDecoderSizeExceeded) && start+room-len(out) >= maxZstdBlock:
			// With less room left than a block may need, the decoder reports
			// a lack of room as if the block were malformed.
			return dst[:start], err
		case room >= maxBytes:
			return dst[:start], errTooLarge(Zstd, maxBytes)
		}
		room = min(4*room+1024, maxBytes)
	}
}

// xerialMagic begins the framing that Java's snappy streams put around blocks:
// the magic, two int32 versions, then blocks, each behind an int32 length.
var xerialMagic = [8]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderBytes = 16

func decompressSnappy(dst, src []byte, maxBytes int) ([]byte, error) {
	if len(src) < xerialHeaderBytes || !bytes.Equal(src[:8], xerialMagic[:]) {
		return decodeBlock(dst, src, maxBytes)
	}
	for src = src[xerialHeaderBytes:]; len(src) > 0; {
		if len(src) < 4 {
			return dst, fmt.Errorf("%w: snappy: %d bytes after the last block", ErrCorrupt, len(src))
		}
		size := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(size) > uint64(len(src)) {
			return dst, fmt.Errorf("%w: snappy: block of %d bytes, %d are there", ErrCorrupt, size, len(src))
		}
		var err error
		if dst, err = decodeBlock(dst, src[:size], maxBytes); err != nil {
			return dst, err
		}
		src = src[size:]
	}
	return dst, nil
}

// decodeBlock appends one snappy block to dst. The block's claim of its size
// is checked first: six bytes can claim 4 GiB. Snappy cannot expand more than
// 64-fold (a 3-byte copy makes 64 bytes), so a claim beyond 32 bytes for one is a lie.
func decodeBlock(dst, block []byte, maxBytes int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return dst, fmt.Errorf("%w: snappy: %w", ErrCorrupt, err)
	case n > maxBytes-len(dst):
		return dst, errTooLarge(Snappy, maxBytes)
	case n/32 > len(block):
		return dst, fmt.Errorf("%w: snappy: %d bytes claim to hold %d", ErrCorrupt, len(block), n)
	}
	dst = slices.Grow(dst, n)
	out, err := s2.Decode(dst[len(dst):len(dst)+n], block)
	if err != nil {
		return dst, fmt.Errorf("%w: snappy: %w", ErrCorrupt, err)
	}
	return dst[:len(dst)+len(out)], nil
}
