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

// A partition gives at most what its length field has room for, unless the client waits for more.
func TestFetchSizes(t *testing.T) {
	f := &fetcher{newGroupService(t), 12}
	for range 5 {
		f.append(0, 900_000)
	}
	for _, c := range []struct {
		minBytes          int32
		atLeast, lessThan int
	}{{1, 1_800_000, usualSizeMax + 1}, {2_000_000, 2_000_000, 4_600_000}, {3_000_000, 3_000_000, 4_600_000}} {
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 60_000, c.minBytes, 50<<20
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.Partitions = "t", []kmsg.FetchRequestTopicPartition{{CurrentLeaderEpoch: -1, PartitionMaxBytes: 50 << 20}}
		req.Topics = append(req.Topics, rt)
		resp := ask[*kmsg.FetchResponse](f.groupService, 12, req)
		if n := len(resp.Topics[0].Partitions[0].RecordBatches); n < c.atLeast || n >= c.lessThan {
			t.Errorf("at least %d bytes are asked for: %d", c.minBytes, n)
		}
	}
}
