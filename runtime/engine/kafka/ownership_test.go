package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
)

// openSession joins a group that reads "in", which has one partition, and returns its session.
func openSession(t *testing.T, k *kafka, delivery engine.Delivery) (*member, *session) {
	t.Helper()
	ctx := t.Context()
	if err := k.EnsureTopic(ctx, "in", 1, nil); err != nil {
		t.Fatal(err)
	}
	m, err := k.Join(ctx, engine.Group{Name: "g", Inputs: []string{"in"}, Delivery: delivery, Start: engine.Start{Kind: engine.StartEarliest}})
	for err == nil {
		var sessions []engine.Session
		if sessions, err = m.Next(ctx); len(sessions) > 0 {
			return m.(*member), sessions[0].(*session)
		}
	}
	t.Fatal(err)
	return nil, nil
}

// TestLostSessionDoesNotCommitInTheNextGeneration: a commit that is refused because the member has lost its place is not made
// in the name of the generation in which it has a new one.
func TestLostSessionDoesNotCommitInTheNextGeneration(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	m, s := openSession(t, k, engine.ExactlyOnce)
	tries := 0
	err := m.asMember(t.Context(), s, func(who identity) error {
		if tries++; tries > 1 {
			return nil
		}
		outsider{[]string{address}}.expel(t, "g")
		<-s.gone
		for now := m.identity(); now == who || now.generation <= 0; now = m.identity() {
			if err := sleep(t.Context(), firstPause); err != nil {
				t.Fatal(err)
			}
		}
		return kerr.UnknownMemberID
	})
	if tries != 1 || !errors.Is(err, engine.ErrFenced) {
		t.Errorf("the session committed %d times, answer is %v", tries, err)
	}
}
