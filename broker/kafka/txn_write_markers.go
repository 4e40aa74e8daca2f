package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// WriteTxnMarkers: v1
//
// An administrator's abort of what a producer has left open in a partition
// (KIP-664). A commit is refused: only the coordinator knows what may be
// committed, and here it needs no request for it.
func (s *Service) writeTxnMarkers(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.WriteTxnMarkersRequest)
	resp := reply[*kmsg.WriteTxnMarkersResponse](req)
	for i := range req.Markers {
		rm := &req.Markers[i]
		m := kmsg.NewWriteTxnMarkersResponseMarker()
		m.ProducerID = rm.ProducerID
		for j := range rm.Topics {
			t := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			t.Topic = rm.Topics[j].Topic
			for _, index := range rm.Topics[j].Partitions {
				p := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				p.Partition = index
				err := error(fmt.Errorf("%w: a marker that commits", kerr.InvalidRequest))
				if !rm.Committed {
					err = s.Transactions.AbortOpen(ctx, txn.Partition{Topic: t.Topic, Partition: index},
						txn.Producer{ID: rm.ProducerID, Epoch: rm.ProducerEpoch}, rm.CoordinatorEpoch)
				}
				p.ErrorCode = s.txnOutcome("abort open transaction in "+t.Topic, req.Version, 0, err)
				t.Partitions = append(t.Partitions, p)
			}
			m.Topics = append(m.Topics, t)
		}
		resp.Markers = append(resp.Markers, m)
	}
	return resp, nil
}
