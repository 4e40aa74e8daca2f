package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics: v2-7
//
// -1 partitions are the broker's default. A replication factor above 1 is
// accepted, because clients and frameworks ask for 3, and 1 is kept and told.
// Unknown configs and bad values are refused, also with ValidateOnly.
//
// Omitted: the timeout; a topic is there when the answer comes.
func (s *Service) createTopics(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.CreateTopicsRequest)
	resp := reply[*kmsg.CreateTopicsResponse](req)
	times := make(map[string]int)
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewCreateTopicsResponseTopic()
		t.Topic = rt.Topic
		err := error(fmt.Errorf("%w: topic %q is in the request %d times", kerr.InvalidRequest, rt.Topic, times[rt.Topic]))
		if times[rt.Topic] == 1 {
			err = s.createTopic(ctx, rt, req.ValidateOnly, &t)
		}
		t.ErrorCode, t.ErrorMessage = s.outcome("create topic", err)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func (s *Service) createTopic(ctx context.Context, rt *kmsg.CreateTopicsRequestTopic, validateOnly bool, out *kmsg.CreateTopicsResponseTopic) error {
	partitions, err := wantedPartitions(rt)
	if err != nil {
		return err
	}
	if partitions < 0 {
		partitions = s.defaultPartitions()
	}
	configs := make(map[string]string, len(rt.Configs))
	for i := range rt.Configs {
		if rt.Configs[i].Value == nil {
			return fmt.Errorf("%w: %s has no value", topic.ErrInvalidConfig, rt.Configs[i].Name)
		}
		configs[rt.Configs[i].Name] = *rt.Configs[i].Value
	}
	if reserved(rt.Topic) {
		return fmt.Errorf("%w: %q is the broker's own", topic.ErrInvalidName, rt.Topic)
	}
	if validateOnly {
		err = s.Topics.Validate(rt.Topic, partitions, configs)
	} else {
		var info topic.Info
		info, err = s.Topics.Create(ctx, rt.Topic, partitions, configs)
		out.TopicID = info.ID
	}
	if err != nil {
		return err
	}
	out.NumPartitions, out.ReplicationFactor = int32(partitions), 1
	for _, d := range topic.ConfigDefs() {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		value, fromTopic := configs[d.Name]
		if !fromTopic {
			value, _ = s.Topics.ConfigValue("", d.Name)
		}
		c.Name, c.Value, c.Source = d.Name, &value, int8(configSource(d, value, fromTopic))
		out.Configs = append(out.Configs, c)
	}
	return nil
}

func (s *Service) defaultPartitions() int {
	if s.Config.DefaultPartitions > 0 {
		return s.Config.DefaultPartitions
	}
	return s.Topics.DefaultPartitions()
}

// wantedPartitions is the partition count of a request, -1 for the broker's default.
func wantedPartitions(rt *kmsg.CreateTopicsRequestTopic) (int, error) {
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return 0, fmt.Errorf("%w: both an assignment and a number of partitions or replicas", kerr.InvalidRequest)
		}
		seen := make(map[int32]bool)
		for _, a := range rt.ReplicaAssignment {
			if a.Partition < 0 || int(a.Partition) >= len(rt.ReplicaAssignment) || seen[a.Partition] || len(a.Replicas) == 0 {
				return 0, fmt.Errorf("%w: partition %d", kerr.InvalidReplicaAssignment, a.Partition)
			}
			seen[a.Partition] = true
		}
		return len(rt.ReplicaAssignment), nil
	}
	if rt.ReplicationFactor == 0 || rt.ReplicationFactor < -1 {
		return 0, fmt.Errorf("%w: %d", kerr.InvalidReplicationFactor, rt.ReplicationFactor)
	}
	if rt.NumPartitions == 0 || rt.NumPartitions < -1 {
		return 0, fmt.Errorf("%w: %d", topic.ErrInvalidPartition, rt.NumPartitions)
	}
	return int(rt.NumPartitions), nil
}
