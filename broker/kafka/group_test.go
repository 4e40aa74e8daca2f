package kafka

import (
	"log/slog"
	"net"
	"testing"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupService is a service with topic "t" of two partitions, and a way to ask it in any version.
type groupService struct {
	*testing.T
	session *Session
	topic   topic.Info
}

func newGroupService(t *testing.T) *groupService {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	topics, err := topic.Open(t.Context(), topic.Options{FS: fs, Dir: "data", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := group.Open(t.Context(), group.Options{Topics: topics, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	info, err := topics.Create(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := groups.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		_ = topics.Close(t.Context())
	})
	s := &Service{Config: Config{NodeID: 1, AdvertisedHost: "broker", AdvertisedPort: 9092}, Topics: topics, Groups: groups, Logger: quiet}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}
	return &groupService{T: t, session: s.Connect(at, at, nil), topic: info}
}

// ask sends a request through the bytes of a version and returns the response as that version reads it.
func ask[R kmsg.Response](s *groupService, version int16, req kmsg.Request) R {
	s.Helper()
	req.SetVersion(version)
	out, respond, err := s.session.Serve(s.Context(), req.Key(), version, "client", req.AppendTo(nil), nil)
	if err != nil || !respond {
		s.Fatalf("%s v%d: %v, answered: %v", kmsg.NameForKey(req.Key()), version, err, respond)
	}
	resp := req.ResponseKind()
	resp.SetVersion(version)
	if err := resp.ReadFrom(out); err != nil {
		s.Fatalf("%s v%d: the answer cannot be read: %v", kmsg.NameForKey(req.Key()), version, err)
	}
	return resp.(R)
}

func (s *groupService) wantCode(what string, version, got int16, want *kerr.Error) {
	s.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		s.Errorf("%s v%d: code %d (%v), want %d", what, version, got, kerr.ErrorForCode(got), code)
	}
}

// versions calls f for each version that the table serves.
func versions(t *testing.T, key int16, f func(version int16)) {
	t.Helper()
	for _, a := range groupAPIs() {
		if a.key == key {
			for v := a.min; v <= a.max; v++ {
				f(v)
			}
		}
	}
}

func (s *groupService) commit(version int16, groupID string, topicName string, partition int32, offset int64, metadata *string) int16 {
	s.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = groupID, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topicName
	if topicName == s.topic.Name {
		t.TopicID = s.topic.ID
	}
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata, p.LeaderEpoch = partition, offset, metadata, 3
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp := ask[*kmsg.OffsetCommitResponse](s, version, req)
	return resp.Topics[0].Partitions[0].ErrorCode
}

// fetched is one partition of an OffsetFetch answer, whatever the version.
type fetched struct {
	offset      int64
	leaderEpoch int32
	metadata    *string
	code        int16
	groupCode   int16
	partitions  int
}

func (s *groupService) fetch(version int16, groupID string, all bool) fetched {
	s.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	if version < 8 {
		req.Group = groupID
		if !all {
			req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		}
		resp := ask[*kmsg.OffsetFetchResponse](s, version, req)
		f := fetched{groupCode: resp.ErrorCode}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				f.offset, f.leaderEpoch, f.metadata, f.code = p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
				f.partitions++
			}
		}
		return f
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = groupID
	if !all {
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: s.topic.ID, Partitions: []int32{0}}}
	}
	req.Groups = append(req.Groups, g)
	resp := ask[*kmsg.OffsetFetchResponse](s, version, req)
	f := fetched{groupCode: resp.Groups[0].ErrorCode}
	for _, t := range resp.Groups[0].Topics {
		for _, p := range t.Partitions {
			f.offset, f.leaderEpoch, f.metadata, f.code = p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			f.partitions++
		}
	}
	return f
}

func TestOffsetFetchOfUnknownGroup(t *testing.T) {
	s := newGroupService(t)
	versions(t, 9, func(v int16) {
		f := s.fetch(v, "nobody", false)
		if f.offset != -1 || f.code != 0 || f.groupCode != 0 || f.metadata == nil || *f.metadata != "" || f.partitions != 1 {
			t.Errorf("v%d: %+v", v, f)
		}
	})
}

func TestOffsetCommitAndFetch(t *testing.T) {
	s := newGroupService(t)
	note := "note"
	versions(t, 8, func(v int16) {
		s.wantCode("OffsetCommit", v, s.commit(v, "g", "t", 0, int64(v), &note), nil)
		if f := s.fetch(9, "g", false); f.offset != int64(v) || *f.metadata != note || (v >= 6 && f.leaderEpoch != 3) || (v < 6 && f.leaderEpoch != -1) {
			t.Errorf("after OffsetCommit v%d: %+v", v, f)
		}
	})
	s.wantCode("OffsetCommit", 9, s.commit(9, "g", "t", 0, 77, nil), nil)
	versions(t, 9, func(v int16) {
		for _, all := range []bool{false, v >= 2} {
			if f := s.fetch(v, "g", all); f.offset != 77 || f.metadata == nil || *f.metadata != "" || f.partitions != 1 {
				t.Errorf("OffsetFetch v%d, all %v: %+v", v, all, f)
			}
		}
	})
}

func TestOffsetCommitRefusals(t *testing.T) {
	s := newGroupService(t)
	long := string(make([]byte, group.MaxMetadataBytes+1))
	s.wantCode("unknown topic", 9, s.commit(9, "g", "nothing", 0, 1, nil), kerr.UnknownTopicOrPartition)
	s.wantCode("unknown topic id", 10, s.commit(10, "g", "nothing", 0, 1, nil), kerr.UnknownTopicID)
	s.wantCode("unknown partition", 9, s.commit(9, "g", "t", 2, 1, nil), kerr.UnknownTopicOrPartition)
	s.wantCode("long metadata", 9, s.commit(9, "g", "t", 0, 1, &long), kerr.OffsetMetadataTooLarge)
	if f := s.fetch(9, "g", false); f.offset != -1 {
		t.Errorf("something was committed: %+v", f)
	}
}

// TestOffsetCommitIsPerPartition: what cannot be committed does not hold up the rest.
func TestOffsetCommitIsPerPartition(t *testing.T) {
	s := newGroupService(t)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = "g", -1
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{
		{Partition: 0, Offset: 5, LeaderEpoch: -1}, {Partition: 9, Offset: 5, LeaderEpoch: -1}}}}
	resp := ask[*kmsg.OffsetCommitResponse](s, 8, req)
	s.wantCode("partition 0", 8, resp.Topics[0].Partitions[0].ErrorCode, nil)
	s.wantCode("partition 9", 8, resp.Topics[0].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
	if f := s.fetch(8, "g", false); f.offset != 5 {
		t.Errorf("partition 0 has %+v", f)
	}
}

func (s *groupService) join(version int16, groupID, memberID string) *kmsg.JoinGroupResponse {
	s.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = groupID, memberID, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff}}}
	return ask[*kmsg.JoinGroupResponse](s, version, req)
}

// stable makes a group with one member and returns its join answer.
func (s *groupService) stable(groupID string) *kmsg.JoinGroupResponse {
	s.Helper()
	joined := s.join(3, groupID, "")
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = groupID, joined.MemberID, joined.Generation
	req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("mine")}}
	synced := ask[*kmsg.SyncGroupResponse](s, 3, req)
	if synced.ErrorCode != 0 || string(synced.MemberAssignment) != "mine" {
		s.Fatalf("sync: %+v", synced)
	}
	return joined
}

// TestJoinGroupVersions: from v4 on, and never before, a new member is told its id first.
func TestJoinGroupVersions(t *testing.T) {
	s := newGroupService(t)
	versions(t, 11, func(v int16) {
		id := "g" + string(rune('a'+v))
		r := s.join(v, id, "")
		if v >= 4 {
			s.wantCode("JoinGroup", v, r.ErrorCode, kerr.MemberIDRequired)
			if r.MemberID == "" || r.Generation != -1 {
				t.Errorf("v%d: %+v", v, r)
			}
			r = s.join(v, id, r.MemberID)
		}
		s.wantCode("JoinGroup", v, r.ErrorCode, nil)
		if r.Generation != 1 || r.LeaderID != r.MemberID || len(r.Members) != 1 || r.Protocol == nil || *r.Protocol != "range" {
			t.Errorf("v%d: %+v", v, r)
		}
	})
}

func TestSyncHeartbeatLeave(t *testing.T) {
	s := newGroupService(t)
	versions(t, 14, func(v int16) {
		joined := s.stable("g")
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.MemberID, req.Generation = "g", joined.MemberID, joined.Generation
		r := ask[*kmsg.SyncGroupResponse](s, v, req)
		if v >= 5 {
			s.wantCode("SyncGroup without a protocol", v, r.ErrorCode, kerr.InconsistentGroupProtocol)
			req.ProtocolType, req.Protocol = nullable("consumer"), nullable("range")
			r = ask[*kmsg.SyncGroupResponse](s, v, req)
		}
		if s.wantCode("SyncGroup", v, r.ErrorCode, nil); string(r.MemberAssignment) != "mine" {
			t.Errorf("v%d: assignment %q", v, r.MemberAssignment)
		}
		versions(t, 12, func(v int16) {
			beat := kmsg.NewPtrHeartbeatRequest()
			beat.Group, beat.MemberID, beat.Generation = "g", joined.MemberID, joined.Generation
			s.wantCode("Heartbeat", v, ask[*kmsg.HeartbeatResponse](s, v, beat).ErrorCode, nil)
			beat.Generation--
			s.wantCode("Heartbeat", v, ask[*kmsg.HeartbeatResponse](s, v, beat).ErrorCode, kerr.IllegalGeneration)
			beat.Group = "nothing"
			s.wantCode("Heartbeat", v, ask[*kmsg.HeartbeatResponse](s, v, beat).ErrorCode, kerr.UnknownMemberID)
		})
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group, leave.MemberID = "g", joined.MemberID
		leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: joined.MemberID}}
		left := ask[*kmsg.LeaveGroupResponse](s, v, leave)
		s.wantCode("LeaveGroup", v, left.ErrorCode, nil)
		again := ask[*kmsg.LeaveGroupResponse](s, v, leave)
		if v < 3 {
			s.wantCode("LeaveGroup again", v, again.ErrorCode, kerr.UnknownMemberID)
		} else {
			s.wantCode("LeaveGroup", v, left.Members[0].ErrorCode, nil)
			s.wantCode("LeaveGroup again", v, again.ErrorCode, nil)
			s.wantCode("LeaveGroup again", v, again.Members[0].ErrorCode, kerr.UnknownMemberID)
		}
	})
}

func TestFindCoordinator(t *testing.T) {
	s := newGroupService(t)
	versions(t, 10, func(v int16) {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
		r := ask[*kmsg.FindCoordinatorResponse](s, v, req)
		if v < 4 {
			if s.wantCode("FindCoordinator", v, r.ErrorCode, nil); r.NodeID != 1 || r.Host != "broker" || r.Port != 9092 {
				t.Errorf("v%d: %+v", v, r)
			}
		} else if len(r.Coordinators) != 2 || r.Coordinators[1].Key != "h" || r.Coordinators[1].Host != "broker" || r.Coordinators[1].NodeID != 1 {
			t.Errorf("v%d: %+v", v, r)
		}
		if req.CoordinatorType = 2; v >= 4 {
			r = ask[*kmsg.FindCoordinatorResponse](s, v, req)
			s.wantCode("share coordinator", v, r.Coordinators[0].ErrorCode, kerr.InvalidRequest)
		}
	})
}

func TestDescribeAndListGroups(t *testing.T) {
	s := newGroupService(t)
	s.stable("busy")
	s.commit(9, "idle", "t", 0, 1, nil)
	versions(t, 15, func(v int16) {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{"busy", "idle", "nothing"}
		r := ask[*kmsg.DescribeGroupsResponse](s, v, req)
		busy, idle, nothing := r.Groups[0], r.Groups[1], r.Groups[2]
		if busy.State != "Stable" || busy.Protocol != "range" || busy.ProtocolType != "consumer" || len(busy.Members) != 1 ||
			string(busy.Members[0].MemberAssignment) != "mine" || busy.Members[0].ClientID != "client" || busy.Members[0].ClientHost != "/127.0.0.1" {
			t.Errorf("v%d: %+v", v, busy)
		}
		if idle.State != "Empty" || idle.ErrorCode != 0 || nothing.State != "Dead" {
			t.Errorf("v%d: idle %+v, nothing %+v", v, idle, nothing)
		}
		if want := kerr.GroupIDNotFound; v >= 6 {
			s.wantCode("DescribeGroups", v, nothing.ErrorCode, want)
		} else {
			s.wantCode("DescribeGroups", v, nothing.ErrorCode, nil)
		}
	})
	list := func(v int16, states, types []string) (names []string) {
		req := kmsg.NewPtrListGroupsRequest()
		req.StatesFilter, req.TypesFilter = states, types
		for _, g := range ask[*kmsg.ListGroupsResponse](s, v, req).Groups {
			names = append(names, g.Group)
		}
		return names
	}
	versions(t, 16, func(v int16) {
		if got := list(v, nil, nil); len(got) != 2 {
			t.Errorf("v%d: groups are %q", v, got)
		}
		if got := list(v, []string{"empty"}, nil); v >= 4 && (len(got) != 1 || got[0] != "idle") {
			t.Errorf("v%d: empty groups are %q", v, got)
		}
		if got := list(v, nil, []string{"consumer"}); v >= 5 && len(got) != 0 {
			t.Errorf("v%d: groups of the new type are %q", v, got)
		}
	})
}

func TestDeleteGroupsAndOffsets(t *testing.T) {
	s := newGroupService(t)
	s.stable("busy")
	versions(t, 42, func(v int16) {
		s.commit(9, "idle", "t", 0, 1, nil)
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{"busy", "idle", "nothing"}
		r := ask[*kmsg.DeleteGroupsResponse](s, v, req)
		for i, want := range []*kerr.Error{kerr.NonEmptyGroup, nil, kerr.GroupIDNotFound} {
			s.wantCode("DeleteGroups "+req.Groups[i], v, r.Groups[i].ErrorCode, want)
		}
		if f := s.fetch(9, "idle", true); f.partitions != 0 {
			t.Errorf("v%d: offsets of a deleted group: %+v", v, f)
		}
	})
	s.commit(9, "idle", "t", 0, 1, nil)
	remove := func(groupID, name string) *kmsg.OffsetDeleteResponse {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = groupID
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: name, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
		return ask[*kmsg.OffsetDeleteResponse](s, 0, req)
	}
	s.wantCode("OffsetDelete", 0, remove("nothing", "t").ErrorCode, kerr.GroupIDNotFound)
	s.wantCode("OffsetDelete of a topic that is read", 0, remove("busy", "t").Topics[0].Partitions[0].ErrorCode, kerr.GroupSubscribedToTopic)
	s.wantCode("OffsetDelete of no topic", 0, remove("idle", "nothing").Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	s.wantCode("OffsetDelete", 0, remove("idle", "t").Topics[0].Partitions[0].ErrorCode, nil)
	if f := s.fetch(9, "idle", false); f.offset != -1 {
		t.Errorf("the offset is still there: %+v", f)
	}
}
