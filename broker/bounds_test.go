package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

var floodFlag = flag.Int("bounds.requests", 2000, "requests of each kind that a hostile client sends")

// smallBounds are met early by those who bring nothing but fresh names.
var smallBounds = broker.Bounds{Partitions: 60, ProducerIDs: 300, Groups: 200, GroupBytes: 1 << 20, TransactionalIDs: 150, TransactionPartitions: 400}

// byName keeps clients to versions of requests that name topics by name.
var byName = kgo.MaxVersions(kversion.V3_9_0())

// flood is a request that a hostile client sends again and again, with a fresh
// name each time; some are taken, at most so many, and the rest is refused.
type flood struct {
	name    string
	most    int         // that may be taken
	refused *kerr.Error // what the others are told; nil: all are taken
	request func(i int, owners []owner) kmsg.Request
	code    func(kmsg.Response) int16
}

// owner is a producer with a transactional id.
type owner struct {
	id string
	txn.Producer
}

const unlimited = 1 << 30

func floods() []flood {
	return []flood{
		{"groups that somebody wants to join", 200, kerr.PolicyViolation, func(i int, _ []owner) kmsg.Request {
			return joinRequest(fmt.Sprint("join-", i), 0)
		}, joinCode},
		{"members that have much to say", 200, kerr.PolicyViolation, func(i int, _ []owner) kmsg.Request {
			req := joinRequest(fmt.Sprint("talk-", i), 20_000)
			req.InstanceID = ptr("static") // is a member at once
			return req
		}, joinCode},
		{"members of one group", 1000, kerr.GroupMaxSizeReached, func(int, []owner) kmsg.Request { return joinRequest("one", 0) }, joinCode},
		{"groups of the consumer protocol", 200, kerr.PolicyViolation, heartbeatRequest, func(r kmsg.Response) int16 {
			return r.(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode
		}},
		{"groups with an offset", 200, kerr.PolicyViolation, func(i int, _ []owner) kmsg.Request {
			return commitRequest(fmt.Sprint("commit-", i), strings.Repeat("m", 4000))
		}, commitCode},
		{"transactional ids", 150, kerr.PolicyViolation, func(i int, _ []owner) kmsg.Request {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = ptr(fmt.Sprint("txn-", i)), 60_000, -1, -1
			return req
		}, initCode},
		{"producer ids", unlimited, nil, func(int, []owner) kmsg.Request {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.ProducerID, req.ProducerEpoch = -1, -1
			return req
		}, initCode},
		{"partitions in transactions that do not exist", 0, kerr.UnknownTopicOrPartition, func(i int, owners []owner) kmsg.Request {
			return addRequest(owners[0], fmt.Sprint("nowhere-", i), 0)
		}, addCode},
		{"partitions in transactions", unlimited, kerr.PolicyViolation, func(i int, owners []owner) kmsg.Request {
			return addRequest(owners[i/20%len(owners)], "wide", int32(i%20))
		}, addCode},
		{"topics", 40, kerr.PolicyViolation, func(i int, _ []owner) kmsg.Request {
			req := kmsg.NewPtrCreateTopicsRequest()
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint("topic-", i), 1, 1
			req.Topics = append(req.Topics, t)
			return req
		}, func(r kmsg.Response) int16 { return r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode }},
		{"topics that are created by asking for them", 40, kerr.PolicyViolation, func(i int, _ []owner) kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			req.AllowAutoTopicCreation = true
			req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: ptr(fmt.Sprint("auto-", i))})
			return req
		}, func(r kmsg.Response) int16 { return r.(*kmsg.MetadataResponse).Topics[0].ErrorCode }},
		{"producers of one partition", unlimited, nil, produceRequest, func(r kmsg.Response) int16 {
			return r.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
		}},
	}
}

func joinRequest(group string, metadataBytes int) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType = group, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 1_800_000, 1_800_000
	req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range", Metadata: make([]byte, metadataBytes)})
	return req
}

func joinCode(r kmsg.Response) int16 {
	code := r.(*kmsg.JoinGroupResponse).ErrorCode
	if code == kerr.MemberIDRequired.Code {
		return 0 // it has a place
	}
	return code
}

func heartbeatRequest(i int, _ []owner) kmsg.Request {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = fmt.Sprint("modern-", i), fmt.Sprint("member-", i), 1_800_000
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for n := range 100 {
		req.SubscribedTopicNames = append(req.SubscribedTopicNames, fmt.Sprintf("%s-%d", strings.Repeat("t", 200), n))
	}
	return req
}

func commitRequest(group, metadata string) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = 1, &metadata
	req.Topics = append(req.Topics, kmsg.OffsetCommitRequestTopic{Topic: "wide", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}})
	return req
}

func commitCode(r kmsg.Response) int16 {
	return r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
}

func initCode(r kmsg.Response) int16 { return r.(*kmsg.InitProducerIDResponse).ErrorCode }

func addRequest(o owner, topic string, partition int32) kmsg.Request {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = o.id, o.ID, o.Epoch
	req.Topics = append(req.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: topic, Partitions: []int32{partition}})
	return req
}

func addCode(r kmsg.Response) int16 {
	return r.(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode
}

func produceRequest(i int, _ []owner) kmsg.Request {
	var b record.Builder
	b.Reset(nil, record.None)
	b.SetProducer(int64(1_000_000+i), 0, 0, false)
	b.Append(time.Now().UnixMilli(), nil, []byte("v"), nil, 0)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = 1, 10_000
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = b.Finish()
	req.Topics = append(req.Topics, kmsg.ProduceRequestTopic{Topic: "wide", Partitions: []kmsg.ProduceRequestTopicPartition{rp}})
	return req
}

// send has every request of a flood answered; it returns how many were taken.
func (f *flood) send(t *testing.T, r *running, owners []owner) (taken int) {
	t.Helper()
	const senders = 8
	var count, next atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		c := r.client(t, byName)
		wg.Go(func() {
			defer c.Close()
			for {
				i := int(next.Add(1)) - 1
				if i >= *floodFlag {
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				resp, err := c.Broker(1).Request(ctx, f.request(i, owners))
				cancel()
				if err != nil {
					t.Errorf("%s: %v", f.name, err)
					return
				}
				switch err := kerr.ErrorForCode(f.code(resp)); {
				case err == nil:
					count.Add(1)
				case f.refused == nil || !errors.Is(err, f.refused):
					t.Errorf("%s, request %d: %v, want %v", f.name, i, err, f.refused)
					return
				}
			}
		})
	}
	wg.Wait()
	return int(count.Load())
}

// TestFloodsOfFreshNames: whoever brings nothing but new groups, members,
// transactions, producers or topics is refused at some point; what the broker
// keeps of it is bounded, and those who were there before go on.
func TestFloodsOfFreshNames(t *testing.T) {
	for _, f := range floods() {
		t.Run(f.name, func(t *testing.T) {
			r := start(t, broker.Options{Bounds: smallBounds})
			_, err := r.Topics().Create(t.Context(), "wide", 20, nil)
			if err != nil {
				t.Fatal(err)
			}
			healthy := r.client(t, byName)
			if err := goOn(t, r, healthy); err != nil {
				t.Fatal(err)
			}
			var owners []owner
			for i := range 100 {
				o := owner{id: fmt.Sprint("owner-", i)}
				if o.Producer, err = r.Transactions().InitProducer(t.Context(), o.id, txn.NoProducer, time.Minute); err != nil {
					t.Fatal(err)
				}
				owners = append(owners, o)
			}
			before := heapBytes()
			taken := f.send(t, r, owners)
			if refused := *floodFlag - taken; taken > f.most || f.refused != nil && refused == 0 {
				t.Errorf("%d of %d were taken, at most %d may be", taken, *floodFlag, f.most)
			}
			if err := goOn(t, r, healthy); err != nil {
				t.Errorf("who was there before: %v", err)
			}
			const most = 8 << 20
			grown := heapBytes() - before
			if grown > most {
				t.Errorf("the heap has grown by %d KiB, want at most %d", grown>>10, most>>10)
			}
			t.Logf("%d of %d were taken, the heap has grown by %d KiB", taken, *floodFlag, grown>>10)
		})
	}
}

// goOn does what a client does that was there before.
func goOn(t *testing.T, r *running, c *kgo.Client) error {
	t.Helper()
	resp, err := c.Broker(1).Request(within(t), commitRequest("healthy", "m"))
	if err == nil {
		err = kerr.ErrorForCode(commitCode(resp))
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if _, err := r.Transactions().InitProducer(t.Context(), "healthy", txn.NoProducer, time.Minute); err != nil {
		return err
	}
	return c.ProduceSync(within(t), records("wide", 10)...).FirstErr()
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
