package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// past is a network to a broker that, while stale is set, answers requests of one kind as it did the first time: as a node
// does that was cut off from the others and takes itself for what it was.
type past struct {
	key   kmsg.Key
	also  func(request []byte) bool // nil: all of them
	stale atomic.Bool
	asked atomic.Int64 // requests of that kind

	mu    sync.Mutex
	first []byte // the answer
}

type pastConn struct {
	net.Conn
	p      *past
	unread bytes.Buffer // of the client library's one reader

	mu    sync.Mutex
	asked map[string]bool // correlation ids of requests of the kind; true: to be answered as the first
}

func (p *past) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &pastConn{Conn: conn, p: p, asked: map[string]bool{}}, nil
}

func (c *pastConn) Write(b []byte) (int, error) {
	if len(b) >= 12 && kmsg.Key(binary.BigEndian.Uint16(b[4:])) == c.p.key && (c.p.also == nil || c.p.also(b)) {
		c.mu.Lock()
		c.asked[string(b[8:12])] = c.p.stale.Load()
		c.mu.Unlock()
		c.p.asked.Add(1)
	}
	return c.Conn.Write(b)
}

func (c *pastConn) Read(b []byte) (int, error) {
	if c.unread.Len() == 0 {
		answer := make([]byte, 4)
		if _, err := io.ReadFull(c.Conn, answer); err != nil {
			return 0, err
		}
		answer = append(answer, make([]byte, binary.BigEndian.Uint32(answer))...)
		if _, err := io.ReadFull(c.Conn, answer[4:]); err != nil {
			return 0, err
		}
		c.unread.Write(c.told(answer))
	}
	return c.unread.Read(b)
}

// told is what the client is told instead of an answer: the same, or the first of its kind.
func (c *pastConn) told(answer []byte) []byte {
	id := string(answer[4:8])
	c.mu.Lock()
	stale, asked := c.asked[id]
	delete(c.asked, id)
	c.mu.Unlock()
	if !asked {
		return answer
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.p.first == nil {
		c.p.first = slices.Clone(answer)
	}
	if stale {
		answer = slices.Clone(c.p.first)
		copy(answer[4:8], id)
	}
	return answer
}

// wantsStable reports that a request for offsets waits for what is pending, as those do that sessions begin with.
func wantsStable(request []byte) bool { return request[len(request)-2] == 1 } // before the tags

// TestFormerCoordinator: a session that begins where a former coordinator of the group said, which does not know of later
// commits, does not do again what these have done.
func TestFormerCoordinator(t *testing.T) {
	for name, back := range map[string]func(*testing.T, *kafka, *past, *member, *session) *session{
		"at the start": func(t *testing.T, k *kafka, p *past, m *member, _ *session) *session {
			if err := m.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.stale.Store(true)
			_, s := openSession(t, k, engine.ExactlyOnce)
			return s
		},
		"after an abort": func(t *testing.T, _ *kafka, p *past, _ *member, s *session) *session {
			p.stale.Store(true)
			if err := s.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			k, p := withPast(t)
			if err := k.SetOffsets(ctx, "g", map[engine.TopicPartition]int64{{Topic: "in"}: 3}); err != nil {
				t.Fatal(err)
			}
			m, s := openSession(t, k, engine.ExactlyOnce)
			if err := copyOne(ctx, s, 8); err != nil {
				t.Fatal(err)
			}
			s = back(t, k, p, m, s)
			if s.Position() != 3 {
				t.Fatalf("the former coordinator makes it begin at %d, want 3", s.Position())
			}
			if err := copyOne(ctx, s, 4); !errors.Is(err, engine.ErrAborted) {
				t.Errorf("a commit of what is committed already: %v", err)
			}
			p.stale.Store(false)
			if err := s.Abort(ctx); err != nil {
				t.Fatal(err)
			}
			if s.Position() != 8 {
				t.Errorf("it goes on at %d, want 8", s.Position())
			}
			if err := copyOne(ctx, s, 9); err != nil {
				t.Error(err)
			}
			n := 0
			if _, err := k.ReadAll(ctx, "out", nil, func(int32, engine.Record) error { n++; return nil }); err != nil || n != 2 {
				t.Errorf("%d outputs are visible, %v; want 2", n, err)
			}
		})
	}
}

// TestFormerCoordinatorOfANewGroup: one that does not know that the group has committed anything does not make it begin anew.
func TestFormerCoordinatorOfANewGroup(t *testing.T) {
	ctx := t.Context()
	k, p := withPast(t)
	m, s := openSession(t, k, engine.ExactlyOnce)
	if err := copyOne(ctx, s, 8); err != nil {
		t.Fatal(err)
	}
	if err := m.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	p.stale.Store(true)
	asked, opened := p.asked.Load(), make(chan struct{})
	var mending sync.WaitGroup
	mending.Go(func() {
		for p.asked.Load() < asked+4 {
			select {
			case <-opened: // too early
				return
			case <-time.After(firstPause):
			}
		}
		p.stale.Store(false)
	})
	_, s = openSession(t, k, engine.ExactlyOnce)
	close(opened)
	mending.Wait()
	if s.Position() != 8 {
		t.Errorf("it goes on at %d, want 8", s.Position())
	}
}

// withPast opens an engine, and makes its topics "in" and "out"; its broker's past is what groups have committed.
func withPast(t *testing.T) (*kafka, *past) {
	t.Helper()
	_, address := brokertest.Serve(t, broker.Options{})
	p := &past{key: kmsg.OffsetFetch, also: wantsStable}
	k := openEngine(t, Options{Brokers: []string{address}, Dial: p.dial})
	for _, topic := range []string{"in", "out"} {
		if err := k.EnsureTopic(t.Context(), topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	return k, p
}

// copyOne commits an output and an offset.
func copyOne(ctx context.Context, s *session, next int64) error {
	err := s.Begin([]string{"out"})
	if err == nil {
		err = s.Produce(ctx, &outputList{abi.Output{Timestamp: 1, Value: []byte("output")}})
	}
	if err == nil {
		err = s.Commit(ctx, next)
	}
	return err
}

// TestFormerLeader: a node that was the leader of a partition and does not know yet that it is none any more does not have
// what its successor took. That it says that its log ends before what was read of that one is no reason to go back.
func TestFormerLeader(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	ctx := t.Context()
	p := &past{key: kmsg.Fetch}
	k := openEngine(t, Options{Brokers: []string{address}, Dial: p.dial})
	in := engine.TopicPartition{Topic: "in"}
	if err := k.EnsureTopic(ctx, "in", 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.cluster.leader(ctx, in); err != nil {
		t.Fatal(err)
	}
	k.cluster.mu.Lock()
	k.cluster.topics["in"].leaders[0].epoch += 2 // its successor's, of which only others tell
	k.cluster.mu.Unlock()
	f := newFetcher(k.cluster, k.log)
	defer f.close()
	x := f.add(in, 5)
	for p.asked.Load() < 4 {
		if err := sleep(ctx, firstPause); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.next != 5 || x.err != nil {
		t.Errorf("it reads on at %d, %v; want 5", x.next, x.err)
	}
}

// TestUpdateAfterAFormerLeader: an update that was made of what a former leader has of the topic, which is not all, is made again.
func TestUpdateAfterAFormerLeader(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	ctx := t.Context()
	p := &past{key: kmsg.ListOffsets}
	k := openEngine(t, Options{Brokers: []string{address}, Dial: p.dial})
	if err := k.EnsureTopic(ctx, "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	calls := 0
	for range 3 {
		err := k.Update(ctx, "t", func(ctx context.Context) ([]engine.Record, error) {
			calls++
			p.stale.Store(calls == 3)
			n := byte(0)
			_, err := k.ReadAll(ctx, "t", nil, func(_ int32, r engine.Record) error { n = r.Value[0]; return nil })
			return []engine.Record{{Timestamp: 1, Value: []byte{n + 1}}}, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	if _, err := k.ReadAll(ctx, "t", nil, func(_ int32, r engine.Record) error { got = append(got, r.Value...); return nil }); err != nil {
		t.Fatal(err)
	}
	if calls != 4 || !bytes.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("after %d calls the topic holds %v, want 4 calls and 1, 2, 3", calls, got)
	}
}

// TestOldNewsOfLeaders: what is known of a topic is not forgotten for what a broker says that is late to hear of it; of a topic
// that was made anew all is new.
func TestOldNewsOfLeaders(t *testing.T) {
	c := newCluster(nil)
	in := func(partition int32) engine.TopicPartition {
		return engine.TopicPartition{Topic: "in", Partition: partition}
	}
	say := func(id byte, leaders ...leadership) topicInfo {
		t.Helper()
		answer := kmsg.NewPtrMetadataResponse()
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.TopicID = kmsg.StringPtr("in"), topicID{id}
		for i, l := range leaders {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch = int32(i), l.node, l.epoch
			topic.Partitions = append(topic.Partitions, p)
		}
		answer.Topics = append(answer.Topics, topic)
		found, err := c.learn(answer)
		if err != nil {
			t.Fatal(err)
		}
		return found["in"]
	}
	for i, step := range []struct {
		id        byte
		say, want []leadership
	}{
		{1, []leadership{{1, 4}, {2, 7}}, []leadership{{1, 4}, {2, 7}}},
		{1, []leadership{{2, 5}, {3, 6}}, []leadership{{2, 5}, {2, 7}}},
		{1, []leadership{{1, 4}}, []leadership{{2, 5}, {2, 7}}},
		{1, []leadership{{-1, 6}, {1, 8}, {3, 0}}, []leadership{{-1, 6}, {1, 8}, {3, 0}}},
		{1, []leadership{{2, 5}, {2, -1}, {3, 0}}, []leadership{{-1, 6}, {2, -1}, {3, 0}}},
		{2, []leadership{{3, 0}}, []leadership{{3, 0}}},
	} {
		if got := say(step.id, step.say...); !slices.Equal(got.leaders, step.want) {
			t.Errorf("step %d: leaders are %v, want %v", i, got.leaders, step.want)
		}
		c.moved("in") // does not make it forget
	}
	if c.epoch(in(0)) != 0 || c.epoch(in(1)) != -1 {
		t.Errorf("epochs are %d, %d; want 0, -1", c.epoch(in(0)), c.epoch(in(1)))
	}
}

// TestReadAllWhileRecordsAreRemoved: what is removed from the log while it is read is passed over.
func TestReadAllWhileRecordsAreRemoved(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	ctx := t.Context()
	k := openEngine(t, Options{Brokers: []string{address}})
	if err := k.EnsureTopic(ctx, "in", 1, nil); err != nil {
		t.Fatal(err)
	}
	const records = 6
	value := bytes.Repeat([]byte("x"), 600<<10) // one for each answer
	for range records {
		outsider{[]string{address}}.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: value}})
	}
	admin := kadm.NewClient(newClient(t, []string{address}))
	var got []int64
	_, err := k.ReadAll(ctx, "in", nil, func(_ int32, r engine.Record) error {
		if got = append(got, r.Offset); len(got) > 1 {
			return nil
		}
		before := kadm.Offsets{}
		before.AddOffset("in", 0, 4, -1)
		_, err := admin.DeleteRecords(ctx, before)
		return err
	})
	if err != nil || !slices.Equal(got, []int64{0, 4, 5}) {
		t.Errorf("it reads the records at %v, %v; want 0, 4, 5", got, err)
	}
}
