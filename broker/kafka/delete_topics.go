package kafka

import (
	"context"
	"fmt"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics: v1-6
//
// By name, from v6 on also by id. The files are gone, and so are the offsets
// that groups have committed for the topic, before the answer.
//
// Omitted: the timeout.
func (s *Service) deleteTopics(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DeleteTopicsRequest)
	resp := reply[*kmsg.DeleteTopicsResponse](req)
	wanted := req.Topics
	for i := range req.TopicNames {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &req.TopicNames[i]
		wanted = append(wanted, t)
	}
	for i := range wanted {
		t := kmsg.NewDeleteTopicsResponseTopic()
		t.Topic, t.TopicID = wanted[i].Topic, wanted[i].TopicID
		err := s.deleteTopic(ctx, &t)
		t.ErrorCode, t.ErrorMessage = s.outcome("delete topic", err)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// deleteTopic deletes what t names and fills in the other name.
func (s *Service) deleteTopic(ctx context.Context, t *kmsg.DeleteTopicsResponseTopic) error {
	if t.Topic == nil {
		info, ok := s.Topics.LookupID(t.TopicID)
		if !ok {
			return fmt.Errorf("%w: %x", kerr.UnknownTopicID, t.TopicID)
		}
		t.Topic = &info.Name
	}
	name := *t.Topic
	if reserved(name) {
		return fmt.Errorf("%w: %q is the broker's own", topic.ErrInvalidName, name)
	}
	if info, ok := s.Topics.Lookup(name); ok {
		t.TopicID = info.ID
	}
	if err := s.Topics.Delete(ctx, name); err != nil {
		return err
	}
	if s.Groups == nil {
		return nil
	}
	return s.Groups.ForgetTopic(ctx, name)
}
