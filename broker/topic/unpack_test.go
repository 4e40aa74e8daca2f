package topic

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// However many batches come at once, few of those that unpack to much are in memory.
func TestFewLargeBatchesAreUnpackedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnpacking()
		var large, small, most, done atomic.Int64
		for i := range 1000 {
			go func() {
				err := u.run(func(maxBytes int) error {
					if maxBytes == keepUnpackedBytes {
						small.Add(1)
						time.Sleep(time.Millisecond)
						if i%2 == 0 {
							return nil
						}
						return fmt.Errorf("so large: %w", record.ErrTooLarge)
					}
					for n := large.Add(1); ; {
						if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
							break
						}
					}
					time.Sleep(time.Millisecond)
					large.Add(-1)
					return record.ErrTooLarge
				})
				if (i%2 == 0) != (err == nil) || err != nil && !errors.Is(err, record.ErrTooLarge) {
					t.Errorf("%d: %v", i, err)
				}
				done.Add(1)
			}()
		}
		synctest.Wait()
		if n := small.Load(); n != int64(cap(u.any)) {
			t.Errorf("%d at once, want %d", n, cap(u.any))
		}
		time.Sleep(time.Minute)
		if done.Load() != 1000 || most.Load() != maxLargeUnpacked {
			t.Errorf("%d of 1000 are done, %d large ones at once, want %d", done.Load(), most.Load(), maxLargeUnpacked)
		}
	})
}

// A batch that unpacks to more than is tried first is taken all the same, one beyond the limit is not.
func TestLargeBatches(t *testing.T) {
	c, s := newChecker(), &settings{maxMessageBytes: 1 << 20, afterMaxMillis: 1 << 40, beforeMaxMillis: 1 << 62}
	for codec := record.Gzip; codec <= record.Zstd; codec++ {
		for size, fine := range map[int]bool{keepUnpackedBytes - 1000: true, 2 * keepUnpackedBytes: true, maxUnpackedBytes + 1: false} {
			var w record.Builder
			w.Reset(nil, codec)
			for left := size; left > 0; left -= 1 << 20 {
				w.Append(1000, nil, make([]byte, min(left, 1<<20)), nil, 0)
			}
			b := w.Finish()
			s.maxMessageBytes = int64(len(b))
			_, err := c.clientBatch(b, s, time.UnixMilli(1000))
			if (err == nil) != fine || err != nil && !errors.Is(err, ErrMessageTooLarge) {
				t.Errorf("%v, %d bytes in %d: %v", codec, size, len(b), err)
			}
		}
	}
}
