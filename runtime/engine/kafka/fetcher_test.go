package kafka

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
)

// TestUnpolledSession: a session that nobody polls takes no more memory than its buffer, and keeps nobody waiting; when it
// is polled at last it has everything.
func TestUnpolledSession(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.EnsureTopic(ctx, "in", 2, nil); err != nil {
		t.Fatal(err)
	}
	others := outsider{[]string{address}}
	value := bytes.Repeat([]byte("x"), 100<<10)
	const records = 64
	for range records / 8 {
		for partition := range int32(2) {
			var batch []engine.Record
			for range 8 {
				batch = append(batch, engine.Record{Timestamp: 1, Value: value})
			}
			others.produce(t, "in", partition, "none", batch)
		}
	}
	m, err := k.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}})
	var sessions []engine.Session
	for err == nil && len(sessions) < 2 {
		sessions, err = m.Next(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	read := func(s engine.Session) {
		t.Helper()
		for s.Position() < records {
			if _, err := s.Poll(ctx, 64<<10); err != nil {
				t.Fatalf("partition %d at offset %d: %v", s.Partition().Partition, s.Position(), err)
			}
		}
	}
	read(sessions[0])
	silent := sessions[1].(*session)
	f := silent.m.fetcher
	f.mu.Lock()
	buffered := silent.feed.bytes
	f.mu.Unlock()
	if limit := bufferBytes + 2*fetchPartitionBytes; buffered > limit {
		t.Errorf("%d bytes wait for a session that is not polled, want at most %d", buffered, limit)
	}
	read(silent)
	if silent.Ready() {
		t.Error("everything is read, and the session says that there is more")
	}
}

// TestAnswerTwice: an answer counts once, and not at all after its feed was sent elsewhere.
func TestAnswerTwice(t *testing.T) {
	f := &fetcher{feeds: map[engine.TopicPartition]*feed{}, lost: make(chan struct{}, 1)}
	x := f.add(engine.TopicPartition{Topic: "in"}, 5)
	q := question{x: x, seeks: x.seeks, from: x.next}
	for range 2 {
		f.deliver(q, chunk{next: 9}, 20, nil)
	}
	if x.next != 9 || len(x.chunks) != 1 {
		t.Errorf("%d chunks up to offset %d, want 1 up to 9", len(x.chunks), x.next)
	}
	q = question{x: x, seeks: x.seeks, from: x.next}
	f.seek(x, 9)
	f.deliver(q, chunk{next: 12}, 20, nil)
	if x.next != 9 || len(x.chunks) != 0 {
		t.Errorf("%d chunks up to offset %d after a seek, want none up to 9", len(x.chunks), x.next)
	}
}

// TestTopicHeardOfLate: a broker that does not know a topic yet is no reason to tell the session that there is none, and who asks
// for one that there is not is told so in the end.
func TestTopicHeardOfLate(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	f := newFetcher(k.cluster, k.log)
	defer f.close()
	early, never := f.add(engine.TopicPartition{Topic: "early"}, 0), f.add(engine.TopicPartition{Topic: "never"}, 0)
	heard := func(x *feed) (leader int32, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return x.leader, x.err
	}
	for asked := false; !asked; {
		if err := sleep(t.Context(), firstPause); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		asked = !early.unknown.IsZero()
		f.mu.Unlock()
	}
	if err := k.EnsureTopic(t.Context(), "early", 1, nil); err != nil {
		t.Fatal(err)
	}
	for leader, err := heard(early); leader < 0; leader, err = heard(early) {
		if err == nil {
			err = sleep(t.Context(), firstPause)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	<-never.wake
	if _, err := heard(never); !errors.Is(err, engine.ErrUnknownTopic) {
		t.Errorf("of a topic that does not exist is said %v", err)
	}
}

// TestPositionBehindTheEnd: a position is not taken back while too few brokers answer. They are not asked without end
// whether they have it now, other partitions of the same broker are read meanwhile, and when most of them answer it goes on.
func TestPositionBehindTheEnd(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	p := &past{key: kmsg.Fetch}
	k := openEngine(t, Options{Brokers: []string{address}, Dial: p.dial})
	if err := k.EnsureTopic(t.Context(), "in", 2, nil); err != nil {
		t.Fatal(err)
	}
	f := newFetcher(k.cluster, k.log)
	defer f.close()
	heard, enough := make(chan bool), make(chan bool)
	f.hear = func(ctx context.Context, _ string) bool {
		select {
		case heard <- true:
			return false
		case <-enough:
			return true
		case <-ctx.Done():
			return false
		}
	}
	x := f.add(engine.TopicPartition{Topic: "in"}, 5)
	for range 6 {
		<-heard
	}
	if asked := p.asked.Load(); asked > 3 {
		t.Errorf("it was fetched %d times from where nothing is", asked)
	}
	y := f.add(engine.TopicPartition{Topic: "in", Partition: 1}, 0)
	outsider{[]string{address}}.produce(t, "in", 1, "none", make([]engine.Record, 1))
	<-y.wake
	f.mu.Lock()
	if x.next != 5 || x.err != nil {
		t.Errorf("it reads on at %d, %v; want 5", x.next, x.err)
	}
	f.mu.Unlock()
	enough <- true
	<-x.wake
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.next != 0 || x.err != nil {
		t.Errorf("it reads on at %d, %v; want 0", x.next, x.err)
	}
}
