package kafka

import (
	"cmp"
	"context"
	"slices"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch: v1-10
//
// What nobody has committed, and a group nobody has heard of, is offset -1 with empty
// metadata and no error: clients then use their own start position. No topics (from
// v2 on null, before v8 in the request itself) are all that the group has. v7 asks
// for stable offsets: what an open transaction may change is UNSTABLE_OFFSET_COMMIT,
// and the client asks again (KIP-447). v8 asks for many groups,
// v9 tells the epoch of a member of a consumer group, v10 names topics by id.
func (s *Service) offsetFetch(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.OffsetFetchRequest)
	resp := reply[*kmsg.OffsetFetchResponse](req)
	if req.Version >= 8 {
		for i := range req.Groups {
			resp.Groups = append(resp.Groups, s.fetchGroupOffsets(ctx, &req.Groups[i], req.Version >= 10, req.RequireStable))
		}
		return resp, nil
	}
	one := kmsg.NewOffsetFetchRequestGroup()
	one.Group = req.Group
	for i := range req.Topics {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
		one.Topics = append(one.Topics, t)
	}
	if one.Topics == nil && (req.Topics != nil || req.Version < 2) {
		one.Topics = []kmsg.OffsetFetchRequestGroupTopic{} // asked for nothing, which is not everything
	}
	found := s.fetchGroupOffsets(ctx, &one, false, req.RequireStable)
	resp.ErrorCode = found.ErrorCode
	for i := range found.Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = found.Topics[i].Topic
		for _, p := range found.Topics[i].Partitions {
			t.Partitions = append(t.Partitions, kmsg.OffsetFetchResponseTopicPartition(p))
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func (s *Service) fetchGroupOffsets(ctx context.Context, rg *kmsg.OffsetFetchRequestGroup, byID, stable bool) kmsg.OffsetFetchResponseGroup {
	g := kmsg.NewOffsetFetchResponseGroup()
	g.Group = rg.Group
	var unstable map[group.TopicPartition]bool
	err := s.Groups.Consumers().Check(group.Identity{Group: rg.Group, MemberID: text(rg.MemberID), Generation: rg.MemberEpoch})
	if stable && err == nil {
		unstable, err = s.Groups.Unstable(rg.Group)
	}
	var offsets map[group.TopicPartition]group.Offset
	if err == nil {
		offsets, err = s.Groups.Offsets(ctx, rg.Group, nil)
	}
	g.ErrorCode = s.groupOutcome("fetch offsets", err)
	if rg.Topics == nil {
		g.Topics = s.allOffsets(offsets, unstable, byID)
		return g
	}
	for i := range rg.Topics {
		rt := &rg.Topics[i]
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		name, failed := rt.Topic, g.ErrorCode
		if byID {
			info, err := s.groupTopic(true, "", rt.TopicID)
			name, failed = info.Name, cmp.Or(failed, code(err))
		}
		for _, index := range rt.Partitions {
			tp := group.TopicPartition{Topic: name, Partition: index}
			o, ok := offsets[tp]
			p := offsetOf(index, o, ok, unstable[tp])
			p.ErrorCode = cmp.Or(failed, p.ErrorCode)
			t.Partitions = append(t.Partitions, p)
		}
		g.Topics = append(g.Topics, t)
	}
	return g
}

func offsetOf(index int32, o group.Offset, ok, unstable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch = index, -1, -1
	switch {
	case unstable:
		p.ErrorCode, o.Metadata = kerr.UnstableOffsetCommit.Code, ""
	case ok:
		p.Offset, p.LeaderEpoch = o.Offset, o.LeaderEpoch
	}
	p.Metadata = &o.Metadata
	return p
}

// allOffsets are all offsets of a group, by topic and partition. Asked by id,
// topics that are gone have none to be named by.
func (s *Service) allOffsets(offsets map[group.TopicPartition]group.Offset, unstable map[group.TopicPartition]bool, byID bool) []kmsg.OffsetFetchResponseGroupTopic {
	all := make([]group.TopicPartition, 0, len(offsets))
	for tp := range offsets {
		all = append(all, tp)
	}
	for tp := range unstable {
		if _, ok := offsets[tp]; !ok {
			all = append(all, tp)
		}
	}
	slices.SortFunc(all, func(a, b group.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	var topics []kmsg.OffsetFetchResponseGroupTopic
	last := ""
	for _, tp := range all {
		if len(topics) == 0 || tp.Topic != last {
			t := kmsg.NewOffsetFetchResponseGroupTopic()
			t.Topic = tp.Topic
			if byID {
				info, ok := s.Topics.Lookup(tp.Topic)
				if !ok {
					continue
				}
				t.TopicID = info.ID
			}
			topics, last = append(topics, t), tp.Topic
		}
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, offsetOf(tp.Partition, offsets[tp], true, unstable[tp]))
	}
	return topics
}
