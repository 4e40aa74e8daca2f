package broker_test

import (
	"slices"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
)

var readAll = topic.ReadOptions{MaxBytes: 64 << 20}

// codecOf counts the batches in b that are compressed with a codec.
func codecOf(b []byte, name string) int64 {
	want := record.Codec(slices.Index([]string{"none", "gzip", "snappy", "lz4", "zstd"}, name))
	n := int64(0)
	for len(b) > 0 {
		h, err := record.ParseHeader(b)
		if err != nil {
			return -1
		}
		if h.Codec() == want {
			n++
		}
		b = b[h.Size():]
	}
	return n
}
