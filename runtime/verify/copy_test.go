package verify

import (
	"errors"
	"slices"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/runtime/verify/history"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// copyTopic gets, by a deployment, a copy of all records of a history. It has
// one partition, so that it is known where each record has to go.
const (
	copyTopic = "gamma"
	copyKey   = copyTopic + "/0"
)

// copyProcess is the first number of the processes that stand for the deployment.
const copyProcess = 1_000_000

func (r *run) copies() bool { return slices.Contains(r.topics, copyTopic) }

// deployCopy deploys the copy, whose output the clients consume as well.
func (r *run) deployCopy(adminURL string) {
	r.t.Helper()
	client, err := kgo.NewClient(r.options(&gate{})...)
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	made, err := kadm.NewClient(client).CreateTopics(r.t.Context(), 1, -1, smallSegments(16<<10), copyTopic)
	if err = errors.Join(err, made.Error()); err != nil {
		r.t.Fatal(err)
	}
	for _, topic := range r.topics {
		m := member{"copy." + topic, topic, []deploy.Output{{Name: "out", Topic: copyTopic}}, wasmtest.Guest{}.Bytes()}
		if err := m.deploy(r.t.Context(), adminURL, deploy.DeliveryExactlyOnce); err != nil {
			r.t.Fatal(err)
		}
	}
	r.topics, r.keys = append(r.topics, copyTopic), append(r.keys, copyKey)
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
				Steps:   []history.Step{{Key: copyKey, Sent: sent}},
				Invoked: 0, Completed: r.now() + time.Duration(n), // when is not known, but in which order
			})
		}
	}
	return out
}
