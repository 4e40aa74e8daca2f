package worker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// TestADeadLetterThatHardlyFits: what a topic with a small limit takes of a failed record is a stub without its key.
func TestADeadLetterThatHardlyFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, failing("bad", errBad))
		b.log.SetMaxMessageBytes("d.dlq", 500)
		b.ok(b.log.Append(t.Context(), "in", []engine.Record{
			{Value: []byte("a")}, {Key: []byte(strings.Repeat("k", 600)), Value: []byte("bad")}, {Value: []byte("b")},
		}))
		b.start()
		synctest.Wait()
		wantValues(t, "out", b.log.Records("out"), []string{"A", "B"})
		letters := b.log.Records("d.dlq")
		if len(letters) != 1 || letters[0].Value != nil || letters[0].Key != nil {
			t.Fatalf("dead letters are %+v", letters)
		}
		wantHeaders(t, letters[0], map[string]string{deadletter.HeaderCut: "3", deadletter.HeaderKeyCut: "600", deadletter.HeaderOffset: "1"})
		b.finish()
	})
}

// TestADeadLetterThatDoesNotFitAtAll stops the deployment with what is wrong; what came before the record
// stands, once, and with the topic's settings mended the deployment goes on.
func TestADeadLetterThatDoesNotFitAtAll(t *testing.T) {
	for _, delivery := range []engine.Delivery{engine.ExactlyOnce, engine.AtLeastOnce} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, failing("bad", errBad))
			b.set = func(c *worker.Config) { c.Group.Delivery = delivery }
			b.log.SetMaxMessageBytes("d.dlq", 20)
			b.log.AppendTo("in", 0, "a", "bad", "b")
			w := b.start()
			<-w.Done()
			phase, reason := w.Phase()
			if phase != worker.PhaseFailed || !strings.Contains(reason, "d.dlq") || !strings.Contains(reason, "max.message.bytes is 20") || !strings.Contains(reason, "offset 1 of in partition 0") {
				t.Errorf("phase is %s: %s", phase, reason)
			}
			wantValues(t, "out", b.log.Records("out"), []string{"A"})
			if at := b.log.Committed("d", "in", 0); at != 1 {
				t.Errorf("the committed offset is %d, want that of the record, 1", at)
			}
			b.log.SetMaxMessageBytes("d.dlq", 1000)
			b.start()
			synctest.Wait()
			wantValues(t, "out", b.log.Records("out"), []string{"A", "B"})
			wantValues(t, "dead letters", b.log.Records("d.dlq"), []string{"bad"})
			b.finish()
		})
	}
}

// TestADeadLetterThatItsTopicNeverTakes: one that breaks another rule of its topic, such as having no key in a
// compacted one, stops the deployment at once, also when the guest trapped.
func TestADeadLetterThatItsTopicNeverTakes(t *testing.T) {
	for _, fault := range []error{errBad, &host.Trap{Kind: host.TrapFault, Detail: "unreachable"}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, failing("bad", fault))
			b.set = func(c *worker.Config) {
				c.Engine = choosy{b.log}
				c.OnError = deploy.OnErrorDeadLetter
			}
			b.log.AppendTo("in", 0, "a", "bad", "b")
			w := b.start()
			<-w.Done()
			if phase, reason := w.Phase(); phase != worker.PhaseFailed || !strings.Contains(reason, engine.ErrInvalidRecord.Error()) {
				t.Errorf("phase is %s: %s", phase, reason)
			}
			wantValues(t, "out", b.log.Records("out"), []string{"A"})
			b.finish()
		})
	}
}

// choosy is a log whose dead letter topics take records with a key only.
type choosy struct{ *workertest.Log }

func (c choosy) Join(ctx context.Context, g engine.Group) (engine.Member, error) {
	m, err := c.Log.Join(ctx, g)
	return choosyMember{m}, err
}

type choosyMember struct{ engine.Member }

func (m choosyMember) Next(ctx context.Context) ([]engine.Session, error) {
	sessions, err := m.Member.Next(ctx)
	for i := range sessions {
		sessions[i] = choosySession{sessions[i]}
	}
	return sessions, err
}

type choosySession struct{ engine.Session }

func (s choosySession) ProduceTo(ctx context.Context, topic string, r engine.Record) error {
	if r.Key == nil {
		return &engine.OutputError{Input: -1, Topic: topic, Detail: "the record has no key", Err: engine.ErrInvalidRecord}
	}
	return s.Session.ProduceTo(ctx, topic, r)
}
