package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Operations that a principal may do, as bits, when a client asks.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

// Metadata: v0-13
//
// One broker, which leads every partition. The address told is the advertised
// one, else the one that the client has connected to. A topic that does not
// exist is created where the server and (from v4 on) the request allow it,
// before the answer. v12 asks by topic id.
func (s *Service) metadata(ctx context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.MetadataRequest)
	resp := reply[*kmsg.MetadataResponse](req)
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID = s.Config.NodeID
	broker.Host, broker.Port = s.advertised(c)
	resp.Brokers = append(resp.Brokers, broker)
	resp.ClusterID = &s.Config.ClusterID
	resp.ControllerID = s.Config.NodeID
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	// No topics are all topics: null, or in version 0 an empty list.
	if req.Topics == nil || (req.Version == 0 && len(req.Topics) == 0) {
		for _, info := range s.Topics.List() {
			resp.Topics = append(resp.Topics, s.describeTopic(req, info))
		}
		return resp, nil
	}
	create := s.Config.AutoCreateTopics && (req.AllowAutoTopicCreation || req.Version < 4)
	for i := range req.Topics {
		rt := &req.Topics[i]
		info, err := s.lookupTopic(ctx, rt, create)
		if err != nil {
			t := kmsg.NewMetadataResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			t.ErrorCode, _ = s.outcome("look up topic", err)
			resp.Topics = append(resp.Topics, t)
			continue
		}
		resp.Topics = append(resp.Topics, s.describeTopic(req, info))
	}
	return resp, nil
}

// advertised is the address of this broker for a client.
func (s *Service) advertised(c *Client) (host string, port int32) {
	if s.Config.AdvertisedHost != "" {
		return s.Config.AdvertisedHost, s.Config.AdvertisedPort
	}
	return c.localHost, c.localPort
}

func (s *Service) lookupTopic(ctx context.Context, rt *kmsg.MetadataRequestTopic, create bool) (topic.Info, error) {
	if rt.Topic == nil {
		info, ok := s.Topics.LookupID(rt.TopicID)
		if !ok {
			return info, fmt.Errorf("%w: %x", kerr.UnknownTopicID, rt.TopicID)
		}
		return info, nil
	}
	name := *rt.Topic
	info, ok := s.Topics.Lookup(name)
	if ok {
		return info, nil
	}
	if err := topic.ValidateName(name); err != nil {
		return info, err
	}
	if !create || reserved(name) {
		return info, fmt.Errorf("%w: %q", topic.ErrUnknownTopic, name)
	}
	info, err := s.Topics.Create(ctx, name, s.Config.DefaultPartitions, nil)
	if errors.Is(err, topic.ErrExists) { // another client was faster
		if info, ok = s.Topics.Lookup(name); ok {
			return info, nil
		}
	}
	return info, err
}

func (s *Service) describeTopic(req *kmsg.MetadataRequest, info topic.Info) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	t.Topic, t.TopicID, t.IsInternal = &info.Name, info.ID, reserved(info.Name)
	if req.IncludeTopicAuthorizedOperations {
		t.AuthorizedOperations = topicOperations
	}
	self := []int32{s.Config.NodeID}
	t.Partitions = make([]kmsg.MetadataResponseTopicPartition, info.Partitions)
	for i := range t.Partitions {
		p := &t.Partitions[i]
		p.Default()
		p.Partition, p.Leader, p.LeaderEpoch = int32(i), s.Config.NodeID, 0
		p.Replicas, p.ISR = self, self
	}
	return t
}
