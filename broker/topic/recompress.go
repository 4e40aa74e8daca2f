package topic

import (
	"fmt"

	"github.com/millstream-io/millstream/broker/record"
)

// codecNames are the values of compression.type that name a codec; "producer" names none.
func codecNames() map[string]record.Codec {
	return map[string]record.Codec{"uncompressed": record.None, "gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd}
}

// recompressor is what compressing batches anew needs. It is used again.
type recompressor struct {
	builder  record.Builder
	unpacked []byte
	out      []byte
}

// recompress returns the batches with the codec that the topic asks for. Only
// the form of the records changes: offsets, timestamps, producer, flags and
// the records themselves stay as they are. Markers of transactions stay
// uncompressed. What is returned is valid until release.
func (c *checker) recompress(batches []byte, s *settings) (out []byte, release func(), err error) {
	if !otherCodec(batches, s.codec) {
		return batches, func() {}, nil
	}
	w, _ := c.recompressors.Get().(*recompressor)
	if w == nil {
		w = new(recompressor)
	}
	release = func() {
		if cap(w.unpacked)+cap(w.out) <= keepUnpackedBytes {
			c.recompressors.Put(w)
		}
	}
	err = c.unpacking.run(func(maxBytes int) error { return w.recompress(batches, s, maxBytes) })
	if cap(w.unpacked) > keepUnpackedBytes {
		w.unpacked = nil // it may be held for long: until the batch is written
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return w.out, release, nil
}

// otherCodec reports whether a batch that holds records has another codec.
func otherCodec(batches []byte, codec record.Codec) bool {
	for len(batches) > 0 {
		h, err := record.ParseHeader(batches)
		if err != nil {
			return false // checked before: every batch has a header
		}
		if h.Codec() != codec && !h.Control() {
			return true
		}
		batches = batches[h.Size():]
	}
	return false
}

func (w *recompressor) recompress(batches []byte, s *settings, maxBytes int) error {
	w.out = w.out[:0]
	for len(batches) > 0 {
		h, err := record.ParseHeader(batches)
		if err != nil {
			return err
		}
		batch := batches[:h.Size()]
		batches = batches[h.Size():]
		before := len(w.out)
		if h.Control() || h.Codec() == s.codec {
			w.out = append(w.out, batch...)
			continue
		}
		var it record.Iter
		if it, w.unpacked, err = record.Iterate(batch, w.unpacked, maxBytes); err != nil {
			return refuse(err)
		}
		h.SetCodec(s.codec)
		w.builder.ResetFrom(w.out, h)
		for r := (record.Record{}); it.Next(&r); {
			w.builder.AppendAt(&r)
		}
		if err := it.Err(); err != nil {
			return refuse(err)
		}
		w.out = w.builder.Finish()
		if size := int64(len(w.out) - before); size > s.maxMessageBytes {
			return fmt.Errorf("%w: batch of %d bytes once it is compressed as %s says, %s is %d", ErrMessageTooLarge, size, ConfigCompressionType, ConfigMaxMessageBytes, s.maxMessageBytes)
		}
	}
	return nil
}
