package broker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/broker"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (r *running) admin(t *testing.T) *kadm.Client {
	t.Helper()
	return kadm.NewClient(r.client(t))
}

func TestTopicsOfAnAdmin(t *testing.T) {
	r := start(t, broker.Options{NoAutoCreate: true, DefaultPartitions: 3})
	ctx, adm := within(t), r.admin(t)
	one := "1000000"
	made, err := adm.CreateTopics(ctx, -1, 3, map[string]*string{"retention.ms": &one}, "notes", "notes.es")
	if err != nil || made.Error() != nil {
		t.Fatal(err, made.Error())
	}
	if got := made["notes"]; got.NumPartitions != 3 || got.ReplicationFactor != 1 || *got.Configs["retention.ms"].Value != one {
		t.Errorf("created %+v", got)
	}
	for name, want := range map[string]error{"notes": kerr.TopicAlreadyExists, "notes_es": kerr.InvalidTopicException, "..": kerr.InvalidTopicException,
		"a b": kerr.InvalidTopicException, strings.Repeat("x", 250): kerr.InvalidTopicException, "__cluster_metadata": kerr.InvalidTopicException} {
		got, err := adm.CreateTopics(ctx, 1, 1, nil, name)
		if err != nil || !errors.Is(got[name].Err, want) {
			t.Errorf("create %q: %v, %v; want %v", name, err, got[name].Err, want)
		}
	}
	bad := "soon"
	if got, err := adm.CreateTopics(ctx, 1, 1, map[string]*string{"no.such.config": &bad}, "x"); err != nil || !errors.Is(got["x"].Err, kerr.InvalidConfig) {
		t.Errorf("unknown config: %v, %v", err, got["x"].Err)
	}
	if got, err := adm.CreateTopics(ctx, 1, 1, map[string]*string{"retention.ms": &bad}, "x"); err != nil || !errors.Is(got["x"].Err, kerr.InvalidConfig) {
		t.Errorf("bad value: %v, %v", err, got["x"].Err)
	}
	if got, err := adm.UpdatePartitions(ctx, 5, "notes"); err != nil || got.Error() != nil {
		t.Errorf("grow: %v %v", err, got.Error())
	}
	if got, err := adm.UpdatePartitions(ctx, 2, "notes"); err != nil || !errors.Is(got["notes"].Err, kerr.InvalidPartitions) {
		t.Errorf("shrink: %v %v", err, got["notes"].Err)
	}
	meta, err := adm.Metadata(ctx, "notes", "missing")
	if err != nil || meta.Cluster != r.ClusterID() || meta.Controller != 1 || len(meta.Topics["notes"].Partitions) != 5 {
		t.Errorf("metadata %+v, %v", meta, err)
	}
	if !errors.Is(meta.Topics["missing"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("missing topic: %v", meta.Topics["missing"].Err)
	}
	if got, err := adm.DeleteTopics(ctx, "notes", "missing"); err != nil || got["notes"].Err != nil || !errors.Is(got["missing"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("delete: %v %+v", err, got)
	}
	if topics, err := adm.ListTopics(ctx); err != nil || topics.Has("notes") || !topics.Has("notes.es") {
		t.Errorf("left are %v, %v", topics.Names(), err)
	}
}

func TestConfigsOfAnAdmin(t *testing.T) {
	r := start(t, broker.Options{TopicDefaults: map[string]string{"segment.bytes": "1048576"}})
	ctx, adm := within(t), r.admin(t)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	alter := func(op kadm.IncrementalOp, name, value string) error {
		got, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: name, Value: &value}}, "notes")
		if err != nil {
			return err
		}
		return got[0].Err
	}
	value := func(name string) *kadm.Config {
		got, err := adm.DescribeTopicConfigs(ctx, "notes")
		if err != nil || got[0].Err != nil {
			t.Fatal(err, got)
		}
		for _, c := range got[0].Configs {
			if c.Key == name {
				return &c
			}
		}
		t.Fatalf("config %s is not described", name)
		return nil
	}
	for _, step := range []struct {
		op          kadm.IncrementalOp
		name, value string
		err         error
		want        string
	}{
		{kadm.SetConfig, "cleanup.policy", "compact", nil, "compact"},
		{kadm.AppendConfig, "cleanup.policy", "delete", nil, "compact,delete"},
		{kadm.SubtractConfig, "cleanup.policy", "compact", nil, "delete"},
		{kadm.SetConfig, "cleanup.policy", "burn", kerr.InvalidConfig, "delete"},
		{kadm.SetConfig, "retention.ms", "60000", nil, "60000"},
		{kadm.SetConfig, "retention.ms", "-2", kerr.InvalidConfig, "60000"},
		{kadm.AppendConfig, "retention.ms", "1", kerr.InvalidConfig, "60000"},
		{kadm.DeleteConfig, "retention.ms", "", nil, "604800000"},
		{kadm.DeleteConfig, "no.such.config", "", kerr.InvalidConfig, ""},
	} {
		if err := alter(step.op, step.name, step.value); !errors.Is(err, step.err) {
			t.Errorf("%v %s=%s: %v, want %v", step.op, step.name, step.value, err, step.err)
		}
		if step.want != "" {
			if got := value(step.name).MaybeValue(); got != step.want {
				t.Errorf("after %v %s=%s it is %q, want %q", step.op, step.name, step.value, got, step.want)
			}
		}
	}
	if c := value("segment.bytes"); c.MaybeValue() != "1048576" || c.Source.String() != "STATIC_BROKER_CONFIG" {
		t.Errorf("broker default: %+v", c)
	}
	got, err := adm.DescribeBrokerConfigs(ctx, 1)
	if err != nil || got[0].Err != nil {
		t.Fatal(err, got)
	}
	for _, c := range got[0].Configs {
		if c.Key == "advertised.listeners" && c.MaybeValue() != "PLAINTEXT://"+r.address {
			t.Errorf("advertised.listeners is %s", c.MaybeValue())
		}
	}
}

func TestOffsetsOfAnAdmin(t *testing.T) {
	r := start(t, broker.Options{})
	ctx, adm := within(t), r.admin(t)
	recs := records("notes", 100)
	for i, rec := range recs {
		rec.Timestamp = timestamp(int64(1000 + 10*i))
	}
	producer := r.client(t, kgo.ProducerLinger(0))
	for _, rec := range recs { // one batch each
		if err := producer.ProduceSync(ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	at := func(what string, l kadm.ListedOffsets, err error) int64 {
		o, ok := l.Lookup("notes", 0)
		if err != nil || !ok || o.Err != nil {
			t.Fatal(what, err, o.Err)
		}
		return o.Offset
	}
	start, err := adm.ListStartOffsets(ctx, "notes")
	if got := at("start", start, err); got != 0 {
		t.Errorf("start %d", got)
	}
	end, err := adm.ListEndOffsets(ctx, "notes")
	if got := at("end", end, err); got != 100 {
		t.Errorf("end %d", got)
	}
	committed, err := adm.ListCommittedOffsets(ctx, "notes")
	if got := at("committed", committed, err); got != 100 {
		t.Errorf("committed %d", got)
	}
	biggest, err := adm.ListMaxTimestampOffsets(ctx, "notes")
	if got := at("max timestamp", biggest, err); got != 99 {
		t.Errorf("max timestamp at %d", got)
	}
	for millis, want := range map[int64]int64{0: 0, 1000: 0, 1001: 1, 1500: 50, 1990: 99} {
		l, err := adm.ListOffsetsAfterMilli(ctx, millis, "notes")
		if got := at("after", l, err); got != want {
			t.Errorf("after %d ms: offset %d, want %d", millis, got, want)
		}
	}
	deleted, err := adm.DeleteRecords(ctx, kadm.OffsetsFromRecords(kgo.Record{Topic: "notes", Offset: 29}))
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	start, err = adm.ListStartOffsets(ctx, "notes")
	if got := at("start", start, err); got != 30 {
		t.Errorf("start after DeleteRecords is %d, want 30", got)
	}
	got := poll(t, ctx, r.client(t, kgo.ConsumeTopics("notes")), 70)
	if got[0].Offset != 30 {
		t.Errorf("the first record has offset %d, want 30", got[0].Offset)
	}
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	dirs[1].EachPartition(func(p kadm.DescribedLogDirPartition) { size += p.Size })
	if size <= 0 {
		t.Errorf("log directories have %d bytes", size)
	}
	if m, err := adm.BrokerMetadata(ctx); err != nil || len(m.Brokers) != 1 {
		t.Errorf("brokers %+v, %v", m, err)
	}
}
