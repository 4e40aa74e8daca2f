package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestGroupConfigs(t *testing.T) {
	s := newGroupService(t)
	alter := func(name string, op kmsg.IncrementalAlterConfigOp, value string, validateOnly bool) int16 {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.ValidateOnly = validateOnly
		res := kmsg.NewIncrementalAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = name, op, &value
		res.Configs = append(res.Configs, c)
		req.Resources = append(req.Resources, res)
		return ask[*kmsg.IncrementalAlterConfigsResponse](s, 1, req).Resources[0].ErrorCode
	}
	described := func() string {
		req := kmsg.NewPtrDescribeConfigsRequest()
		res := kmsg.NewDescribeConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
		req.Resources = append(req.Resources, res)
		req.IncludeSynonyms = true
		got := ask[*kmsg.DescribeConfigsResponse](s, 4, req).Resources[0]
		s.wantCode("describe", 4, got.ErrorCode, nil)
		out := ""
		for _, c := range got.Configs {
			out += fmt.Sprintf("%s=%s %s %d; ", c.Name, *c.Value, c.Source, len(c.ConfigSynonyms))
		}
		return out
	}
	const interval, session = "consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"
	if want := interval + "=5000 DEFAULT_CONFIG 1; " + session + "=45000 DEFAULT_CONFIG 1; "; described() != want {
		t.Errorf("at first: %s", described())
	}
	for _, c := range []struct {
		name, value string
		op          kmsg.IncrementalAlterConfigOp
		dry         bool
		want        *kerr.Error
	}{
		{interval, "1000", kmsg.IncrementalAlterConfigOpSet, false, nil},
		{session, "9000", kmsg.IncrementalAlterConfigOpSet, true, nil},
		{session, "1000", kmsg.IncrementalAlterConfigOpSet, false, kerr.InvalidConfig}, // not above the interval
		{session, "soon", kmsg.IncrementalAlterConfigOpSet, false, kerr.InvalidConfig},
		{interval, "99", kmsg.IncrementalAlterConfigOpSet, false, kerr.InvalidConfig},
		{interval, "1", kmsg.IncrementalAlterConfigOpAppend, false, kerr.InvalidConfig},
		{"retention.ms", "1", kmsg.IncrementalAlterConfigOpSet, false, kerr.InvalidConfig},
		{"retention.ms", "", kmsg.IncrementalAlterConfigOpDelete, false, kerr.InvalidConfig},
	} {
		s.wantCode(fmt.Sprintf("%v %s=%s", c.op, c.name, c.value), 1, alter(c.name, c.op, c.value, c.dry), c.want)
	}
	if want := interval + "=1000 GROUP_CONFIG 2; " + session + "=45000 DEFAULT_CONFIG 1; "; described() != want {
		t.Errorf("after it was set: %s", described())
	}
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis = "g", "m", 30_000
	beat.SubscribedTopicNames, beat.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if got := ask[*kmsg.ConsumerGroupHeartbeatResponse](s, 1, beat); got.HeartbeatIntervalMillis != 1000 {
		t.Errorf("a member is told %d ms", got.HeartbeatIntervalMillis)
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	if got := ask[*kmsg.ListConfigResourcesResponse](s, 1, list); len(got.ConfigResources) < 5 || got.ErrorCode != 0 {
		t.Errorf("all resources: %+v", got)
	}
	list.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeGroupConfig)}
	if got := ask[*kmsg.ListConfigResourcesResponse](s, 1, list).ConfigResources; len(got) != 1 || got[0].Name != "g" || got[0].Type != list.ResourceTypes[0] {
		t.Errorf("groups with configs: %+v", got)
	}
	list.ResourceTypes = []int8{77}
	s.wantCode("unknown type of resource", 1, ask[*kmsg.ListConfigResourcesResponse](s, 1, list).ErrorCode, kerr.UnsupportedVersion)

	s.wantCode("delete", 1, alter(interval, kmsg.IncrementalAlterConfigOpDelete, "", false), nil)
	if want := interval + "=5000 DEFAULT_CONFIG 1; " + session + "=45000 DEFAULT_CONFIG 1; "; described() != want {
		t.Errorf("after it was deleted: %s", described())
	}
	all := kmsg.NewPtrAlterConfigsRequest()
	res := kmsg.NewAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, ""
	all.Resources = append(all.Resources, res)
	s.wantCode("configs of a group without a name", 2, ask[*kmsg.AlterConfigsResponse](s, 2, all).Resources[0].ErrorCode, kerr.InvalidGroupID)
}

func TestAlterReplicaLogDirs(t *testing.T) {
	s := newGroupService(t)
	for version := int16(1); version <= 2; version++ {
		req := kmsg.NewPtrAlterReplicaLogDirsRequest()
		for _, dir := range []string{"data", "/elsewhere"} {
			d := kmsg.NewAlterReplicaLogDirsRequestDir()
			d.Dir = dir
			dt := kmsg.NewAlterReplicaLogDirsRequestDirTopic()
			dt.Topic, dt.Partitions = "t", []int32{0, 9}
			d.Topics = append(d.Topics, dt)
			req.Dirs = append(req.Dirs, d)
		}
		got := ask[*kmsg.AlterReplicaLogDirsResponse](s, version, req).Topics
		for i, want := range []*kerr.Error{nil, kerr.LogDirNotFound} {
			s.wantCode("partition 0", version, got[i].Partitions[0].ErrorCode, want)
			s.wantCode("partition 9", version, got[i].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
		}
	}
}
