package kafka

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What clusters do and one node need not.
func TestElectLeaders(t *testing.T) {
	s := newGroupService(t)
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrElectLeadersRequest()
		rt := kmsg.NewElectLeadersRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{1, 9}
		req.Topics = append(req.Topics, rt)
		parts := ask[*kmsg.ElectLeadersResponse](s, version, req).Topics[0].Partitions
		s.wantCode("partition 1", version, parts[0].ErrorCode, kerr.ElectionNotNeeded)
		s.wantCode("partition 9", version, parts[1].ErrorCode, kerr.UnknownTopicOrPartition)
		req.Topics = nil
		if got := ask[*kmsg.ElectLeadersResponse](s, version, req); got.ErrorCode != 0 || len(got.Topics) != 0 {
			t.Errorf("v%d, all: %+v", version, got)
		}
	}
}

func TestReassignments(t *testing.T) {
	s := newGroupService(t)
	for version := int16(0); version <= 1; version++ {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
		rt.Topic = "t"
		add := func(partition int32, replicas []int32) {
			p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
			p.Partition, p.Replicas = partition, replicas
			rt.Partitions = append(rt.Partitions, p)
		}
		add(0, []int32{1})
		add(0, []int32{1, 2})
		add(1, nil)
		add(9, []int32{1})
		req.Topics = append(req.Topics, rt)
		parts := ask[*kmsg.AlterPartitionAssignmentsResponse](s, version, req).Topics[0].Partitions
		for i, want := range []*kerr.Error{nil, kerr.InvalidReplicaAssignment, kerr.NoReassignmentInProgress, kerr.UnknownTopicOrPartition} {
			s.wantCode(fmt.Sprintf("assignment %d", i), version, parts[i].ErrorCode, want)
		}
	}
	if got := ask[*kmsg.ListPartitionReassignmentsResponse](s, 0, kmsg.NewPtrListPartitionReassignmentsRequest()); got.ErrorCode != 0 || len(got.Topics) != 0 {
		t.Errorf("reassignments in progress: %+v", got)
	}
}

func TestDescribeQuorum(t *testing.T) {
	s := newGroupService(t)
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrDescribeQuorumRequest()
		for _, name := range []string{"__cluster_metadata", "t"} {
			rt := kmsg.NewDescribeQuorumRequestTopic()
			rt.Topic, rt.Partitions = name, []kmsg.DescribeQuorumRequestTopicPartition{{}}
			req.Topics = append(req.Topics, rt)
		}
		got := ask[*kmsg.DescribeQuorumResponse](s, version, req)
		p := got.Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.LeaderID != 1 || p.HighWatermark <= 0 || len(p.CurrentVoters) != 1 || p.CurrentVoters[0].LogEndOffset != p.HighWatermark {
			t.Errorf("v%d: %+v", version, p)
		}
		s.wantCode("another topic", version, got.Topics[1].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
		if (version >= 2) != (len(got.Nodes) == 1 && got.Nodes[0].Listeners[0].Port == 9092) {
			t.Errorf("v%d: nodes %+v", version, got.Nodes)
		}
	}
}

// Pages put together are the whole, in order, whatever their size.
func TestDescribeTopicPartitionsInPages(t *testing.T) {
	s := newGroupService(t)
	for name, partitions := range map[string]int{"a": 3, "z": 4} {
		if _, err := s.session.service.Topics.Create(t.Context(), name, partitions, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"a-0", "a-1", "a-2", "missing", "t-0", "t-1", "z-0", "z-1", "z-2", "z-3"}
	for limit := int32(1); limit <= 12; limit++ {
		var got []string
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = limit
		for _, name := range []string{"z", "a", "missing", "t", "a"} {
			rt := kmsg.NewDescribeTopicPartitionsRequestTopic()
			rt.Topic = name
			req.Topics = append(req.Topics, rt)
		}
		for range 20 {
			resp := ask[*kmsg.DescribeTopicPartitionsResponse](s, 0, req)
			for _, rt := range resp.Topics {
				if rt.ErrorCode == kerr.UnknownTopicOrPartition.Code {
					got = append(got, *rt.Topic)
				}
				for _, p := range rt.Partitions {
					got = append(got, fmt.Sprintf("%s-%d", *rt.Topic, p.Partition))
				}
			}
			if resp.NextCursor == nil {
				break
			}
			c := kmsg.NewDescribeTopicPartitionsRequestCursor()
			c.Topic, c.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
			req.Cursor = &c
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", limit, got, want)
		}
	}
	all := ask[*kmsg.DescribeTopicPartitionsResponse](s, 0, &kmsg.DescribeTopicPartitionsRequest{})
	if n := len(all.Topics); n < 3 || all.NextCursor != nil {
		t.Errorf("all topics: %+v", all)
	}
}

func TestUpdateFeatures(t *testing.T) {
	s := newGroupService(t)
	own := features()[0]
	for version := int16(0); version <= 2; version++ {
		for _, c := range []struct {
			name  string
			level int16
			want  *kerr.Error
		}{{own.name, own.level, nil}, {own.name, own.level + 1, kerr.InvalidUpdateVersion}, {"flying", 1, kerr.InvalidUpdateVersion}} {
			req := kmsg.NewPtrUpdateFeaturesRequest()
			u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			u.Feature, u.MaxVersionLevel = c.name, c.level
			req.FeatureUpdates = append(req.FeatureUpdates, u)
			resp := ask[*kmsg.UpdateFeaturesResponse](s, version, req)
			got := resp.ErrorCode
			if version < 2 {
				if got != 0 || len(resp.Results) != 1 || resp.Results[0].Feature != c.name {
					t.Fatalf("v%d: %+v", version, resp)
				}
				got = resp.Results[0].ErrorCode
			}
			s.wantCode(c.name, version, got, c.want)
		}
	}
}
