package record

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// compressor holds the compressors of a Builder, made when first needed.
type compressor struct {
	out  bytes.Buffer
	gzip *gzip.Writer
	lz4  *lz4.Writer
	zstd *zstd.Encoder
}

// compress appends the compressed src to dst.
func (c *compressor) compress(dst, src []byte, codec Codec) ([]byte, error) {
	switch codec {
	case Gzip:
		c.out.Reset()
		if c.gzip == nil {
			c.gzip = gzip.NewWriter(&c.out)
		} else {
			c.gzip.Reset(&c.out)
		}
		if _, err := c.gzip.Write(src); err != nil {
			return dst, err
		}
		if err := c.gzip.Close(); err != nil {
			return dst, err
		}
		return append(dst, c.out.Bytes()...), nil
	case Snappy:
		n := s2.MaxEncodedLen(len(src))
		if n < 0 {
			return dst, fmt.Errorf("%w: %d bytes are more than snappy can hold", ErrTooLarge, len(src))
		}
		dst = slices.Grow(dst, n)
		out := s2.EncodeSnappy(dst[len(dst):len(dst)+n], src)
		return dst[:len(dst)+len(out)], nil
	case LZ4:
		return c.compressLZ4(dst, src)
	case Zstd:
		if c.zstd == nil {
			var err error
			c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true),
				zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
			if err != nil {
				return dst, err
			}
		}
		return c.zstd.EncodeAll(src, dst), nil
	}
	return dst, fmt.Errorf("%w: unknown compression %d", ErrCorrupt, int8(codec))
}

// compressLZ4 writes one frame of independent 64 KiB blocks, which is what
// Java's reader insists on. The batch's own checksum makes another one needless.
func (c *compressor) compressLZ4(dst, src []byte) ([]byte, error) {
	c.out.Reset()
	if c.lz4 == nil {
		c.lz4 = lz4.NewWriter(&c.out)
		if err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1)); err != nil {
			return dst, err
		}
	} else {
		c.lz4.Reset(&c.out)
	}
	if _, err := c.lz4.Write(src); err != nil {
		return dst, err
	}
	if err := c.lz4.Close(); err != nil {
		return dst, err
	}
	return append(dst, c.out.Bytes()...), nil
}
