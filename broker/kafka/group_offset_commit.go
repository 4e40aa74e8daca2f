package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit: v2-10
//
// Answered after fsync. Partitions that do not exist and metadata that is too
// long are refused one by one, the rest is committed in one step. Generation -1
// without a member id is a plain client, which may commit while the group is empty.
// The retention time of v2-4 is ignored, as brokers of today do; v10 names topics by id.
// From v9 on the generation may be the epoch of a member of a consumer group.
func (s *Service) offsetCommit(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.OffsetCommitRequest)
	resp := reply[*kmsg.OffsetCommitResponse](req)
	offsets := map[group.TopicPartition]group.Offset{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		info, err := s.groupTopic(req.Version >= 10, rt.Topic, rt.TopicID)
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition = rp.Partition
			p.ErrorCode = s.groupOutcome("commit offset", checkCommit(info, rp, err))
			if p.ErrorCode == 0 {
				o := group.Offset{Offset: rp.Offset, LeaderEpoch: -1, Metadata: text(rp.Metadata)}
				if req.Version >= 6 {
					o.LeaderEpoch = rp.LeaderEpoch
				}
				offsets[group.TopicPartition{Topic: info.Name, Partition: rp.Partition}] = o
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	id := group.Identity{Group: req.Group, MemberID: req.MemberID, InstanceID: text(req.InstanceID), Generation: req.Generation}
	if failed := s.commitOutcome(s.Groups.Commit(ctx, id, offsets), req.Version); failed != 0 {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
					p.ErrorCode = failed
				}
			}
		}
	}
	return resp, nil
}

// commitOutcome returns the code of a commit's error as its version knows it.
func (s *Service) commitOutcome(err error, version int16) int16 {
	switch {
	case version >= 9 && errors.Is(err, group.ErrGroupNotFound):
		return kerr.GroupIDNotFound.Code // ILLEGAL_GENERATION before
	case version < 9 && errors.Is(err, group.ErrStaleEpoch):
		return kerr.UnsupportedVersion.Code // a member of a consumer group has to use v9
	}
	return s.groupOutcome("commit offsets", err)
}

// checkCommit refuses what cannot be stored for one partition.
func checkCommit(info topic.Info, rp *kmsg.OffsetCommitRequestTopicPartition, topicErr error) error {
	switch {
	case topicErr != nil:
		return topicErr
	case rp.Partition < 0 || int(rp.Partition) >= info.Partitions:
		return fmt.Errorf("%w: %s-%d, the topic has %d", topic.ErrUnknownPartition, info.Name, rp.Partition, info.Partitions)
	case len(text(rp.Metadata)) > group.MaxMetadataBytes:
		return fmt.Errorf("%w: %d bytes for %s-%d", group.ErrMetadataTooLarge, len(*rp.Metadata), info.Name, rp.Partition)
	}
	return nil
}

// groupTopic finds the topic that a request means by name or, in new versions, by id.
func (s *Service) groupTopic(byID bool, name string, id topic.ID) (topic.Info, error) {
	if byID {
		info, ok := s.Topics.LookupID(id)
		if !ok {
			return info, fmt.Errorf("%w: %x", kerr.UnknownTopicID, id)
		}
		return info, nil
	}
	info, ok := s.Topics.Lookup(name)
	if !ok {
		return info, fmt.Errorf("%w: %q", topic.ErrUnknownTopic, name)
	}
	return info, nil
}
