package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetcher fetches in sessions, in one version.
type fetcher struct {
	*groupService
	version int16
}

func (f *fetcher) append(partition int32, bytes int) {
	f.Helper()
	var b record.Builder
	b.Reset(nil, record.None)
	b.Append(time.Now().UnixMilli(), nil, make([]byte, bytes), nil, 0)
	p, err := f.session.service.Topics.Partition("t", partition)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := p.Append(f.Context(), b.Finish(), topic.FromClient); err != nil {
		f.Fatal(err)
	}
}

// fetch asks with "partition@offset" for each partition, "-partition" to forget one. The answer is
// the error code, or the partitions with the size of their records.
func (f *fetcher) fetch(id, epoch int32, partitions ...string) (session int32, answer string) {
	f.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.SessionID, req.SessionEpoch = 1, 1000, id, epoch
	rt, gone := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestForgottenTopic()
	rt.Topic, rt.TopicID, gone.Topic, gone.TopicID = "t", f.topic.ID, "t", f.topic.ID
	for _, p := range partitions {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.PartitionMaxBytes = 1000
		if n, _ := fmt.Sscanf(p, "%d@%d", &rp.Partition, &rp.FetchOffset); n < 2 {
			gone.Partitions = append(gone.Partitions, -rp.Partition)
			continue
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	if rt.Partitions != nil {
		req.Topics = append(req.Topics, rt)
	}
	if gone.Partitions != nil {
		req.ForgottenTopics = append(req.ForgottenTopics, gone)
	}
	resp := ask[*kmsg.FetchResponse](f.groupService, f.version, req)
	if resp.ErrorCode != 0 {
		return resp.SessionID, kerr.ErrorForCode(resp.ErrorCode).(*kerr.Error).Message
	}
	var out []string
	for _, rt := range resp.Topics {
		if f.version >= 13 && rt.TopicID != f.topic.ID || f.version < 13 && rt.Topic != "t" {
			f.Errorf("topic %q %x", rt.Topic, rt.TopicID)
		}
		for _, p := range rt.Partitions {
			if p.ErrorCode != 0 {
				out = append(out, fmt.Sprintf("%d:%s", p.Partition, kerr.ErrorForCode(p.ErrorCode).(*kerr.Error).Message))
			} else {
				out = append(out, fmt.Sprintf("%d:%d", p.Partition, len(p.RecordBatches)))
			}
		}
	}
	return resp.SessionID, strings.Join(out, " ")
}

func (f *fetcher) want(what, got, want string) {
	f.Helper()
	if got != want {
		f.Errorf("v%d, %s: %q, want %q", f.version, what, got, want)
	}
}

func TestFetchSession(t *testing.T) {
	for _, version := range []int16{7, 11, 12, 13, 18} {
		f := &fetcher{newGroupService(t), version}
		f.append(0, 100)
		size := record.HeaderBytes + 109
		id, got := f.fetch(0, 0, "0@0", "1@0")
		f.want("full fetch", got, fmt.Sprintf("0:%d 1:0", size))
		if id <= 0 {
			t.Fatalf("v%d: session %d", version, id)
		}
		_, got = f.fetch(id, 1, "0@1")
		f.want("nothing new", got, "")
		f.append(1, 100)
		_, got = f.fetch(id, 2)
		f.want("news of one", got, fmt.Sprintf("1:%d", size))
		_, got = f.fetch(id, 2)
		f.want("the same epoch again", got, kerr.InvalidFetchSessionEpoch.Message)
		_, got = f.fetch(id, 3, "1@1", "0@7")
		f.want("out of range", got, "0:"+kerr.OffsetOutOfRange.Message)
		_, got = f.fetch(id, 4, "0@1")
		f.want("told anew after an error", got, "0:0")
		_, got = f.fetch(id+1, 5)
		f.want("unknown session", got, kerr.FetchSessionIDNotFound.Message)
		f.append(0, 100)
		_, got = f.fetch(id, 5, "-0")
		f.want("forgotten partition", got, "")
		_, got = f.fetch(id, 6, "9@0")
		f.want("unknown partition", got, "9:"+kerr.UnknownTopicOrPartition.Message)
		if last, got := f.fetch(id, 7, "-1", "-9"); last != 0 || got != "" {
			t.Errorf("v%d: empty session %d answers %q", version, last, got)
		}
		_, got = f.fetch(id, 8, "0@0")
		f.want("ended session", got, kerr.FetchSessionIDNotFound.Message)
		limits := &f.session.service.fetchSessions
		if s, p := limits.sessions.Load(), limits.partitions.Load(); s != 0 || p != 0 {
			t.Errorf("v%d: %d sessions with %d partitions are left", version, s, p)
		}
	}
}

// What does not fit in one answer has its turn in the next.
func TestFetchSessionIsFair(t *testing.T) {
	f := &fetcher{newGroupService(t), 12}
	for range 6 {
		f.append(0, 1100)
		f.append(1, 1100)
	}
	id, _ := f.fetch(0, 0, "0@0", "1@0")
	var turns []byte
	next := map[byte]int{'0': 1, '1': 0}
	for epoch := int32(1); epoch <= 4; epoch++ {
		_, got := f.fetch(id, epoch, fmt.Sprintf("0@%d", next['0']), fmt.Sprintf("1@%d", next['1']))
		for p := range strings.FieldsSeq(got) {
			if !strings.HasSuffix(p, ":0") {
				turns = append(turns, p[0])
				next[p[0]]++
			}
		}
	}
	if !slices.Equal(turns, []byte("1010")) {
		t.Errorf("records of partitions %s", turns)
	}
}

func TestFetchSessionLimits(t *testing.T) {
	f := &fetcher{newGroupService(t), 12}
	f.append(0, 10)
	var first int32
	for i := range maxFetchSessionsPerClient + 1 {
		id, got := f.fetch(0, 0, "0@0")
		if (id == 0) != (i == maxFetchSessionsPerClient) || got == "" {
			t.Errorf("session %d of a connection: id %d, %q", i, id, got)
		}
		if first == 0 {
			first = id
		}
	}
	if id, _ := f.fetch(first, 0, "0@0"); id == 0 || id == first {
		t.Errorf("a new session in the place of %d: %d", first, id)
	}
	limits := &f.session.service.fetchSessions
	limits.sessions.Add(maxFetchSessions)
	f.session.Close()
	if id, got := f.fetch(0, 0, "0@0"); id != 0 || got == "" {
		t.Errorf("with all sessions taken: id %d, %q", id, got)
	}
	limits.sessions.Store(0)
	limits.partitions.Add(maxFetchSessionPartitions)
	if id, got := f.fetch(0, 0, "0@0"); id != 0 || got == "" || len(f.session.client.sessions.byID) != 0 {
		t.Errorf("with too many partitions: id %d, %q", id, got)
	}
	if n := limits.partitions.Load(); n != maxFetchSessionPartitions {
		t.Errorf("%d partitions are counted", n)
	}
}
