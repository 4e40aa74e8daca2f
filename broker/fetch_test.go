package broker_test

import (
	"net"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// raw sends one request over a connection of its own and decodes the answer.
func raw(t *testing.T, r *running, req kmsg.Request, version int16) kmsg.Response {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer c.Close()
	if _, err := c.Write(request(req, version)); err != nil {
		t.Error(err)
		return nil
	}
	body := readResponse(t, c, 7)
	resp := req.ResponseKind()
	resp.SetVersion(version)
	if resp.IsFlexible() {
		body = body[1:] // no tags in the header
	}
	if err := resp.ReadFrom(body); err != nil {
		t.Errorf("%T v%d: %v", resp, version, err)
	}
	return resp
}

func rawFetch(t *testing.T, r *running, req *kmsg.FetchRequest, version int16) *kmsg.FetchResponse {
	resp, _ := raw(t, r, req, version).(*kmsg.FetchResponse)
	return resp
}

func rawProduce(t *testing.T, r *running, req *kmsg.ProduceRequest, version int16) *kmsg.ProduceResponse {
	resp, _ := raw(t, r, req, version).(*kmsg.ProduceResponse)
	return resp
}

func fetchRequest(name string, offset int64, wait time.Duration) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), 1, 1<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = name
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// Every version of the response is what a client's decoder expects, with
// records from one byte's length to three, and without.
func TestFetchVersions(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	sizes := []int{10, 500, 30_000, 600_000}
	ends := []int64{0}
	client := r.client(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i, size := range sizes {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "notes", Value: make([]byte, size)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int64(i+1))
	}
	info, _ := r.Topics().Lookup("notes")
	for version := int16(4); version <= 18; version++ {
		for i, offset := range ends {
			req := fetchRequest("notes", offset, 0)
			req.Topics[0].TopicID = info.ID
			req.IsolationLevel = int8(version % 2)
			req.Topics[0].Partitions[0].PartitionMaxBytes = 1
			resp := rawFetch(t, r, req, version)
			p := resp.Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.HighWatermark != 4 || p.LastStableOffset != 4 || (p.LogStartOffset != 0) != (version < 5) {
				t.Fatalf("v%d offset %d: %+v", version, offset, p)
			}
			if i == len(sizes) {
				if len(p.RecordBatches) != 0 {
					t.Errorf("v%d: %d bytes at the end of the log", version, len(p.RecordBatches))
				}
				continue
			}
			h, err := record.ParseHeader(p.RecordBatches)
			if err != nil || h.BaseOffset != offset || h.Size() != len(p.RecordBatches) || h.Size() < sizes[i] {
				t.Errorf("v%d offset %d: %+v in %d bytes, %v", version, offset, h, len(p.RecordBatches), err)
			}
		}
	}
	for offset, want := range map[int64]*kerr.Error{-1: kerr.OffsetOutOfRange, 5: kerr.OffsetOutOfRange} {
		p := rawFetch(t, r, fetchRequest("notes", offset, time.Minute), 11).Topics[0].Partitions[0]
		if p.ErrorCode != want.Code || p.HighWatermark != 4 {
			t.Errorf("offset %d: error %d with high watermark %d", offset, p.ErrorCode, p.HighWatermark)
		}
	}
	req := fetchRequest("notes", 0, time.Minute)
	req.Topics[0].Partitions[0].CurrentLeaderEpoch = 3
	if got := rawFetch(t, r, req, 12).Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownLeaderEpoch.Code {
		t.Errorf("leader epoch 3: error %d", got)
	}
	if got := rawFetch(t, r, fetchRequest("missing", 0, time.Minute), 12).Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("missing topic: error %d", got)
	}
	if got := rawFetch(t, r, fetchRequest("missing", 0, time.Minute), 13).Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicID.Code {
		t.Errorf("missing topic id: error %d", got)
	}
	req = fetchRequest("notes", 0, time.Minute)
	req.SessionID, req.SessionEpoch = 5, 1
	if got := rawFetch(t, r, req, 12).ErrorCode; got != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("session that never was: error %d", got)
	}
}

// A fetch that waits for data is answered when it is appended, not when its time is over.
func TestFetchWakesOnAppend(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	if _, err := r.admin(t).CreateTopic(ctx, 1, 1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan *kmsg.FetchResponse, 1)
	go func() { answered <- rawFetch(t, r, fetchRequest("notes", 0, 5*time.Minute), 12) }()
	if err := r.client(t).ProduceSync(ctx, records("notes", 1)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	select {
	case resp := <-answered:
		if len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Error("the answer has no records")
		}
	case <-ctx.Done():
		t.Error("the fetch still waits")
	}
}

// A broker that stops answers who waits, and does not wait for the longest of them.
func TestCloseAnswersWaitingFetch(t *testing.T) {
	r := start(t, broker.Options{})
	if _, err := r.admin(t).CreateTopic(within(t), 1, 1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The answer to the first request shows that the connection is being served.
	if _, err := c.Write(append(request(kmsg.NewPtrMetadataRequest(), 1), request(fetchRequest("notes", 0, 5*time.Minute), 11)...)); err != nil {
		t.Fatal(err)
	}
	readResponse(t, c, 7)
	r.stop(t)
}

// A batch that a client sends again because it has lost the answer is there once.
func TestIdempotentRetry(t *testing.T) {
	r := start(t, broker.Options{})
	ctx := within(t)
	if _, err := r.admin(t).CreateTopic(ctx, 1, 1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	send := func(epoch int16, sequence int32, count int) kmsg.ProduceResponseTopicPartition {
		t.Helper()
		var b record.Builder
		b.Reset(nil, record.None)
		b.SetProducer(5, epoch, sequence, false)
		for range count {
			b.Append(time.Now().UnixMilli(), nil, []byte("v"), nil, 0)
		}
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 10_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = "notes"
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Records = b.Finish()
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		return rawProduce(t, r, req, 9).Topics[0].Partitions[0]
	}
	for _, step := range []struct {
		epoch    int16
		sequence int32
		count    int
		offset   int64
		err      *kerr.Error
	}{
		{0, 3, 1, -1, kerr.OutOfOrderSequenceNumber}, // into an empty log
		{0, 0, 3, 0, nil},
		{0, 3, 2, 3, nil},
		{0, 0, 3, 0, nil}, // again
		{0, 3, 2, 3, nil}, // again
		{0, 6, 1, -1, kerr.OutOfOrderSequenceNumber},
		{0, 5, 1, 5, nil},
		{0, 4, 1, -1, kerr.DuplicateSequenceNumber},
		{1, 5, 1, -1, kerr.OutOfOrderSequenceNumber},
		{1, 0, 1, 6, nil},
		{0, 6, 1, -1, kerr.InvalidProducerEpoch},
	} {
		got := send(step.epoch, step.sequence, step.count)
		want := int16(0)
		if step.err != nil {
			want = step.err.Code
		}
		if got.ErrorCode != want || got.BaseOffset != step.offset {
			t.Errorf("epoch %d sequence %d: error %d, offset %d; want %d, %d", step.epoch, step.sequence, got.ErrorCode, got.BaseOffset, want, step.offset)
		}
	}
}
