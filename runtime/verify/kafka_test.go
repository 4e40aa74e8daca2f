package verify

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
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
	// Whatever clients that are gone have left open is aborted soon, not within ten seconds.
	c := kafkacluster.Start(t, kafkacluster.Property("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"))
	v := &clusterVictims{cluster: c, fronts: newFronts(t, seed, c.Brokers())}
	for range 2 {
		v.workers = append(v.workers, startWorker(t, strings.Join(c.Brokers(), ","), "--session-timeout", kafkaSession.String()))
	}
	for i, n := range []nemesis{
		{name: "kill", disturb: func(_ context.Context, random *rand.Rand, v victims) error { return v.kill(random) }},
		{name: "all", late: true, disturb: anything,
			weather: weather{delay: 0.01, delayMost: 100 * time.Millisecond, strand: 0.02, strandMost: time.Second, mute: 0.005}},
	} {
		t.Run("histories/"+n.name, func(t *testing.T) { v.histories(t, n, seed+uint64(i)) })
	}
	t.Run("sequences", func(t *testing.T) { v.sequences(t, seed) })
}

// clusterVictims are the nodes of a cluster, workers over it, and the network of clients.
type clusterVictims struct {
	cluster *kafkacluster.Cluster
	workers []*daemon
	fronts  fronts

	nodeKills, nodePauses, workerKills, workerPauses int
}

// histories is TestHistories over a cluster.
func (v *clusterVictims) histories(t *testing.T, n nemesis, seed uint64) {
	r := newRun(t, seed, strings.Join(v.cluster.Brokers(), ","), n.name+".")
	r.route, r.segment, r.old = v.fronts.route, 1<<20, !n.late
	r.createTopics()
	r.deployCopy(v.workers[0].admin)
	v.fronts.weather(&n.weather)
	r.under(func(ctx context.Context, random *rand.Rand) error {
		if v.nodeKills == 0 { // whatever chance brings later
			return v.kill(random)
		}
		return n.disturb(ctx, random, v)
	}, 2*(*flagDuration))
	v.fronts.weather(calm)
	r.conclude(2 * time.Minute)
	count := func(f func(*proxy) *atomic.Int64) (sum int64) {
		for _, p := range v.fronts {
			sum += f(p).Swap(0)
		}
		return sum
	}
	t.Logf("%d kills of nodes, %d of workers, %d pauses of nodes, %d of workers; %d requests delivered late, %d delayed, %d without an answer",
		v.nodeKills, v.workerKills, v.nodePauses, v.workerPauses, count(func(p *proxy) *atomic.Int64 { return &p.stranded }),
		count(func(p *proxy) *atomic.Int64 { return &p.delayed }), count(func(p *proxy) *atomic.Int64 { return &p.muted }))
	v.nodeKills, v.workerKills, v.nodePauses, v.workerPauses = 0, 0, 0, 0
}

// kill kills a node, and a worker while the others take over from it.
func (v *clusterVictims) kill(random *rand.Rand) error {
	n := 1 + random.IntN(kafkacluster.Nodes)
	v.nodeKills++
	v.cluster.Kill(n)
	<-time.After(between(random, 0, 2*time.Second))
	v.workerKills++
	if err := v.workers[random.IntN(len(v.workers))].crash(between(random, 0, 100*time.Millisecond)); err != nil {
		return err
	}
	return v.cluster.Restart(n)
}

// pause pauses a node or a worker, for longer than the others wait for it or not as long.
func (v *clusterVictims) pause(ctx context.Context, random *rand.Rand) error {
	rest := between(random, 100*time.Millisecond, 8*time.Second)
	if random.IntN(3) == 0 {
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
	disturbances, kills := 0, 0
	verifyWorkers(t, v.workers, &verification{
		t: t, seed: seed, brokers: strings.Join(v.cluster.Brokers(), ","), times: *flagKills, restLow: 500 * time.Millisecond, restHigh: kafkaSession,
		disturb: func(_ context.Context, random *rand.Rand) error {
			if disturbances++; disturbances%3 != 0 {
				return nil
			}
			kills++
			n := 1 + random.IntN(kafkacluster.Nodes)
			v.cluster.Kill(n)
			<-time.After(between(random, 0, 2*time.Second))
			return v.cluster.Restart(n)
		},
	}, kafkaSession)
	t.Logf("%d kills of nodes", kills)
}

// fronts are a proxy before each node of a cluster, by the node's address. The nodes do not advertise them, so
// that only clients whose connections are routed to them meet their weather.
type fronts map[string]*proxy

func newFronts(t *testing.T, seed uint64, nodes []string) fronts {
	t.Helper()
	f := fronts{}
	for i, address := range nodes {
		p := newProxy(t, seed+uint64(i), nil)
		p.patience = 0
		p.target.Store(&address)
		f[address] = p
	}
	return f
}

// route is the address of the proxy before a node.
func (f fronts) route(host string) string {
	if p := f[host]; p != nil {
		return p.address()
	}
	return host
}

func (f fronts) weather(w *weather) {
	for _, p := range f {
		p.weather.Store(w)
	}
}
