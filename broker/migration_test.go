package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupMember is one consumer of an application.
type groupMember struct {
	client *kgo.Client
	done   chan struct{}
}

// TestMigrationOfClients replaces the members of a group one by one with such of the other protocol, and back,
// while records come in: nobody misses one, and the group is of the type that its members make it.
func TestMigrationOfClients(t *testing.T) {
	r := start(t, broker.Options{GroupConfigs: map[string]string{"group.consumer.heartbeat.interval.ms": "200"}})
	ctx := within(t)
	if _, err := r.Topics().Create(ctx, "notes", 6, nil); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	join := func(modern bool) *groupMember {
		opts := []kgo.Opt{kgo.ConsumerGroup("g"), kgo.ConsumeTopics("notes"), kgo.HeartbeatInterval(100 * time.Millisecond),
			kgo.AutoCommitInterval(100 * time.Millisecond), kgo.FetchMaxWait(100 * time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
		if modern {
			opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
		}
		m := &groupMember{client: r.client(t, opts...), done: make(chan struct{})}
		go func() {
			defer close(m.done)
			for {
				f := m.client.PollFetches(ctx)
				if f.IsClientClosed() || ctx.Err() != nil {
					return
				}
				mu.Lock()
				f.EachRecord(func(rec *kgo.Record) { seen[string(rec.Value)] = true })
				mu.Unlock()
			}
		}()
		return m
	}
	producer := r.client(t, kgo.DefaultProduceTopic("notes"))
	sent := 0
	round := func(kind string) {
		t.Helper()
		for range 60 {
			if err := producer.ProduceSync(ctx, &kgo.Record{Key: fmt.Append(nil, sent), Value: fmt.Append(nil, sent)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for {
			mu.Lock()
			n := len(seen)
			mu.Unlock()
			resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, producer)
			if err != nil {
				t.Fatalf("%d of %d records are read: %v", n, sent, err)
			}
			if n == sent && len(resp.Groups) == 1 && resp.Groups[0].GroupType == kind {
				return
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("%d of %d records are read, groups are %+v, want one that is %s", n, sent, resp.Groups, kind)
			}
		}
	}
	leave := func(m *groupMember) {
		t.Helper()
		if err := m.client.CommitUncommittedOffsets(context.WithoutCancel(ctx)); err != nil {
			t.Logf("commit of a member that leaves: %v", err) // others read again what was not committed
		}
		m.client.Close()
		<-m.done
	}
	old := []*groupMember{join(false), join(false)}
	round("classic")
	first := join(true)
	round("consumer")
	leave(old[0])
	round("consumer")
	second := join(true)
	leave(old[1])
	round("consumer")
	back := join(false)
	round("consumer")
	leave(first)
	round("consumer")
	leave(second)
	round("classic")
	leave(back)
}
