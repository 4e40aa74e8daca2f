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
