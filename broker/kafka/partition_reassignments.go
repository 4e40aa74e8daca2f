package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments: v0-1
//
// With one broker a partition can only be put where it is, which is done at
// once; there is never a reassignment to cancel.
//
// Omitted: the timeout.
func (s *Service) alterPartitionReassignments(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := reply[*kmsg.AlterPartitionAssignmentsResponse](req)
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition = rt.Partitions[j].Partition
			p.ErrorCode, p.ErrorMessage = s.outcome("reassign partition", s.reassign(rt.Topic, &rt.Partitions[j]))
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func (s *Service) reassign(name string, rp *kmsg.AlterPartitionAssignmentsRequestTopicPartition) error {
	_, err := s.Topics.Partition(name, rp.Partition)
	switch {
	case err != nil:
		return err
	case rp.Replicas == nil:
		return fmt.Errorf("%w: %s-%d", kerr.NoReassignmentInProgress, name, rp.Partition)
	case len(rp.Replicas) != 1 || rp.Replicas[0] != s.Config.NodeID:
		return fmt.Errorf("%w: %s-%d to brokers %v, there is only %d", kerr.InvalidReplicaAssignment, name, rp.Partition, rp.Replicas, s.Config.NodeID)
	}
	return nil
}

// ListPartitionReassignments: v0
//
// There is never one in progress. Partitions that do not exist are left out, as in Kafka.
func (s *Service) listPartitionReassignments(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	return reply[*kmsg.ListPartitionReassignmentsResponse](r), nil
}
