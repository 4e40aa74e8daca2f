package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
)

// hearOld makes the engine take a topic for the one that it was before it was made anew, as it does when it asks a broker that
// is late to hear of that.
func (c *cluster) hearOld(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.topics[name]
	delete(c.names, info.id)
	info.id, info.asOf = topicID{1}, time.Now()
	c.topics[name], c.ids[name], c.names[info.id] = info, info.id, name
}

// TestOldNewsOfATopic: who hears late of a topic that was made anew loses nothing of what he is told is written.
func TestOldNewsOfATopic(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	ctx := t.Context()
	if err := k.EnsureTopic(ctx, "out", 1, nil); err != nil {
		t.Fatal(err)
	}
	const n = 6
	wantAppended(t, k, n, func(i int) {
		if i%2 == 1 {
			k.cluster.hearOld("out")
		}
	})
	// This time it is made anew indeed.
	admin := kadm.NewClient(newClient(t, []string{address}))
	if _, err := admin.DeleteTopic(ctx, "out"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "out"); err != nil {
		t.Fatal(err)
	}
	wantAppended(t, k, n, func(int) {})
}

// wantAppended appends n records to topic "out", calls before ahead of each, and checks that the topic holds just these.
func wantAppended(t *testing.T, k *kafka, n int, before func(i int)) {
	t.Helper()
	ctx := t.Context()
	for i := range n {
		before(i)
		if err := k.Append(ctx, "out", []engine.Record{{Timestamp: 1, Value: fmt.Append(nil, i)}}); err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	_, err := k.ReadAll(ctx, "out", nil, func(_ int32, r engine.Record) error {
		if string(r.Value) != fmt.Sprint(next) {
			t.Errorf("offset %d is %s, want %d", r.Offset, r.Value, next)
		}
		next++
		return nil
	})
	if err != nil || next != n {
		t.Errorf("%d of %d records are there, %v", next, n, err)
	}
}
