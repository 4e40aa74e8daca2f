package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// copier copies topic "in" to "out", as a worker does, until it is stopped. What goes wrong with the cluster is
// aborted and tried again.
type copier struct {
	t      *testing.T
	member engine.Member
	all    sync.WaitGroup
}

func startCopier(t *testing.T, ctx context.Context, k engine.Engine, g engine.Group) *copier {
	t.Helper()
	m, err := k.Join(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	c := &copier{t: t, member: m}
	c.all.Go(func() {
		seen := map[engine.Session]bool{}
		for {
			sessions, err := m.Next(ctx)
			if err != nil {
				return
			}
			for _, s := range sessions {
				if !seen[s] {
					seen[s] = true
					c.all.Go(func() { c.serve(ctx, s) })
				}
			}
		}
	})
	return c
}

// stop leaves the group and waits for all sessions.
func (c *copier) stop(ctx context.Context) {
	if err := c.member.Leave(ctx); err != nil {
		c.t.Error(err)
	}
	c.all.Wait()
}

func (c *copier) serve(ctx context.Context, s engine.Session) {
	defer s.Close(ctx)
	for {
		err := c.batch(ctx, s)
		for err != nil {
			if errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrClosed) || ctx.Err() != nil {
				return
			}
			c.t.Logf("%s-%d: %v", s.Partition().Topic, s.Partition().Partition, err)
			err = s.Abort(ctx)
		}
		select {
		case <-s.Done():
			return
		default:
		}
	}
}

// commitBytes is how much one transaction copies while there is more to read: more than one batch for a partition.
const commitBytes = 4 << 20

// batch copies in one transaction what there is.
func (c *copier) batch(ctx context.Context, s engine.Session) error {
	f, err := s.Poll(ctx, 256<<10)
	if err != nil {
		return err
	}
	if err := s.Begin([]string{"out"}); err != nil {
		return err
	}
	for bytes := 0; ; {
		var o outputList
		for i := range f.Len() {
			r := f.Record(i)
			o = append(o, abi.Output{Input: i, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value})
			bytes += len(r.Value)
		}
		if err := s.Produce(ctx, &o); err != nil {
			return err
		}
		next := f.NextOffset(f.Len() - 1)
		if bytes >= commitBytes || !s.Ready() {
			return s.Commit(ctx, next)
		}
		if f, err = s.Poll(ctx, 256<<10); err != nil {
			return err
		}
	}
}

type outputList []abi.Output

// Next implements abi.Outputs.
func (l *outputList) Next(o *abi.Output) bool {
	if len(*l) == 0 {
		return false
	}
	*o, *l = (*l)[0], (*l)[1:]
	return true
}

// sequence writes numbered records of many keys, as fast as the cluster takes them, until it is told to stop.
type sequence struct {
	client *kgo.Client
	keys   int
	count  []int // by key
}

func (q *sequence) run(t *testing.T, ctx context.Context) {
	for ctx.Err() == nil {
		var records []*kgo.Record
		for i := range 10 * q.keys {
			key := i % q.keys
			records = append(records, &kgo.Record{Topic: "in", Key: strconv.AppendInt(nil, int64(key), 10), Value: fmt.Appendf(nil, "%d %01500d", q.count[key], key)})
			q.count[key]++
		}
		if err := q.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			t.Error(err)
			return
		}
	}
}

// verify reads what is committed in topic "out" until everything is there, and reports what was lost, repeated or reordered.
func (q *sequence) verify(t *testing.T, ctx context.Context, k engine.Engine) {
	t.Helper()
	total := 0
	for _, n := range q.count {
		total += n
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	next, seen := make([]int, q.keys), 0
	done := errors.New("all there")
	err := k.Follow(ctx, "out", nil, func(p int32, r engine.Record) error {
		key, _ := strconv.Atoi(string(r.Key))
		number, _, _ := strings.Cut(string(r.Value), " ")
		n, _ := strconv.Atoi(number)
		if n != next[key] {
			t.Errorf("offset %d of out-%d: key %d has record %d, want %d", r.Offset, p, key, n, next[key])
		}
		next[key] = n + 1
		if seen++; seen == total {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("%d of %d records are there: %v", seen, total, err)
	}
	if !t.Failed() {
		t.Logf("%d records, each once and in order", total)
	}
}

// TestKafkaClusterKills copies records while the cluster's nodes are killed, or paused, one after the other, and come back.
func TestKafkaClusterKills(t *testing.T) {
	wantCluster(t) // not one that runs already: its nodes are killed
	t.Run("transactions 2", func(t *testing.T) { copyUnderKills(t) })
	t.Run("transactions 0", func(t *testing.T) { copyUnderKills(t, kafkacluster.Feature("transaction.version", 0)) })
}

func copyUnderKills(t *testing.T, options ...kafkacluster.Option) {
	c := kafkacluster.Start(t, options...)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	k := openEngine(t, Options{Brokers: c.Brokers(), SessionTimeout: 10 * time.Second, RebalanceTimeout: 20 * time.Second})
	for _, topic := range []string{"in", "out"} {
		if err := k.EnsureTopic(ctx, topic, 6, nil); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()...), kgo.RecordRetries(1<<20), kgo.RetryTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	g := engine.Group{Name: "copy", Client: "test", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}}
	first, second := startCopier(t, ctx, k, g), startCopier(t, ctx, k, g)
	q := &sequence{client: client, keys: 40, count: make([]int, 40)}
	writing, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() { q.run(t, writing) })
	for round, number := range []int{1, 2, 3} {
		if err := sleep(ctx, 3*time.Second); err != nil {
			t.Fatal(err)
		}
		c.Kill(number)
		if err := sleep(ctx, 6*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := c.Restart(number); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			second.stop(ctx)
			second = startCopier(t, ctx, k, g)
		}
	}
	stop()
	writer.Wait()
	q.verify(t, ctx, k)
	first.stop(ctx)
	second.stop(ctx)
}
