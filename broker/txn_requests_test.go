package broker_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// txnClient is a transactional producer that speaks given versions of the protocol.
type txnClient struct {
	t     *testing.T
	r     *running
	id    string
	pid   int64
	epoch int16
	next  map[string]int32 // sequence by topic
}

func (c *txnClient) init(version int16) (code int16) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &c.id, 60_000
	resp := raw(c.t, c.r, req, version).(*kmsg.InitProducerIDResponse)
	c.pid, c.epoch, c.next = resp.ProducerID, resp.ProducerEpoch, map[string]int32{}
	return resp.ErrorCode
}

func (c *txnClient) add(version int16, topics ...string) (codes []int16) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = c.id, c.pid, c.epoch
	for _, name := range topics {
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = name, []int32{0}
		req.Topics = append(req.Topics, rt)
	}
	for _, t := range raw(c.t, c.r, req, version).(*kmsg.AddPartitionsToTxnResponse).Topics {
		for _, p := range t.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	return codes
}

func (c *txnClient) produce(version int16, name string) (code int16) {
	var b record.Builder
	b.Reset(nil, record.None)
	b.Append(time.Now().UnixMilli(), nil, []byte("v"), nil, 0)
	b.SetProducer(c.pid, c.epoch, c.next[name], true)
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = &c.id, -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = name
	if info, ok := c.r.Topics().Lookup(name); ok {
		rt.TopicID = info.ID
	}
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = b.Finish()
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	code = rawProduce(c.t, c.r, req, version).Topics[0].Partitions[0].ErrorCode
	if code == 0 {
		c.next[name]++
	}
	return code
}

func (c *txnClient) end(version int16, commit bool) (code int16) {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = c.id, c.pid, c.epoch, commit
	resp := raw(c.t, c.r, req, version).(*kmsg.EndTxnResponse)
	if resp.ErrorCode == 0 && version >= 5 {
		c.pid, c.epoch, c.next = resp.ProducerID, resp.ProducerEpoch, map[string]int32{}
	}
	return resp.ErrorCode
}

func (c *txnClient) addOffsets(version int16, group string) (code int16) {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = c.id, c.pid, c.epoch, group
	return raw(c.t, c.r, req, version).(*kmsg.AddOffsetsToTxnResponse).ErrorCode
}

func (c *txnClient) commitOffset(version int16, group, name string, offset int64) (code int16) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = c.id, c.pid, c.epoch, group
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = name
	if info, ok := c.r.Topics().Lookup(name); ok {
		rt.TopicID = info.ID
	}
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return raw(c.t, c.r, req, version).(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
}

func newTxnClient(t *testing.T, r *running, id string) *txnClient {
	t.Helper()
	for _, name := range []string{"notes", "more"} {
		if _, ok := r.Topics().Lookup(name); ok {
			continue
		}
		if _, err := r.Topics().Create(t.Context(), name, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := &txnClient{t: t, r: r, id: id}
	if code := c.init(5); code != 0 {
		t.Fatalf("init: %v", kerr.ErrorForCode(code))
	}
	return c
}

// fetchOffset is the code and the offset of OffsetFetch.
func fetchOffset(t *testing.T, r *running, version int16, group, name string, stable bool) (code int16, offset int64) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = group, stable
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = name, []int32{0}
	req.Topics = append(req.Topics, rt)
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = name, []int32{0}
	if info, ok := r.Topics().Lookup(name); ok {
		gt.TopicID = info.ID
	}
	rg.Topics = append(rg.Topics, gt)
	req.Groups = append(req.Groups, rg)
	resp := raw(t, r, req, version).(*kmsg.OffsetFetchResponse)
	if version >= 8 {
		p := resp.Groups[0].Topics[0].Partitions[0]
		return p.ErrorCode, p.Offset
	}
	p := resp.Topics[0].Partitions[0]
	return p.ErrorCode, p.Offset
}

// Every version of the requests takes part in a transaction.
func TestTransactionVersions(t *testing.T) {
	r := start(t, broker.Options{})
	for v := int16(0); v <= 13; v++ { // of Produce; the other requests in what they have of it
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			c := newTxnClient(t, r, fmt.Sprint("v", v))
			group := fmt.Sprint("g", v)
			produce, implicit := max(v, 3), v >= 12
			if code := c.init(min(v, 5)); code != 0 {
				t.Fatalf("init: %v", kerr.ErrorForCode(code))
			}
			for n, commit := range []bool{true, false, true} {
				if !implicit {
					for _, code := range c.add(min(v, 3), "notes", "more") {
						if code != 0 {
							t.Fatalf("add: %v", kerr.ErrorForCode(code))
						}
					}
					if code := c.addOffsets(min(v, 4), group); code != 0 {
						t.Fatalf("add offsets: %v", kerr.ErrorForCode(code))
					}
				}
				for _, name := range []string{"notes", "more"} {
					if code := c.produce(produce, name); code != 0 {
						t.Fatalf("produce: %v", kerr.ErrorForCode(code))
					}
				}
				offsetVersion, endVersion := min(v, 4), min(v, 4)
				if implicit {
					offsetVersion, endVersion = v-7, 5
				}
				if code := c.commitOffset(offsetVersion, group, "notes", int64(n+1)); code != 0 {
					t.Fatalf("commit offset: %v", kerr.ErrorForCode(code))
				}
				if code, _ := fetchOffset(t, r, max(7, min(v, 10)), group, "notes", true); code != kerr.UnstableOffsetCommit.Code {
					t.Errorf("stable offset within the transaction: %v", kerr.ErrorForCode(code))
				}
				if code := c.end(endVersion, commit); code != 0 {
					t.Fatalf("end: %v", kerr.ErrorForCode(code))
				}
				want := int64(n + 1)
				if !commit {
					want = int64(n)
				}
				if code, offset := fetchOffset(t, r, max(7, min(v, 10)), group, "notes", true); code != 0 || offset != want {
					t.Errorf("offset %d, %v; want %d", offset, kerr.ErrorForCode(code), want)
				}
			}
		})
	}
}

// lastTimestamp is the largest timestamp in the topic "notes".
func lastTimestamp(t *testing.T, r *running) time.Time {
	t.Helper()
	p, err := r.Topics().Partition("notes", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, ms, err := p.MaxTimestamp()
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(ms)
}

// The aborted transactions are listed in every version of Fetch, and the last stable offset is where it should be.
func TestFetchOfTransactions(t *testing.T) {
	r := start(t, broker.Options{})
	c := newTxnClient(t, r, "t")
	for _, commit := range []bool{true, false} {
		if code := c.produce(12, "notes"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		if code := c.end(5, commit); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
	}
	begun := lastTimestamp(t, r).Add(time.Millisecond)
	for time.Now().Before(begun) {
		runtime.Gosched() // so that the open one has a later timestamp
	}
	if code := c.produce(12, "notes"); code != 0 { // at offset 4, stays open
		t.Fatal(kerr.ErrorForCode(code))
	}
	info, _ := r.Topics().Lookup("notes")
	for version := int16(4); version <= 18; version++ {
		for _, committed := range []bool{false, true} {
			req := fetchRequest("notes", 0, 0)
			req.Topics[0].TopicID = info.ID
			if committed {
				req.IsolationLevel = 1
			}
			p := rawFetch(t, r, req, version).Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.HighWatermark != 5 || p.LastStableOffset != 4 || (p.AbortedTransactions == nil) == committed {
				t.Errorf("v%d, committed %v: %+v", version, committed, p)
			}
			batches := 0
			for b := p.RecordBatches; len(b) > 0; batches++ {
				h, err := record.ParseHeader(b)
				if err != nil {
					t.Fatalf("v%d: %v", version, err)
				}
				b = b[h.Size():]
			}
			if want := map[bool]int{false: 5, true: 4}[committed]; batches != want {
				t.Errorf("v%d, committed %v: %d batches, want %d", version, committed, batches, want)
			}
			if a := p.AbortedTransactions; committed && (len(a) != 1 || a[0].ProducerID != c.pid || a[0].FirstOffset != 2) {
				t.Errorf("v%d: aborted %+v", version, a)
			}
		}
	}
	for _, c := range []struct {
		level           int8
		timestamp, want int64
	}{{0, -1, 5}, {1, -1, 4}, {0, 0, 0}, {1, 0, 0}, {0, begun.UnixMilli(), 4}, {1, begun.UnixMilli(), -1}} {
		level, want := c.level, c.want
		req := kmsg.NewPtrListOffsetsRequest()
		req.IsolationLevel = level
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "notes"
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = c.timestamp
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		if got := raw(t, r, req, 5).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]; got.Offset != want {
			t.Errorf("isolation level %d, timestamp %d: offset %d, want %d", level, c.timestamp, got.Offset, want)
		}
	}
}

// A producer whose transactional id was taken over is told so in the words of its version.
func TestFencedProducerIsTold(t *testing.T) {
	r := start(t, broker.Options{})
	for v := int16(0); v <= 5; v++ {
		c := newTxnClient(t, r, "t")
		old := *c
		c.init(5)
		fenced := func(from int16) int16 {
			if v < from {
				return kerr.InvalidProducerEpoch.Code
			}
			return kerr.ProducerFenced.Code
		}
		for what, got := range map[string][2]int16{
			"add partitions": {old.add(min(v, 3), "notes")[0], fenced(2)},
			"add offsets":    {old.addOffsets(min(v, 4), "g"), fenced(2)},
			"end":            {old.end(v, true), fenced(2)},
			"produce":        {old.produce(v+8, "notes"), kerr.InvalidProducerEpoch.Code},
			"commit offsets": {old.commitOffset(v, "g", "notes", 1), kerr.InvalidProducerEpoch.Code},
		} {
			if got[0] != got[1] {
				t.Errorf("v%d, %s: %v, want %v", v, what, kerr.ErrorForCode(got[0]), kerr.ErrorForCode(got[1]))
			}
		}
	}
}

// What does not belong to a transaction is refused, in the words of the version.
func TestOutsideOfATransaction(t *testing.T) {
	r := start(t, broker.Options{})
	c := newTxnClient(t, r, "t")
	nobody := &txnClient{t: t, r: r, id: "nobody", pid: c.pid}
	nameless := *c
	nameless.id = ""
	for what, got := range map[string][2]int16{
		"produce v10 without adding":         {c.produce(10, "notes"), kerr.InvalidTxnState.Code},
		"produce v11 without adding":         {c.produce(11, "notes"), kerr.TransactionAbortable.Code},
		"offsets v3 without adding":          {c.commitOffset(3, "g", "notes", 1), kerr.InvalidTxnState.Code},
		"offsets v4 without adding":          {c.commitOffset(4, "g", "notes", 1), kerr.TransactionAbortable.Code},
		"offsets of no group":                {c.addOffsets(4, ""), kerr.InvalidGroupID.Code},
		"commit of nothing, v4":              {c.end(4, true), kerr.InvalidTxnState.Code},
		"commit of nothing, v5":              {c.end(5, true), kerr.InvalidTxnState.Code},
		"produce under no transactional id":  {nameless.produce(12, "notes"), kerr.InvalidTxnState.Code},
		"produce under an unknown id":        {nobody.produce(12, "notes"), kerr.InvalidProducerIDMapping.Code},
		"add under an unknown id":            {nobody.add(3, "notes")[0], kerr.InvalidProducerIDMapping.Code},
		"end under an unknown id":            {nobody.end(5, true), kerr.InvalidProducerIDMapping.Code},
		"add a topic that is not there":      {c.add(3, "nothing")[0], kerr.UnknownTopicOrPartition.Code},
		"add one that is, beside it":         {c.add(3, "nothing", "notes")[1], kerr.OperationNotAttempted.Code},
		"add the broker's own":               {c.add(3, "__transaction_state")[0], kerr.InvalidTopicException.Code},
		"produce to a topic that is no more": {c.produce(12, "nothing"), kerr.UnknownTopicOrPartition.Code},
		"produce to the journal":             {c.produce(12, "__transaction_state"), kerr.InvalidTopicException.Code},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got[0]), kerr.ErrorForCode(got[1]))
		}
	}
	for timeout, want := range map[int32]int16{0: kerr.InvalidTransactionTimeout.Code, -1: kerr.InvalidTransactionTimeout.Code, 900_001: kerr.InvalidTransactionTimeout.Code, 900_000: 0} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = ptr("timeouts"), timeout
		if got := raw(t, r, req, 4).(*kmsg.InitProducerIDResponse).ErrorCode; got != want {
			t.Errorf("timeout of %d ms: %v, want %v", timeout, kerr.ErrorForCode(got), kerr.ErrorForCode(want))
		}
	}
}

// apiVersions asks for the versions; the header of the answer never has tags (KIP-511).
func apiVersions(t *testing.T, r *running, version int16) *kmsg.ApiVersionsResponse {
	t.Helper()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1"
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(request(req, version)); err != nil {
		t.Fatal(err)
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(version)
	if err := resp.ReadFrom(readResponse(t, c, 7)); err != nil {
		t.Fatal(err)
	}
	return resp
}

// Supported features with a minimum of 0 are hidden from clients that take them for an error.
func TestFeatures(t *testing.T) {
	r := start(t, broker.Options{})
	for version := int16(0); version <= 4; version++ {
		c := apiVersions(t, r, version)
		finalized, supported := int16(-1), int16(-1)
		for _, f := range c.FinalizedFeatures {
			if f.Name == "transaction.version" {
				finalized = f.MaxVersionLevel
			}
		}
		for _, f := range c.SupportedFeatures {
			if f.Name == "transaction.version" {
				supported = f.MaxVersion
			}
			if f.MinVersion == 0 && version < 4 {
				t.Errorf("v%d: %+v", version, f)
			}
		}
		if wantFinalized, wantSupported := version >= 3, version >= 4; (finalized == 2) != wantFinalized || (supported == 2) != wantSupported || wantFinalized && c.FinalizedFeaturesEpoch < 0 {
			t.Errorf("v%d: finalized %d, supported %d, epoch %d", version, finalized, supported, c.FinalizedFeaturesEpoch)
		}
	}
}

// What an administrator sees of transactions and can do about them.
func TestTransactionsOfAnAdmin(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	c := newTxnClient(t, r, "t")
	newTxnClient(t, r, "idle")
	if code := c.produce(12, "notes"); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	admin := r.admin(t)
	described, err := admin.DescribeTransactions(ctx, "t", "idle", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	if d := described["t"]; d.Err != nil || d.State != "Ongoing" || d.ProducerID != c.pid || d.TimeoutMillis != 60_000 || d.StartTimestamp < 1 || !d.Topics.Lookup("notes", 0) {
		t.Errorf("described %+v", d)
	}
	if d := described["idle"]; d.Err != nil || d.State != "Empty" {
		t.Errorf("described %+v", d)
	}
	if d := described["nobody"]; d.Err != kerr.TransactionalIDNotFound {
		t.Errorf("described %+v", d)
	}
	if all, err := admin.ListTransactions(ctx, nil, nil); err != nil || len(all) != 2 {
		t.Errorf("listed %+v, %v", all, err)
	}
	if open, err := admin.ListTransactions(ctx, nil, []string{"Ongoing"}); err != nil || len(open) != 1 || open["t"].ProducerID != c.pid {
		t.Errorf("listed %+v, %v", open, err)
	}
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrListTransactionsRequest()
		req.StateFilters, req.DurationFilterMillis, req.TransactionalIDPattern = []string{"Ongoing", "Asleep"}, 3_600_000, ptr("i.*")
		resp := raw(t, r, req, version).(*kmsg.ListTransactionsResponse)
		if want := map[int16]int{0: 1}[version]; len(resp.TransactionStates) != want || len(resp.UnknownStateFilters) != 1 {
			t.Errorf("v%d: %+v", version, resp)
		}
	}
	producers := kmsg.NewPtrDescribeProducersRequest()
	pt := kmsg.NewDescribeProducersRequestTopic()
	pt.Topic, pt.Partitions = "notes", []int32{0, 9}
	producers.Topics = append(producers.Topics, pt)
	active := raw(t, r, producers, 0).(*kmsg.DescribeProducersResponse).Topics[0].Partitions
	if a := active[0].ActiveProducers; len(a) != 1 || a[0].ProducerID != c.pid || a[0].LastSequence != 0 || a[0].CurrentTxnStartOffset != 0 || active[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("producers %+v", active)
	}
	mark := func(committed bool) int16 {
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.Committed = c.pid, c.epoch, committed
		mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		mt.Topic, mt.Partitions = "notes", []int32{0}
		m.Topics = append(m.Topics, mt)
		req.Markers = append(req.Markers, m)
		return raw(t, r, req, 1).(*kmsg.WriteTxnMarkersResponse).Markers[0].Topics[0].Partitions[0].ErrorCode
	}
	if code := mark(true); code != kerr.InvalidRequest.Code {
		t.Errorf("an administrator commits: %v", kerr.ErrorForCode(code))
	}
	if code := mark(false); code != 0 {
		t.Errorf("an administrator aborts: %v", kerr.ErrorForCode(code))
	}
	p, err := r.Topics().Partition("notes", 0)
	if err != nil {
		t.Fatal(err)
	}
	if o := p.Offsets(); o.LastStable != o.HighWatermark || o.LogEnd != 2 {
		t.Errorf("after the abort: %+v", o)
	}
}

// Consume, transform, produce with a client in a group: what it aborts is read again, what it commits never.
func TestConsumeTransformProduce(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	if err := r.client(t).ProduceSync(ctx, records("in", 50)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(r.address), kgo.TransactionalID("copy"), kgo.ConsumerGroup("copiers"),
		kgo.ConsumeTopics("in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for round, copied := 0, 0; copied < 50; round++ {
		fetches := s.PollRecords(ctx, 10)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			s.Produce(ctx, &kgo.Record{Topic: "out", Value: rec.Value}, nil)
		})
		commit := kgo.TransactionEndTry(round%3 != 1)
		if done, err := s.End(ctx, commit); err != nil || done != bool(commit) {
			t.Fatalf("round %d: %v, %v", round, done, err)
		} else if done {
			copied += fetches.NumRecords()
		}
	}
	out := r.client(t, kgo.ConsumeTopics("out"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for i, rec := range poll(t, ctx, out, 50) {
		if want := string(records("in", 50)[i].Value); string(rec.Value) != want {
			t.Fatalf("record %d is %q, want %q", i, rec.Value, want)
		}
	}
}
