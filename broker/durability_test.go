package broker_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A power cut at any moment keeps what acks=all has acknowledged, the topics
// and their configs, the cluster id and the promise that no producer id is
// given out twice.
func TestPowerCut(t *testing.T) {
	mem := vfs.NewMem()
	r := start(t, broker.Options{FS: mem, Dir: "/data", DefaultPartitions: 2})
	ctx := within(t)
	compact := "compact"
	if _, err := r.admin(t).CreateTopic(ctx, 2, 1, map[string]*string{"cleanup.policy": &compact}, "keyed"); err != nil {
		t.Fatal(err)
	}
	client := r.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 20 {
		for _, name := range []string{"notes", "keyed"} {
			rec := &kgo.Record{Topic: name, Partition: int32(i % 2), Key: []byte("k"), Value: fmt.Appendf(nil, "%d", i)}
			if err := client.ProduceSync(ctx, rec).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := producerID(t, ctx, r)
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			after := start(t, broker.Options{FS: mem.CrashClone(seed), Dir: "/data"})
			if after.ClusterID() != r.ClusterID() {
				t.Errorf("cluster id %s, was %s", after.ClusterID(), r.ClusterID())
			}
			if v, own := after.Topics().ConfigValue("keyed", "cleanup.policy"); v != compact || !own {
				t.Errorf("cleanup.policy of keyed is %q", v)
			}
			got := poll(t, within(t), after.client(t, kgo.ConsumeTopics("notes", "keyed")), 40)
			next := map[string]int{"notes/0": 0, "notes/1": 1, "keyed/0": 0, "keyed/1": 1}
			for _, rec := range got {
				place := fmt.Sprint(rec.Topic, "/", rec.Partition)
				if string(rec.Value) != fmt.Sprint(next[place]) {
					t.Errorf("%s at offset %d has %s, want %d", place, rec.Offset, rec.Value, next[place])
				}
				next[place] += 2
			}
			if id := producerID(t, within(t), after); id <= first {
				t.Errorf("producer id %d was given out again (%d before)", id, first)
			}
			if err := after.client(t).ProduceSync(within(t), records("notes", 10)...).FirstErr(); err != nil {
				t.Errorf("produce afterwards: %v", err)
			}
		})
	}
}

func producerID(t *testing.T, ctx context.Context, r *running) int64 {
	t.Helper()
	resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, r.client(t))
	if err != nil || resp.ErrorCode != 0 {
		t.Fatalf("init producer id: %v, %v", err, kerr.ErrorForCode(resp.ErrorCode))
	}
	return resp.ProducerID
}

// A stop with everything closed in order is a clean one; data and ids are there again.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, broker.Options{Dir: dir})
	if err := r.client(t).ProduceSync(within(t), records("notes", 500)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id, _ := r.Topics().Lookup("notes")
	r.stop(t)
	again := start(t, broker.Options{Dir: dir})
	if got, _ := again.Topics().Lookup("notes"); got.ID != id.ID {
		t.Errorf("topic id %x, was %x", got.ID, id.ID)
	}
	poll(t, within(t), again.client(t, kgo.ConsumeTopics("notes")), 500)
	if _, err := broker.Open(t.Context(), broker.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second broker on the same directory: %v", err)
	}
}

// A full disk is told to the producer, readers go on, and when there is room again so does the producer.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	disk := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite && strings.HasPrefix(path.Base(path.Dir(op.Path)), "notes-") {
			return fmt.Errorf("write %s: %w", op.Path, vfs.ErrNoSpace)
		}
		return nil
	}}
	r := start(t, broker.Options{FS: disk, Dir: "/data"})
	ctx := within(t)
	client := r.client(t, kgo.RecordRetries(2), kgo.MetadataMinAge(10*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }), kgo.DisableIdempotentWrite())
	if err := client.ProduceSync(ctx, records("notes", 10)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := client.ProduceSync(ctx, records("notes", 10)...).FirstErr(); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("full disk: %v, want %v", err, kerr.KafkaStorageError)
	}
	poll(t, ctx, r.client(t, kgo.ConsumeTopics("notes")), 10)
	full.Store(false)
	if err := client.ProduceSync(ctx, records("notes", 10)...).FirstErr(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	poll(t, ctx, r.client(t, kgo.ConsumeTopics("notes")), 20)
}

func TestAcks(t *testing.T) {
	var synced atomic.Int64
	disk := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Path, "notes-0") {
			synced.Add(1)
		}
		return nil
	}}
	r := start(t, broker.Options{FS: disk, Dir: "/data"})
	ctx := within(t)
	if _, err := r.admin(t).CreateTopic(ctx, 1, 1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	for i, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		before := synced.Load()
		c := r.client(t, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		if err := c.ProduceSync(ctx, records("notes", 5)...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if grew := synced.Load() > before; grew != (acks == kgo.AllISRAcks()) {
			t.Errorf("acks %v: the log was synced: %v", acks, grew)
		}
		poll(t, ctx, r.client(t, kgo.ConsumeTopics("notes")), 5*(i+1))
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks = 7
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "notes"
	rt.Partitions = append(rt.Partitions, kmsg.NewProduceRequestTopicPartition())
	req.Topics = append(req.Topics, rt)
	resp := rawProduce(t, r, req, 9)
	if got := resp.Topics[0].Partitions[0].ErrorCode; got != kerr.InvalidRequiredAcks.Code {
		t.Errorf("acks=7: error %d", got)
	}
}

func TestDeletedTopicWakesReaders(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	adm := r.admin(t)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	req := fetchRequest("notes", 0, time.Minute)
	answered := make(chan *kmsg.FetchResponse, 1)
	go func() { answered <- rawFetch(t, r, req, 12) }()
	if _, err := adm.DeleteTopics(ctx, "notes"); err != nil {
		t.Fatal(err)
	}
	select {
	case resp := <-answered:
		if got := resp.Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("error %d", got)
		}
	case <-ctx.Done():
		t.Error("the fetch still waits for a topic that is gone")
	}
}
