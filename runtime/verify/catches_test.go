package verify

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestVerifyCatches plants bugs between brokers and clients, or has deployments
// promise less, and wants it noticed.
func TestVerifyCatches(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	for i, b := range []struct {
		name     string
		codec    *codec
		delivery string
		kill     bool
		workers  bool // the deployments run in a worker
	}{
		{name: "deliver at least once", delivery: deploy.DeliveryAtLeastOnce, kill: true},
		{
			name: "write an acknowledged batch twice",
			codec: &codec{change: func(c *codec, r kmsg.Request) {
				if m, ok := r.(*kmsg.ProduceRequest); ok && c.nth(50) {
					c.proxy.again(m, m.Topics[0], m.Topics[0].Partitions[0])
				}
			}},
		},
		{
			name: "lose an acknowledged batch",
			codec: &codec{answer: func(c *codec, a kmsg.Response) {
				keep(a, func(_ int32, b batch) bool { return b.offset() < 50 || b.offset()%50 > 3 })
			}},
		},
		{
			name: "serve what was aborted or is not committed", kill: true,
			codec: &codec{change: func(_ *codec, r kmsg.Request) {
				if fetch, ok := r.(*kmsg.FetchRequest); ok {
					fetch.IsolationLevel = 0
				}
			}},
		},
		{
			name: "tear a transaction: one of its partitions is missing",
			codec: &codec{answer: func(_ *codec, a kmsg.Response) {
				keep(a, func(partition int32, b batch) bool {
					return !b.transactional() || partition != 1 || b.offset()%16 != 5
				})
			}},
		},
		{
			name:  "let two batches change places",
			codec: &codec{answer: func(_ *codec, a kmsg.Response) { swap(a) }},
		},
		{
			name: "acknowledge a worker's commit, and abort", workers: true,
			codec: &codec{change: func(c *codec, r kmsg.Request) {
				if end, ok := r.(*kmsg.EndTxnRequest); ok && end.Commit && c.nth(20) {
					end.Commit = false
				}
			}},
		},
		{
			name: "leave out a worker's offsets", workers: true, kill: true,
			codec: &codec{change: func(_ *codec, r kmsg.Request) {
				if m, ok := r.(*kmsg.TxnOffsetCommitRequest); ok {
					for i := range m.Topics {
						for j := range m.Topics[i].Partitions {
							m.Topics[i].Partitions[j].Offset = 0
						}
					}
				}
			}},
		},
		{
			name:  "damage a value",
			codec: &codec{answer: func(c *codec, a kmsg.Response) { damage(a, c, 20) }},
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			var planted bug
			if b.codec != nil {
				planted = b.codec
			}
			p := newProxy(t, seed+uint64(i), planted)
			if b.codec != nil {
				b.codec.proxy = p
			}
			var s *daemon
			rest := 400 * time.Millisecond
			if b.workers {
				rest = 4 * workerSession // so that it does something between its kills
				serveBroker(t, p)
				s = startWorker(t, p.address(), "--session-timeout", workerSession.String())
			} else {
				s = startServer(t, p)
			}
			createFleetTopics(t, p.address(), 64<<10)
			deployFleet(t, s.admin, b.delivery)
			v := &verification{
				t: t, seed: seed + uint64(i), brokers: p.address(), times: 100, restLow: 50 * time.Millisecond, restHigh: rest,
				disturb: func(context.Context, *rand.Rand) error {
					if b.kill {
						return s.crash(0)
					}
					return nil
				},
				enough: func(live *sink) bool { n, _ := live.found(); return n > 0 },
			}
			o, err := v.run()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d kills; %s", s.kills, o)
			if o.violations == 0 {
				t.Error("it was not noticed")
			}
		})
	}
}
