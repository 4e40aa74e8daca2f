package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func ptr[T any](v T) *T { return &v }

func TestProduceVersions(t *testing.T) {
	r := start(t, broker.Options{})
	info, err := r.Topics().Create(t.Context(), "notes", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	if err != nil {
		t.Fatal(err)
	}
	for version := int16(3); version <= 13; version++ {
		var b record.Builder
		b.Reset(nil, record.None)
		b.Append(1000, nil, []byte("v"), nil, 0)
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 10_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic, rt.TopicID = "notes", info.ID
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Records = b.Finish()
		other := kmsg.NewProduceRequestTopicPartition()
		other.Partition, other.Records = 7, rp.Records
		rt.Partitions = append(rt.Partitions, rp, other)
		req.Topics = append(req.Topics, rt)
		parts := rawProduce(t, r, req, version).Topics[0].Partitions
		if p := parts[0]; p.ErrorCode != 0 || p.BaseOffset != int64(version-3) || p.LogAppendTime < 1_000_000 {
			t.Errorf("v%d: %+v", version, p)
		}
		if p := parts[1]; p.ErrorCode != kerr.UnknownTopicOrPartition.Code || p.BaseOffset != -1 || (version >= 8) != (p.ErrorMessage != nil) {
			t.Errorf("v%d, partition 7: %+v", version, p)
		}
	}
}

func TestProduceIsRefused(t *testing.T) {
	r := start(t, broker.Options{})
	for name, configs := range map[string]map[string]string{"compacted": {"cleanup.policy": "compact"}, "small": {"max.message.bytes": "1000"}} {
		if _, err := r.Topics().Create(t.Context(), name, 1, configs); err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t)
	c := r.client(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for _, step := range []struct {
		rec  *kgo.Record
		want error
	}{
		{&kgo.Record{Topic: "compacted", Value: []byte("v")}, kerr.InvalidRecord},
		{&kgo.Record{Topic: "small", Value: make([]byte, 1000)}, kerr.MessageTooLarge},
		{&kgo.Record{Topic: "small", Value: []byte("v"), Timestamp: time.Now().Add(2 * time.Hour)}, kerr.InvalidTimestamp},
		{&kgo.Record{Topic: "a b", Value: []byte("v")}, kerr.InvalidTopicException},
		{&kgo.Record{Topic: "__consumer_offsets", Value: []byte("v")}, kerr.InvalidTopicException},
	} {
		if err := c.ProduceSync(ctx, step.rec).FirstErr(); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.rec.Topic, err, step.want)
		}
	}
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "small", Value: []byte("v")}).FirstErr(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestRecordErrorsNameTheRecords(t *testing.T) {
	r := start(t, broker.Options{})
	if _, err := r.Topics().Create(t.Context(), "compacted", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	var b record.Builder
	b.Reset(nil, record.Zstd)
	for i := range 4 {
		b.Append(time.Now().UnixMilli(), [][]byte{[]byte("k"), nil}[i%2], []byte("v"), nil, 0)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks = 1
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "compacted"
	rt.Partitions = append(rt.Partitions, kmsg.ProduceRequestTopicPartition{Records: b.Finish()})
	req.Topics = append(req.Topics, rt)
	p := rawProduce(t, r, req, 8).Topics[0].Partitions[0]
	if p.ErrorCode != kerr.InvalidRecord.Code || len(p.ErrorRecords) != 2 || p.ErrorRecords[0].RelativeOffset != 1 || p.ErrorRecords[1].RelativeOffset != 3 {
		t.Errorf("%+v", p)
	}
}

func TestMetadataVersions(t *testing.T) {
	r := start(t, broker.Options{DefaultPartitions: 3})
	info, err := r.Topics().Create(t.Context(), "notes", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := len(r.Topics().List())
	for version := int16(0); version <= 13; version++ {
		req := kmsg.NewPtrMetadataRequest()
		resp := raw(t, r, req, version).(*kmsg.MetadataResponse)
		if len(resp.Topics) != all || len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 1 {
			t.Errorf("v%d: %d topics, want %d; brokers %+v", version, len(resp.Topics), all, resp.Brokers)
		}
		if version > 0 {
			req.Topics = []kmsg.MetadataRequestTopic{}
			if resp := raw(t, r, req, version).(*kmsg.MetadataResponse); len(resp.Topics) != 0 {
				t.Errorf("v%d: %d topics for an empty list", version, len(resp.Topics))
			}
		}
		if version >= 12 {
			req.Topics = []kmsg.MetadataRequestTopic{{TopicID: info.ID}, {TopicID: [16]byte{9}}}
			resp := raw(t, r, req, version).(*kmsg.MetadataResponse)
			if a, b := resp.Topics[0], resp.Topics[1]; a.ErrorCode != 0 || *a.Topic != "notes" || len(a.Partitions) != 2 || b.ErrorCode != kerr.UnknownTopicID.Code {
				t.Errorf("v%d by id: %+v", version, resp.Topics)
			}
		}
	}
}

func TestAutoCreation(t *testing.T) {
	on, off := start(t, broker.Options{DefaultPartitions: 3}), start(t, broker.Options{NoAutoCreate: true})
	for _, c := range []struct {
		r       *running
		name    string
		version int16
		allow   bool
		want    int16
	}{
		{on, "asked", 4, true, 0}, {on, "not.asked", 4, false, kerr.UnknownTopicOrPartition.Code}, {on, "implied", 3, false, 0},
		{on, "a b", 4, true, kerr.InvalidTopicException.Code}, {on, "not-asked", 4, true, 0},
		{off, "asked", 4, true, kerr.UnknownTopicOrPartition.Code},
	} {
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = c.allow
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr(c.name)}}
		got := raw(t, c.r, req, c.version).(*kmsg.MetadataResponse).Topics[0]
		if got.ErrorCode != c.want || (c.want == 0 && len(got.Partitions) != 3) {
			t.Errorf("%s v%d: %+v", c.name, c.version, got)
		}
		if _, there := c.r.Topics().Lookup(c.name); there != (c.want == 0) {
			t.Errorf("%s v%d: there is such a topic: %v", c.name, c.version, there)
		}
	}
}

func TestListOffsetsVersions(t *testing.T) {
	r := start(t, broker.Options{})
	if _, err := r.Topics().Create(t.Context(), "notes", 1, nil); err != nil {
		t.Fatal(err)
	}
	p, err := r.Topics().Partition("notes", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, ts := range []int64{1000, 3000, 2000} {
		var b record.Builder
		b.Reset(nil, record.None)
		b.Append(ts, nil, []byte("v"), nil, 0)
		if _, err := p.Append(t.Context(), b.Finish(), topic.FromBroker); err != nil {
			t.Fatal(err)
		}
	}
	for version := int16(1); version <= 11; version++ {
		for _, c := range []struct{ asked, offset, timestamp int64 }{
			{-1, 3, -1}, {-2, 0, -1}, {-3, 1, 3000}, {-4, 0, -1}, {-5, -1, -1}, {-6, -1, -1},
			{0, 0, 1000}, {1000, 0, 1000}, {1001, 1, 3000}, {2500, 1, 3000}, {3001, -1, -1},
		} {
			req := kmsg.NewPtrListOffsetsRequest()
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = "notes"
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp = c.asked
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			got := raw(t, r, req, version).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
			if got.ErrorCode != 0 || got.Offset != c.offset || got.Timestamp != c.timestamp {
				t.Errorf("v%d, timestamp %d: %+v, want offset %d timestamp %d", version, c.asked, got, c.offset, c.timestamp)
			}
		}
	}
}

// Every listed version of every request that needs no content is answered in a form that its decoder takes.
func TestEveryVersionIsAnswered(t *testing.T) {
	r := start(t, broker.Options{})
	listed := raw(t, r, kmsg.NewPtrApiVersionsRequest(), 0).(*kmsg.ApiVersionsResponse)
	for _, k := range listed.ApiKeys {
		first := k.MinVersion
		switch k.ApiKey {
		case 0:
			first = 3 // listed and not served
		case 11, 14, 18:
			continue // join and sync wait for others; ApiVersions has a test of its own
		}
		for version := first; version <= k.MaxVersion; version++ {
			req := kmsg.RequestForKey(k.ApiKey)
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			if p, ok := req.(*kmsg.ProduceRequest); ok {
				p.Acks = 1
			}
			if resp := raw(t, r, req, version); resp == nil {
				t.Errorf("key %d v%d: no answer", k.ApiKey, version)
			}
		}
	}
}
