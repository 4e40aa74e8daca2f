package txn

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
)

// transact is one transaction of version 2 with one batch in one partition, durably.
func transact(w *world, id string, p Producer, part *topic.Partition, batch []byte) (Producer, error) {
	ctx := context.Background()
	tp := Partition{Topic: part.Topic(), Partition: part.Index()}
	if _, err := w.c.Add(id, p, V2, tp); err != nil {
		return p, err
	}
	var b record.Builder
	b.Reset(batch[:0], record.None)
	b.Append(1, nil, []byte("value"), nil, 0)
	b.SetProducer(p.ID, p.Epoch, 0, true)
	batch = b.Finish()
	err := w.c.Within(id, p, tp, func() error {
		_, err := part.Append(ctx, batch, topic.FromTransaction)
		return err
	})
	if err != nil {
		return p, err
	}
	return w.c.End(ctx, id, p, true, V2)
}

// BenchmarkTransaction is a whole transaction: in memory what it costs the
// processor, on the disk what it waits for, with one producer and with many.
func BenchmarkTransaction(b *testing.B) {
	run := func(b *testing.B, fs vfs.FS, dir string, producers int) {
		w, err := openWorldIn(b, fs, dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer w.close()
		var ids atomic.Int64
		b.SetParallelism(producers)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			id := fmt.Sprint("producer-", ids.Add(1))
			p, err := w.c.InitProducer(context.Background(), id, NoProducer, time.Minute)
			if err != nil {
				b.Error(err)
				return
			}
			part, batch := w.part("a"), make([]byte, 0, 256)
			for pb.Next() {
				if p, err = transact(w, id, p, part, batch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.Run("memory", func(b *testing.B) { run(b, vfs.NewMem(), "/data", 1) })
	for _, producers := range []int{1, 16} { // for each processor
		b.Run(fmt.Sprint("disk/producers ", producers), func(b *testing.B) { run(b, vfs.OS{}, b.TempDir(), producers) })
	}
}
