package record

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Streams that do not say how large they are, as librdkafka writes them, come
// out whole whatever the first guess of their size.
func TestZstdWithoutContentSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 100, 19_000, 21_000, 130_000, 140_000, 1 << 20, 5 << 20} {
		plain := make([]byte, size)
		for i := range plain {
			plain[i] = 'a' + byte(rng.IntN(1+i%3))
		}
		var packed bytes.Buffer
		w, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := decompress(nil, packed.Bytes(), Zstd, 64<<20)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes in %d: %d came out, %v", size, packed.Len(), len(got), err)
		}
		if _, err := decompress(nil, packed.Bytes()[:packed.Len()-1], Zstd, 64<<20); err == nil {
			t.Errorf("%d bytes: a frame cut short was accepted", size)
		}
	}
}
