package kafka

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A fetch that waits ends when nobody waits for its answer any more.
func TestFetchEndsWithItsClient(t *testing.T) {
	s := newGroupService(t)
	gone := errors.New("gone")
	stopped := false
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}
	session := s.session.service.Connect(at, at, func(ctx context.Context) (context.Context, func()) {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(gone)
		return ctx, func() { stopped = true }
	})
	defer session.Close()
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(12)
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 1<<31-1, 1, 1000
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = "t", []kmsg.FetchRequestTopicPartition{{Partition: 0, CurrentLeaderEpoch: -1, PartitionMaxBytes: 1000}}
	req.Topics = append(req.Topics, rt)
	_, respond, err := session.Serve(t.Context(), req.Key(), 12, "client", req.AppendTo(nil), nil)
	if !errors.Is(err, gone) || respond || !stopped {
		t.Errorf("answered %v, watch stopped %v: %v", respond, stopped, err)
	}
}

// A partition gives at most what its length field has room for, unless the
// client waits for more; and what the limits hold back is not waited for.
func TestFetchSizes(t *testing.T) {
	f := &fetcher{newGroupService(t), 12}
	for range 5 {
		f.append(0, 900_000)
	}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}
	waits := false
	f.session = f.session.service.Connect(at, at, func(ctx context.Context) (context.Context, func()) {
		waits = true
		return ctx, func() {}
	})
	defer f.session.Close()
	for _, c := range []struct {
		minBytes, partitionBytes int32
		atLeast, atMost          int
	}{
		{1, 50 << 20, 1_800_000, usualSizeMax},
		{2_000_000, 50 << 20, 2_000_000, 4_600_000},
		{3_000_000, 50 << 20, 3_000_000, 4_600_000},
		{1_000_000, 1_000_000, 900_000, 1_000_000},
		{5, 0, 900_000, 1_000_000},
	} {
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 100, c.minBytes, 50<<20
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.Partitions = "t", []kmsg.FetchRequestTopicPartition{{CurrentLeaderEpoch: -1, PartitionMaxBytes: c.partitionBytes}}
		req.Topics = append(req.Topics, rt)
		resp := ask[*kmsg.FetchResponse](f.groupService, 12, req)
		if n := len(resp.Topics[0].Partitions[0].RecordBatches); n < c.atLeast || n > c.atMost || waits {
			t.Errorf("at least %d bytes are asked for, at most %d: %d, after a wait %v", c.minBytes, c.partitionBytes, n, waits)
		}
	}
}
