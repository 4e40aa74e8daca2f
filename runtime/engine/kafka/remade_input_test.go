package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
)

// remake deletes a topic and makes it again, as an operator does.
func (c outsider) remake(t testing.TB, topic string, partitions int) {
	t.Helper()
	client := newClient(t, c.brokers)
	admin := kadm.NewClient(client)
	_, err := admin.DeleteTopic(t.Context(), topic)
	var p pauses
	for err == nil {
		keep := "-1"
		if _, err = admin.CreateTopic(t.Context(), int32(partitions), -1, map[string]*string{"retention.ms": &keep}, topic); err == nil {
			break
		}
		if errors.Is(err, kerr.TopicAlreadyExists) { // it takes a while to go
			err = p.wait(t.Context())
		}
	}
	for known := false; err == nil && !known; {
		_, no, _ := newCluster(client).poll(t.Context(), topic, partitions)
		if known = no == 0; !known {
			err = p.wait(t.Context())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestInputMadeAnew: an input that is deleted and made again under a session is read from its beginning, whatever the
// session had read and committed of the old one, and however many records the new one has by then.
func TestInputMadeAnew(t *testing.T) {
	eachInputMadeAnew(t, func(t *testing.T) []string {
		_, address := brokertest.Serve(t, broker.Options{})
		return []string{address}
	})
}

// TestKafkaClusterInputMadeAnew is TestInputMadeAnew over three nodes of Apache Kafka, which hear of it one after the other.
func TestKafkaClusterInputMadeAnew(t *testing.T) {
	brokers := clusterBrokers(t)
	eachInputMadeAnew(t, func(t *testing.T) []string {
		t.Cleanup(func() { empty(t, brokers) })
		return brokers
	})
}

func eachInputMadeAnew(t *testing.T, open func(t *testing.T) (brokers []string)) {
	for name, delivery := range deliveries {
		for _, c := range []madeAnew{{"fewer records", 4, false}, {"more records", 80, false}, {"a late commit", 4, true}} {
			t.Run(name+"/"+c.name, func(t *testing.T) { c.run(t, open(t), delivery) })
		}
	}
}

type madeAnew struct {
	name  string
	again int64 // records of the new topic; the old one has 60
	late  bool  // a commit of the old topic comes when there is the new one
}

func (c madeAnew) run(t *testing.T, brokers []string, delivery engine.Delivery) {
	k := openEngine(t, Options{Brokers: brokers})
	others := outsider{brokers}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.EnsureTopic(ctx, "in", 1, map[string]string{"retention.ms": "-1"}); err != nil {
		t.Fatal(err)
	}
	join := func() engine.Member {
		m, err := k.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartLatest}, Delivery: delivery})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := join()
	s := only(t, ctx, m, nil)
	others.produce(t, "in", 0, "none", make([]engine.Record, 60))
	readTo(t, ctx, s, 60)
	if err := s.Commit(ctx, 60); err != nil {
		t.Fatal(err)
	}
	others.remake(t, "in", 1)
	if c.late {
		late := map[engine.TopicPartition]committed{s.Partition(): {offset: 60, mark: s.(*session).mark + "9"}}
		if err := k.cluster.commitOffsets(ctx, "g", m.(*member).identity(), late); err != nil {
			t.Fatal(err)
		}
	}
	others.produce(t, "in", 0, "none", make([]engine.Record, c.again))
	if _, err := s.Poll(ctx, 1<<20); !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("the old session reads: %v", err)
	}
	_ = s.Close(ctx)
	fresh := only(t, ctx, m, s)
	readTo(t, ctx, fresh, c.again)
	if err := fresh.Commit(ctx, c.again); err != nil {
		t.Fatal(err)
	}
	// Who comes next knows that it is the same topic now.
	if err := m.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	m = join()
	if at := only(t, ctx, m, nil).Position(); at != c.again {
		t.Errorf("the next member begins at %d, want %d", at, c.again)
	}
	if err := m.Leave(ctx); err != nil {
		t.Fatal(err)
	}
}

// only waits for the one session of a member, other than before.
func only(t *testing.T, ctx context.Context, m engine.Member, before engine.Session) engine.Session {
	t.Helper()
	for {
		sessions, err := m.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(sessions) == 1 && sessions[0] != before {
			return sessions[0]
		}
	}
}

// readTo reads from the beginning of what the session has not read, which is as many records as the topic has.
func readTo(t *testing.T, ctx context.Context, s engine.Session, end int64) {
	t.Helper()
	if at := s.Position(); at != 0 {
		t.Errorf("the session begins at %d, want 0", at)
	}
	for s.Position() < end {
		if _, err := s.Poll(ctx, 1<<20); err != nil {
			t.Fatalf("at offset %d: %v", s.Position(), err)
		}
	}
}

// TestAnOldIDIsNoOtherTopic: who hears of a topic's old id when the group reads the new one asks around, and goes on where it was.
func TestAnOldIDIsNoOtherTopic(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	others := outsider{[]string{address}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.EnsureTopic(ctx, "in", 1, map[string]string{"retention.ms": "-1"}); err != nil {
		t.Fatal(err)
	}
	others.produce(t, "in", 0, "none", make([]engine.Record, 6))
	m, err := k.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}})
	if err != nil {
		t.Fatal(err)
	}
	s := only(t, ctx, m, nil)
	readTo(t, ctx, s, 6)
	if err := s.Commit(ctx, 6); err != nil {
		t.Fatal(err)
	}
	m.(*member).cluster.hearOld("in")
	m.(*member).contested(s.(*session), errInputRemade)
	fresh := only(t, ctx, m, s)
	if at := fresh.Position(); at != 6 {
		t.Errorf("the session goes on at %d, want 6", at)
	}
	others.produce(t, "in", 0, "none", make([]engine.Record, 1))
	for fresh.Position() < 7 {
		if _, err := fresh.Poll(ctx, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatHasNoIDIsNoOtherTopic: ids come with an upgrade of the cluster, and are known to some of its nodes only meanwhile.
func TestWhatHasNoIDIsNoOtherTopic(t *testing.T) {
	in := engine.TopicPartition{Topic: "in"}
	none, one, two := topicID{}, topicID{1}, topicID{2}
	for _, c := range []struct {
		was, is topicID
		remade  bool
	}{{one, two, true}, {one, one, false}, {none, one, false}, {one, none, false}, {none, none, false}} {
		o := &opening{tp: in, topic: c.is}
		stable := map[engine.TopicPartition]committed{in: {offset: 3, mark: markOf("7/0", c.was) + "1"}}
		found := engine.Group{Starts: map[string]engine.TopicStart{"in": {ID: c.was.String(), Offsets: []int64{3}}}}
		for by, got := range map[string]bool{
			"mark": (&member{}).remade(o, stable), "start": (&member{g: found}).remade(o, nil),
			"member": (&member{began: map[string]topicID{"in": c.was}}).remade(o, nil),
		} {
			if got != c.remade {
				t.Errorf("by the %s, %q after %q: made anew is %t, want %t", by, c.is, c.was, got, c.remade)
			}
		}
	}
}

// TestStartFoundWithoutAnID: what was found of a topic while the cluster had no ids is the start in it when it has.
func TestStartFoundWithoutAnID(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.EnsureTopic(ctx, "in", 1, map[string]string{"retention.ms": "-1"}); err != nil {
		t.Fatal(err)
	}
	outsider{[]string{address}}.produce(t, "in", 0, "none", make([]engine.Record, 6))
	m, err := k.Join(ctx, engine.Group{
		Name: "g", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartLatest},
		Starts: map[string]engine.TopicStart{"in": {Offsets: []int64{3}}},
		Remade: func(tp engine.TopicPartition) { t.Errorf("%v is said to be made anew", tp) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if at := only(t, ctx, m, nil).Position(); at != 3 {
		t.Errorf("the session begins at %d, want 3", at)
	}
}
