package kafka

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joining is the first heartbeat of a member that reads topic "t".
func (s *groupService) joining(groupID, memberID string) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = groupID, memberID, 30_000
	req.SubscribedTopicNames = []string{s.topic.Name}
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return req
}

func (s *groupService) consumerHeartbeat(version int16, req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	s.Helper()
	return ask[*kmsg.ConsumerGroupHeartbeatResponse](s, version, req)
}

func TestConsumerGroupHeartbeat(t *testing.T) {
	versions(t, 68, func(version int16) {
		s := newGroupService(t)
		joined := s.consumerHeartbeat(version, s.joining("g", "m"))
		s.wantCode("join", version, joined.ErrorCode, nil)
		if joined.MemberID == nil || *joined.MemberID != "m" || joined.MemberEpoch != 1 || joined.HeartbeatIntervalMillis != 5000 {
			t.Errorf("v%d: joined as %+v", version, joined)
		}
		if joined.Assignment == nil || len(joined.Assignment.Topics) != 1 || joined.Assignment.Topics[0].TopicID != s.topic.ID ||
			!slices.Equal(joined.Assignment.Topics[0].Partitions, []int32{0, 1}) {
			t.Fatalf("v%d: assigned %+v", version, joined.Assignment)
		}
		alive := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		alive.Group, alive.MemberID, alive.MemberEpoch = "g", "m", 1
		if kept := s.consumerHeartbeat(version, alive); kept.ErrorCode != 0 || kept.Assignment != nil || kept.MemberEpoch != 1 {
			t.Errorf("v%d: a heartbeat without news is answered %+v", version, kept)
		}

		d := ask[*kmsg.ConsumerGroupDescribeResponse](s, version, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g", "none"}, IncludeAuthorizedOperations: true})
		g, none := d.Groups[0], d.Groups[1]
		s.wantCode("describe a group that does not exist", version, none.ErrorCode, kerr.GroupIDNotFound)
		if g.State != "Stable" || g.Epoch != 1 || g.AssignmentEpoch != 1 || g.AssignorName != "uniform" || g.AuthorizedOperations != groupOperations || len(g.Members) != 1 {
			t.Fatalf("v%d: described as %+v", version, g)
		}
		m := g.Members[0]
		if m.MemberID != "m" || m.MemberEpoch != 1 || m.ClientID != "client" || !slices.Equal(m.SubscribedTopics, []string{"t"}) ||
			len(m.Assignment.TopicPartitions) != 1 || m.Assignment.TopicPartitions[0].Topic != "t" || len(m.TargetAssignment.TopicPartitions) != 1 {
			t.Errorf("v%d: member described as %+v", version, m)
		}
		if version >= 1 && m.MemberType != memberTypeConsumer {
			t.Errorf("v%d: member type %d", version, m.MemberType)
		}

		leave := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		leave.Group, leave.MemberID, leave.MemberEpoch = "g", "m", -1
		if left := s.consumerHeartbeat(version, leave); left.ErrorCode != 0 || left.MemberEpoch != -1 {
			t.Errorf("v%d: leaving is answered %+v", version, left)
		}
	})
}

func TestConsumerGroupHeartbeatIsChecked(t *testing.T) {
	empty, bad := "", "("
	tests := []struct {
		name   string
		from   int16
		change func(r *kmsg.ConsumerGroupHeartbeatRequest)
		want   *kerr.Error
	}{
		{"no group", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Group = "" }, kerr.InvalidRequest},
		{"no member id", 1, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberID = "" }, kerr.InvalidRequest},
		{"no member id while a member", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberID, r.MemberEpoch = "", 1 }, kerr.InvalidRequest},
		{"empty instance id", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = &empty }, kerr.InvalidRequest},
		{"empty rack", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = &empty }, kerr.InvalidRequest},
		{"epoch of nothing", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -3 }, kerr.InvalidRequest},
		{"leaves for a while without instance id", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -2 }, kerr.InvalidRequest},
		{"no rebalance timeout", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = -1 }, kerr.InvalidRequest},
		{"no partitions", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil }, kerr.InvalidRequest},
		{"partitions while joining", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) {
			r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{Partitions: []int32{0}}}
		}, kerr.InvalidRequest},
		{"no subscription", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = nil }, kerr.InvalidRequest},
		{"bad regex", 1, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicRegex = &bad }, kerr.InvalidRegularExpression},
		{"unknown assignor", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = &bad }, kerr.UnsupportedAssignor},
		{"group that does not exist", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = 1 }, kerr.GroupIDNotFound},
		{"reads nothing yet", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = []string{} }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newGroupService(t)
			versions(t, 68, func(version int16) {
				if version < test.from {
					return
				}
				req := s.joining("g", "m")
				test.change(req)
				resp := s.consumerHeartbeat(version, req)
				s.wantCode(test.name, version, resp.ErrorCode, test.want)
				if test.want != nil && resp.ErrorMessage == nil {
					t.Errorf("v%d: no reason is given", version)
				}
			})
		})
	}
}

func TestConsumerGroupHeartbeatNamesMember(t *testing.T) {
	s := newGroupService(t)
	if resp := s.consumerHeartbeat(0, s.joining("g", "")); resp.ErrorCode != 0 || resp.MemberID == nil || len(*resp.MemberID) != 22 {
		t.Errorf("a member of v0 is named by %+v", resp)
	}
}

func TestOffsetsOfConsumerGroup(t *testing.T) {
	s := newGroupService(t)
	s.wantCode("join", 1, s.consumerHeartbeat(1, s.joining("g", "m")).ErrorCode, nil)
	commit := func(version int16, groupID, memberID string, epoch int32) int16 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.MemberID, req.Generation = groupID, memberID, epoch
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic, topic.TopicID = s.topic.Name, s.topic.ID
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = 7
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		return ask[*kmsg.OffsetCommitResponse](s, version, req).Topics[0].Partitions[0].ErrorCode
	}
	fetch := func(memberID *string, epoch int32) kmsg.OffsetFetchResponseGroup {
		req := kmsg.NewPtrOffsetFetchRequest()
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberID, g.MemberEpoch = "g", memberID, epoch
		req.Groups = append(req.Groups, g)
		return ask[*kmsg.OffsetFetchResponse](s, 9, req).Groups[0]
	}
	m, stranger := "m", "x"
	for _, version := range []int16{9, 10} {
		s.wantCode("commit", version, commit(version, "g", "m", 1), nil)
		s.wantCode("commit at an old epoch", version, commit(version, "g", "m", 0), kerr.StaleMemberEpoch)
		s.wantCode("commit of a stranger", version, commit(version, "g", "x", 1), kerr.UnknownMemberID)
		s.wantCode("commit to a group that does not exist", version, commit(version, "none", "m", 1), kerr.GroupIDNotFound)
	}
	s.wantCode("commit at an old epoch", 8, commit(8, "g", "m", 0), kerr.UnsupportedVersion)
	s.wantCode("commit to a group that does not exist", 8, commit(8, "none", "m", 1), kerr.IllegalGeneration)
	if g := fetch(&m, 1); g.ErrorCode != 0 || len(g.Topics) != 1 || g.Topics[0].Partitions[0].Offset != 7 {
		t.Errorf("fetched %+v", g)
	}
	if g := fetch(nil, -1); g.ErrorCode != 0 || len(g.Topics) != 1 {
		t.Errorf("fetched by nobody: %+v", g)
	}
	s.wantCode("fetch at an old epoch", 9, fetch(&m, 0).ErrorCode, kerr.StaleMemberEpoch)
	s.wantCode("fetch of a stranger", 9, fetch(&stranger, 1).ErrorCode, kerr.UnknownMemberID)
	if got := s.fetch(5, "g", true); got.groupCode != 0 || got.offset != 7 {
		t.Errorf("fetched in v5: %+v", got)
	}
}

// Consumer groups and classic groups are listed together and described apart.
func TestConsumerGroupBesideClassic(t *testing.T) {
	s := newGroupService(t)
	s.wantCode("join", 1, s.consumerHeartbeat(1, s.joining("modern", "m")).ErrorCode, nil)
	s.wantCode("commit", 8, s.commit(8, "plain", "t", 0, 1, nil), nil)
	list := func(types ...string) (names []string) {
		req := kmsg.NewPtrListGroupsRequest()
		req.TypesFilter = types
		for _, g := range ask[*kmsg.ListGroupsResponse](s, 5, req).Groups {
			names = append(names, g.Group+"/"+g.GroupType+"/"+g.GroupState+"/"+g.ProtocolType)
		}
		return names
	}
	for _, test := range []struct{ filter, want []string }{
		{nil, []string{"modern/consumer/Stable/consumer", "plain/classic/Empty/"}},
		{[]string{"Consumer"}, []string{"modern/consumer/Stable/consumer"}},
		{[]string{"classic"}, []string{"plain/classic/Empty/"}},
		{[]string{"share"}, nil},
	} {
		if got := list(test.filter...); !slices.Equal(got, test.want) {
			t.Errorf("types %v: %v, want %v", test.filter, got, test.want)
		}
	}
	describe := func(version int16) kmsg.DescribeGroupsResponseGroup {
		return ask[*kmsg.DescribeGroupsResponse](s, version, &kmsg.DescribeGroupsRequest{Groups: []string{"modern"}}).Groups[0]
	}
	s.wantCode("describe as a classic group", 6, describe(6).ErrorCode, kerr.GroupIDNotFound)
	if g := describe(5); g.ErrorCode != 0 || g.State != "Dead" {
		t.Errorf("v5: described as %+v", g)
	}
	d := ask[*kmsg.ConsumerGroupDescribeResponse](s, 1, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"plain"}})
	s.wantCode("describe a classic group", 1, d.Groups[0].ErrorCode, kerr.GroupIDNotFound)
}
