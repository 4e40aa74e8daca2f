package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
)

// kafkaSession is the shortest that Apache Kafka allows by default.
const kafkaSession = 6 * time.Second

// TestVerifyKafka verifies sequences through workers over three nodes of Apache Kafka, and checks histories of
// clients and deployments on them, while nodes, one at a time, and workers are killed and paused.
func TestVerifyKafka(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	v := newClusterVictims(t, seed)
	for i, n := range []nemesis{
		{name: "kill", disturb: func(_ context.Context, random *rand.Rand, v victims) error { return v.kill(random) }},
		{name: "all", late: true, disturb: inTurn(),
			weather: weather{delay: 0.01, delayMost: 100 * time.Millisecond, strand: 0.05, strandMost: time.Second, mute: 0.005}},
	} {
		t.Run("histories/"+n.name, func(t *testing.T) { v.histories(t, n, seed+uint64(i)) })
	}
	t.Run("sequences", func(t *testing.T) { v.sequences(t, seed) })
}

// inTurn leaves nothing to chance where a history is too short for it.
func inTurn() func(context.Context, *rand.Rand, victims) error {
	n := 0
	return func(ctx context.Context, random *rand.Rand, v victims) error {
		switch n++; n % 3 {
		case 1:
			return v.kill(random)
		case 2:
			return v.pause(ctx, random)
		}
		v.cut(random)
		return nil
	}
}

// clusterVictims are the nodes of a cluster, workers over it, and the network between.
type clusterVictims struct {
	cluster *kafkacluster.Cluster
	fronts  [kafkacluster.Nodes]*proxy // of the nodes
	brokers string                     // their addresses
	workers []*daemon

	nodeKills, nodePauses, workerKills, workerPauses int
}

func newClusterVictims(t *testing.T, seed uint64) *clusterVictims {
	t.Helper()
	v := &clusterVictims{}
	var addresses []string
	for i := range v.fronts {
		v.fronts[i] = newProxy(t, seed+uint64(i), nil)
		addresses = append(addresses, v.fronts[i].address())
	}
	v.brokers = strings.Join(addresses, ",")
	v.cluster = kafkacluster.Start(t, kafkacluster.Advertise(addresses...),
		// What clients that are gone have left open is aborted soon, not within ten seconds.
		kafkacluster.Property("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"))
	for i, behind := range v.cluster.Behind() {
		v.fronts[i].target.Store(&behind)
	}
	for range 2 {
		v.workers = append(v.workers, startWorker(t, v.brokers, "--session-timeout", kafkaSession.String()))
	}
	return v
}

// weather is the network's from now on.
func (v *clusterVictims) weather(w *weather) {
	for _, p := range v.fronts {
		p.weather.Store(w)
	}
}

// killNode kills a node and starts it anew; meanwhile is done while it is away.
func (v *clusterVictims) killNode(random *rand.Rand, meanwhile func() error) error {
	n := 1 + random.IntN(kafkacluster.Nodes)
	v.nodeKills++
	v.fronts[n-1].down()
	v.cluster.Kill(n)
	<-time.After(between(random, 0, 2*time.Second))
	if err := meanwhile(); err != nil {
		return err
	}
	if err := v.cluster.Restart(n); err != nil {
		return err
	}
	return v.fronts[n-1].up()
}

// histories is TestHistories over a cluster.
func (v *clusterVictims) histories(t *testing.T, n nemesis, seed uint64) {
	r := newRun(t, seed, v.brokers, n.name+".")
	r.segment, r.old = 1<<20, !n.late
	r.createTopics()
	r.deployCopy(v.workers[0].admin)
	v.weather(&n.weather)
	r.under(func(ctx context.Context, random *rand.Rand) error { return n.disturb(ctx, random, v) }, 2*(*flagDuration))
	v.weather(calm)
	r.conclude(2 * time.Minute)
	t.Logf("%d kills of nodes, %d of workers, %d pauses of nodes, %d of workers; %s", v.nodeKills, v.workerKills, v.nodePauses, v.workerPauses, v.network())
	v.nodeKills, v.workerKills, v.nodePauses, v.workerPauses = 0, 0, 0, 0
}

// kill kills a node, and a worker while the others take over from it.
func (v *clusterVictims) kill(random *rand.Rand) error {
	return v.killNode(random, func() error {
		v.workerKills++
		return v.workers[random.IntN(len(v.workers))].crash(between(random, 0, 100*time.Millisecond))
	})
}

// pause pauses a node, later also a worker, for longer than the others wait for it or not as long.
func (v *clusterVictims) pause(ctx context.Context, random *rand.Rand) error {
	rest := between(random, 100*time.Millisecond, 8*time.Second)
	if v.nodePauses > 0 && random.IntN(3) == 0 {
		v.workerPauses++
		return v.workers[random.IntN(len(v.workers))].freeze(ctx, rest)
	}
	v.nodePauses++
	n := 1 + random.IntN(kafkacluster.Nodes)
	if err := v.cluster.Pause(n); err != nil {
		return err
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
	}
	return v.cluster.Resume(n)
}

func (v *clusterVictims) cut(random *rand.Rand) {
	for _, p := range v.fronts {
		p.cut(random.Float64())
	}
}

// sequences is TestVerifyWorkers over a cluster.
func (v *clusterVictims) sequences(t *testing.T, seed uint64) {
	v.weather(&weather{delay: 0.002, delayMost: 100 * time.Millisecond, strand: 0.001, strandMost: 2 * time.Second, mute: 0.001})
	disturbances, cuts := 0, 0
	verifyWorkers(t, v.workers, &verification{
		t: t, seed: seed, brokers: v.brokers, times: *flagKills, restLow: 500 * time.Millisecond, restHigh: kafkaSession,
		disturb: func(_ context.Context, random *rand.Rand) error {
			if random.IntN(4) == 0 {
				cuts++
				v.cut(random)
			}
			if disturbances++; disturbances%3 != 0 {
				return nil
			}
			return v.killNode(random, func() error { return nil })
		},
	}, kafkaSession)
	t.Logf("%d kills of nodes, %d cuts, %s", v.nodeKills, cuts, v.network())
}

// network tells what the network has done, and begins to count anew.
func (v *clusterVictims) network() string {
	var stranded, delayed, muted int64
	for _, p := range v.fronts {
		stranded += p.stranded.Swap(0)
		delayed += p.delayed.Swap(0)
		muted += p.muted.Swap(0)
	}
	return fmt.Sprintf("%d requests delivered late, %d delayed, %d without an answer", stranded, delayed, muted)
}
