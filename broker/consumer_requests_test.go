package broker_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/millstream-io/millstream/broker"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinConsumers makes "m" a member of consumer group "g", which reads topic "notes".
func joinConsumers(t *testing.T, r *running) {
	t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = "g", "m", 30_000
	req.SubscribedTopicNames, req.Topics = []string{"notes"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	resp := raw(t, r, req, 1).(*kmsg.ConsumerGroupHeartbeatResponse)
	if resp.ErrorCode != 0 || resp.MemberEpoch != 1 {
		t.Fatalf("joined: %+v, %v", resp, kerr.ErrorForCode(resp.ErrorCode))
	}
}

// A producer that commits for a member of a consumer group is held to the member's epoch.
func TestTransactionOfConsumerGroup(t *testing.T) {
	r := start(t, broker.Options{})
	c := newTxnClient(t, r, "t")
	joinConsumers(t, r)
	if code := c.addOffsets(3, "g"); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	commit := func(version int16, epoch int32) error {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = c.id, c.pid, c.epoch
		req.Group, req.MemberID, req.Generation = "g", "m", epoch
		info, _ := r.Topics().Lookup("notes")
		rt := kmsg.NewTxnOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = "notes", info.ID
		rt.Partitions = append(rt.Partitions, kmsg.NewTxnOffsetCommitRequestTopicPartition())
		req.Topics = append(req.Topics, rt)
		return kerr.ErrorForCode(raw(t, r, req, version).(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
	}
	for _, test := range []struct {
		version int16
		epoch   int32
		want    error
	}{
		{3, 1, nil},
		{3, 0, kerr.IllegalGeneration},
		{5, 0, kerr.IllegalGeneration},
		{6, 1, nil},
		{6, 0, kerr.StaleMemberEpoch},
	} {
		if got := commit(test.version, test.epoch); got != test.want {
			t.Errorf("v%d at epoch %d: %v, want %v", test.version, test.epoch, got, test.want)
		}
	}
}

// Members and epochs of a consumer group are there after the broker was stopped and started again.
func TestConsumerGroupOverRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := start(t, broker.Options{Dir: dir})
	newTxnClient(t, r, "t")
	joinConsumers(t, r)
	r.stop(t)
	r = start(t, broker.Options{Dir: dir})
	alive := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	alive.Group, alive.MemberID, alive.MemberEpoch = "g", "m", 1
	if resp := raw(t, r, alive, 1).(*kmsg.ConsumerGroupHeartbeatResponse); resp.ErrorCode != 0 || resp.MemberEpoch != 1 || resp.Assignment != nil {
		t.Fatalf("after the restart: %+v, %v", resp, kerr.ErrorForCode(resp.ErrorCode))
	}
	d := raw(t, r, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g"}}, 1).(*kmsg.ConsumerGroupDescribeResponse).Groups[0]
	if d.State != "Stable" || d.Epoch != 1 || len(d.Members) != 1 || len(d.Members[0].Assignment.TopicPartitions) != 1 ||
		!slices.Equal(d.Members[0].Assignment.TopicPartitions[0].Partitions, []int32{0}) {
		t.Errorf("described as %+v", d)
	}
}

// The settings of consumer groups are told with every heartbeat.
func TestGroupConfigs(t *testing.T) {
	r := start(t, broker.Options{GroupConfigs: map[string]string{"group.consumer.heartbeat.interval.ms": "1234"}})
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = "g", "m", 30_000
	req.SubscribedTopicNames, req.Topics = []string{}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if resp := raw(t, r, req, 1).(*kmsg.ConsumerGroupHeartbeatResponse); resp.HeartbeatIntervalMillis != 1234 {
		t.Errorf("answered %+v", resp)
	}
	if _, err := broker.Open(t.Context(), broker.Options{Dir: t.TempDir(), GroupConfigs: map[string]string{"x": "1"}}); err == nil {
		t.Error("a setting that does not exist was taken")
	}
}

// What is set for one group is told to its members, also after a restart.
func TestConfigsOfOneGroup(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := start(t, broker.Options{Dir: dir})
	set := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = "consumer.heartbeat.interval.ms", kmsg.StringPtr("1234")
	res.Configs = append(res.Configs, c)
	set.Resources = append(set.Resources, res)
	if resp := raw(t, r, set, 1).(*kmsg.IncrementalAlterConfigsResponse).Resources[0]; resp.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(resp.ErrorCode))
	}
	told := func(group string) int32 {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = group, "m", 30_000
		req.SubscribedTopicNames, req.Topics = []string{}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		return raw(t, r, req, 1).(*kmsg.ConsumerGroupHeartbeatResponse).HeartbeatIntervalMillis
	}
	if g, other := told("g"), told("other"); g != 1234 || other != 5000 {
		t.Errorf("members are told %d and %d ms", g, other)
	}
	r.stop(t)
	r = start(t, broker.Options{Dir: dir})
	if g := told("g"); g != 1234 {
		t.Errorf("after a restart members are told %d ms", g)
	}
}

// Clients use the consumer group protocol where group.version is finalized at 1.
func TestGroupVersion(t *testing.T) {
	r := start(t, broker.Options{})
	for version := int16(0); version <= 4; version++ {
		level := int16(-1)
		for _, f := range apiVersions(t, r, version).FinalizedFeatures {
			if f.Name == "group.version" {
				level = f.MaxVersionLevel
			}
		}
		if want := map[bool]int16{true: 1, false: -1}[version >= 3]; level != want {
			t.Errorf("v%d: finalized at %d, want %d", version, level, want)
		}
	}
}
