package verify

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/runtime/verify/history"
)

// copyTopic gets, by a deployment, a copy of all records of a history. It has
// one partition, so that it is known where each record has to go.
func (r *run) copyTopic() string { return r.prefix + "gamma" }

func (r *run) copyKey() string { return keyOf(r.copyTopic(), 0) }

// copyProcess is the first number of the processes that stand for the deployment.
const copyProcess = 1_000_000

func (r *run) copies() bool { return slices.Contains(r.topics, r.copyTopic()) }

// deployCopy deploys the copy, whose output the clients consume as well.
func (r *run) deployCopy(adminURL string) {
	r.t.Helper()
	topic := r.copyTopic()
	r.create(1, topic)
	for _, input := range r.topics {
		m := member{"copy." + input, input, []deploy.Output{{Name: "out", Topic: topic}}, wasmtest.Guest{}.Bytes()}
		m.deployNew(r.t, adminURL, deploy.DeliveryExactlyOnce)
	}
	r.topics, r.keys = append(r.topics, topic), append(r.keys, r.copyKey())
}

// derive returns what the deployment has to have done, as operations: a process
// for each of its partitions has sent on each record that a reader of committed
// records got there, in that order, and nothing else.
func (r *run) derive() []history.Op {
	values := map[string]map[int64]int64{} // key → offset → value
	for _, op := range r.ops {
		for _, step := range op.Steps {
			for key, records := range step.Polled {
				for _, record := range records {
					if values[key] == nil {
						values[key] = map[int64]int64{}
					}
					values[key][record.Offset] = record.Value
				}
			}
		}
	}
	var out []history.Op
	for i, key := range r.targets {
		var offsets []int64
		for offset := range values[key] {
			offsets = append(offsets, offset)
		}
		slices.Sort(offsets)
		for n, offset := range offsets {
			sent := history.Record{Offset: history.Unknown, Value: values[key][offset]}
			out = append(out, history.Op{
				Process: copyProcess + i, Kind: history.Send, Outcome: history.OK,
				Steps:   []history.Step{{Key: r.copyKey(), Sent: sent}},
				Invoked: 0, Completed: r.now() + time.Duration(n), // when is not known, but in which order
			})
		}
	}
	return out
}
