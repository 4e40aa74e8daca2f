package verify

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/verify/history"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type plantedBug struct {
	name    string
	codec   *codec
	plant   plant
	weather weather
	want    []history.Name
}

// among reports whether what was found shows the bug.
func (b plantedBug) among(found []history.Name) bool {
	return slices.ContainsFunc(b.want, func(n history.Name) bool { return slices.Contains(found, n) })
}

// plantedBugs are faults that brokers and clients have had, each with anomalies
// of which at least one must be found.
var plantedBugs = []plantedBug{
	{
		name: "an acknowledged batch is lost",
		codec: &codec{answer: func(_ *codec, a kmsg.Response) {
			keep(a, func(_ int32, b batch) bool { return b.offset()%7 != 3 })
		}},
		want: []history.Name{history.LostWrite},
	},
	{
		name: "a commit is acknowledged, and the transaction aborted",
		codec: &codec{change: func(c *codec, r kmsg.Request) {
			if end, ok := r.(*kmsg.EndTxnRequest); ok && end.Commit && c.nth(10) {
				end.Commit = false
			}
		}},
		want: []history.Name{history.LostWrite, history.Unseen},
	},
	{
		name: "an abort commits",
		codec: &codec{change: func(c *codec, r kmsg.Request) {
			if end, ok := r.(*kmsg.EndTxnRequest); ok && !end.Commit && c.nth(3) {
				end.Commit = true
			}
		}},
		want: []history.Name{history.G1a},
	},
	{
		name: "readers of committed records get all",
		codec: &codec{change: func(_ *codec, r kmsg.Request) {
			if fetch, ok := r.(*kmsg.FetchRequest); ok {
				fetch.IsolationLevel = 0
			}
		}},
		want: []history.Name{history.G1a, history.PrecommittedRead},
	},
	{
		name: "the list of aborted transactions is left out",
		codec: &codec{answer: func(_ *codec, a kmsg.Response) {
			fetched(a, func(p *kmsg.FetchResponseTopicPartition) { p.AbortedTransactions = nil })
		}},
		want: []history.Name{history.G1a},
	},
	{
		name: "a batch is written twice",
		codec: &codec{change: func(c *codec, r kmsg.Request) {
			if m, ok := r.(*kmsg.ProduceRequest); ok && c.nth(10) {
				c.proxy.again(m, m.Topics[0], m.Topics[0].Partitions[0])
			}
		}},
		want: []history.Name{history.Duplicate},
	},
	{
		name: "a batch is acknowledged at another offset",
		codec: &codec{answer: func(c *codec, a kmsg.Response) {
			if m, ok := a.(*kmsg.ProduceResponse); ok && m.Topics[0].Partitions[0].ErrorCode == 0 && c.nth(10) {
				m.Topics[0].Partitions[0].BaseOffset += 2
			}
		}},
		want: []history.Name{history.InconsistentOffsets, history.Duplicate},
	},
	{
		name: "a transaction is torn: one of its partitions is missing",
		codec: &codec{answer: func(_ *codec, a kmsg.Response) {
			keep(a, func(partition int32, b batch) bool {
				return !b.transactional() || partition != 1 || (b.producer()+int64(b.epoch()))%5 != 0
			})
		}},
		want: []history.Name{history.LostWrite},
	},
	{
		name: "two batches change places",
		codec: &codec{answer: func(c *codec, a kmsg.Response) {
			if c.nth(5) {
				swap(a)
			}
		}},
		want: []history.Name{history.InconsistentOffsets, history.Duplicate},
	},
	{
		name: "a fetch leaves out what the next one would have returned",
		codec: &codec{answer: func(c *codec, a kmsg.Response) {
			skip := c.nth(10)
			keep(a, func(_ int32, b batch) bool {
				left := skip
				skip = false
				return !left
			})
		}},
		want: []history.Name{history.PollSkip, history.IntPollSkip},
	},
	{
		name: "the offsets of a transaction are not committed",
		codec: &codec{change: func(_ *codec, r kmsg.Request) {
			if m, ok := r.(*kmsg.TxnOffsetCommitRequest); ok {
				for i := range m.Topics {
					for j := range m.Topics[i].Partitions {
						m.Topics[i].Partitions[j].Offset = 0
					}
				}
			}
		}},
		plant: plant{crashes: true},
		want:  []history.Name{history.GroupRepeat},
	},
	{
		name: "offsets are committed too far",
		codec: &codec{change: func(_ *codec, r kmsg.Request) {
			if m, ok := r.(*kmsg.TxnOffsetCommitRequest); ok {
				for i := range m.Topics {
					for j := range m.Topics[i].Partitions {
						m.Topics[i].Partitions[j].Offset += 7
					}
				}
			}
		}},
		plant: plant{crashes: true},
		want:  []history.Name{history.GroupSkip},
	},
	{
		name:  "a client that aborts does not go back",
		plant: plant{keepsPosition: true},
		want:  []history.Name{history.PollSkip},
	},
	{
		// The hole that KIP-890 has closed: a commit that comes late is taken for that of the next transaction.
		// TestHistories has the same weather with clients of today.
		name:    "late requests are those of old clients",
		plant:   plant{old: true},
		weather: weather{delay: 0.02, delayMost: 200 * time.Millisecond, strand: 0.08, strandMost: time.Second},
		want:    []history.Name{history.G1a, history.PrecommittedRead, history.LostWrite},
	},
}

// TestPlantedBugs plants a bug at a time and wants it found. A checker that finds
// nothing in histories of a broker with these bugs proves nothing about ours.
func TestPlantedBugs(t *testing.T) {
	binaryPath(t)
	seed := seed(t)
	const atOnce = 3 // they wait for most of the time
	places := make(chan struct{}, atOnce)
	var caught sync.Map
	t.Cleanup(func() {
		for _, b := range plantedBugs {
			names, _ := caught.Load(b.name)
			t.Logf("%s: %v", b.name, names)
		}
	})
	for i, b := range plantedBugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			places <- struct{}{}
			defer func() { <-places }()
			var planted bug
			if b.codec != nil {
				planted = b.codec
			}
			p := newProxy(t, seed+uint64(i), planted)
			if b.codec != nil {
				b.codec.proxy = p
			}
			startServer(t, p)
			r := newRun(t, seed+uint64(i), p.address(), "")
			r.plant = b.plant
			r.createTopics()
			var found []history.Name
			var result *history.Result
			for range 8 { // more work, if there was too little for it to show
				p.weather.Store(&b.weather)
				r.under(nil, 3*time.Second)
				p.weather.Store(calm)
				if err := r.finish(10 * time.Second); err != nil {
					t.Logf("final polls: %v", err) // some bugs hide the end of a log
				}
				result = history.Check(r.ops)
				found = result.Forbidden()
				if b.among(found) {
					break
				}
			}
			caught.Store(b.name, found)
			if !b.among(found) {
				t.Errorf("found %v, want one of %v\n%s", found, b.want, result.Report())
			}
		})
	}
}
