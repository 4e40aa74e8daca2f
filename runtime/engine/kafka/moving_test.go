package kafka

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
	"github.com/millstream-io/millstream/runtime/engine"
)

// unrest moves the leaders of all partitions of a cluster about, those of coordinators too, until it is stopped.
type unrest struct {
	admin *kadm.Client
	moves int
	all   sync.WaitGroup
	stop  context.CancelFunc
}

// movePause is about how long leaders stay where they are.
const movePause = 300 * time.Millisecond

func startUnrest(t *testing.T, brokers []string) *unrest {
	t.Helper()
	// One that does not answer must not end the unrest.
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(20*time.Millisecond),
		kgo.RequestTimeoutOverhead(time.Second), kgo.RetryTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	u := &unrest{admin: kadm.NewClient(client)}
	var ctx context.Context
	ctx, u.stop = context.WithCancel(context.Background())
	u.all.Go(func() {
		defer client.Close()
		for sleep(ctx, movePause/2+rand.N(movePause)) == nil {
			if u.move(ctx) == nil {
				u.moves++
			}
		}
	})
	t.Cleanup(func() {
		u.stop()
		u.all.Wait()
		if u.moves == 0 {
			t.Error("no leader was moved")
		}
		t.Logf("all leaders were moved %d times", u.moves)
	})
	return u
}

// move makes the next replica of each partition the preferred one, and has it elected.
func (u *unrest) move(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	topics, err := u.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	var next kadm.AlterPartitionAssignmentsReq
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if n := len(p.Replicas); n > 1 {
			next.Assign(p.Topic, p.Partition, append(p.Replicas[1:n:n], p.Replicas[0]))
		}
	})
	if _, err = u.admin.AlterPartitionAssignments(ctx, next); err != nil {
		return err
	}
	_, err = u.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
	return err
}

// TestKafkaClusterMovingLeaders copies records while all leaders move about, and nodes, one after the other, stand still for
// long enough to be given up by the others. A node that goes on after that still takes itself for the leader that it was.
func TestKafkaClusterMovingLeaders(t *testing.T) {
	wantCluster(t)
	c := kafkacluster.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	k := openEngine(t, Options{Brokers: c.Brokers(), SessionTimeout: 10 * time.Second, RebalanceTimeout: 20 * time.Second})
	for _, topic := range []string{"in", "out"} {
		if err := k.EnsureTopic(ctx, topic, 6, nil); err != nil {
			t.Fatal(err)
		}
	}
	client := newClient(t, c.Brokers(), kgo.RecordRetries(1<<20), kgo.RetryTimeout(time.Minute),
		kgo.ProduceRequestTimeout(2*time.Second), kgo.RequestTimeoutOverhead(time.Second)) // who is silent holds nobody up
	g := engine.Group{Name: "copy", Client: "test", Inputs: []string{"in"}, Start: engine.Start{Kind: engine.StartEarliest}}
	first, second := startCopier(t, ctx, k, g), startCopier(t, ctx, k, g)
	q := &sequence{client: client, keys: 40, count: make([]int, 40)}
	writing, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() { q.run(t, writing) })
	u := startUnrest(t, c.Brokers())
	for number := 1; number <= kafkacluster.Nodes; number++ {
		for _, step := range []struct {
			do func(int) error
			d  time.Duration
		}{{c.Pause, 7 * time.Second}, {c.Resume, 3 * time.Second}} {
			err := step.do(number)
			if err == nil {
				err = sleep(ctx, step.d)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	u.stop()
	writer.Wait()
	q.verify(t, ctx, k)
	first.stop(ctx)
	second.stop(ctx)
}
