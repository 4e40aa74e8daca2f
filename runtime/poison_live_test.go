package runtime_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// TestLivePoisonHoldsUpItsPartitionOnly has a record on which the guest runs on until its limits stop it, in
// the middle of many, and a partition beside it that must not notice.
func TestLivePoisonHoldsUpItsPartitionOnly(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	l.ok(l.engine.EnsureTopic(t.Context(), "in", 2, nil))
	l.ok(l.engine.EnsureTopic(t.Context(), "out", 2, nil))
	l.deploy("spin", "spin", []string{"in"}, "out", nil)
	const n, poison = 4000, 2500
	poisoned, bystander := keyOf(t, l, 0), keyOf(t, l, 1)
	records := make([]engine.Record, n)
	for i := range records {
		records[i] = engine.Record{Timestamp: time.Now().UnixMilli(), Key: poisoned, Value: fmt.Appendf(nil, "p%d", i)}
	}
	records[poison].Value = []byte("spin")
	const bystanders = 50
	for i := range bystanders {
		records = append(records, engine.Record{Timestamp: time.Now().UnixMilli(), Key: bystander, Value: fmt.Appendf(nil, "b%d", i)})
	}
	started := time.Now()
	l.ok(l.engine.Append(t.Context(), "in", records))
	var seen [2]int // of the poisoned partition, and of the other
	var last [2]time.Duration
	l.follow("out", n-1+bystanders, func(r engine.Record) {
		which := 0
		if r.Value[0] == 'b' {
			which = 1
		}
		seen[which]++
		last[which] = time.Since(started)
	})
	if seen != [2]int{n - 1, bystanders} {
		t.Errorf("%d outputs of the poisoned partition and %d of the other", seen[0], seen[1])
	}
	l.wantValues("spin.dlq", "spin")
	t.Logf("the poisoned partition was through after %v, the other after %v", last[0], last[1])
	l.close()
}

// keyOf finds a key of a partition.
func keyOf(t *testing.T, l *live, partition int32) []byte {
	t.Helper()
	for i := range 100 {
		key := fmt.Appendf(nil, "key-%d-%d", partition, i)
		found := int32(-1)
		l.ok(l.engine.EnsureTopic(t.Context(), string(key), 2, nil))
		l.ok(l.engine.Append(t.Context(), string(key), []engine.Record{{Key: key, Value: key}}))
		_, err := l.engine.ReadAll(t.Context(), string(key), nil, func(p int32, _ engine.Record) error {
			found = p
			return nil
		})
		l.ok(err)
		if found == partition {
			return key
		}
	}
	t.Fatalf("no key of partition %d", partition)
	return nil
}
