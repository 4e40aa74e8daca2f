package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fleetPartitions is what every topic of a fleet has.
const fleetPartitions = 3

// member is a deployment of a fleet.
type member struct {
	name, input string
	outputs     []deploy.Output
	module      []byte
}

// The fleet: one to one, one to three in two topics, a chain of three, and one whose module traps on some records.
func fleet() []member {
	out := func(topics ...string) (o []deploy.Output) {
		for _, t := range topics {
			o = append(o, deploy.Output{Name: t, Topic: t})
		}
		return o
	}
	return []member{
		{"same", "in", out("same"), copier(emission{0, 0})},
		{"fan", "in", out("fan.a", "fan.b"), copier(emission{0, 1}, emission{1, 2}, emission{0, 3})},
		{"first", "in", out("chain.1"), copier(emission{0, 4})},
		{"second", "chain.1", out("chain.2"), copier(emission{0, 5})},
		{"third", "chain.2", out("chain.3"), copier(emission{0, 6})},
		{"picky", "in", out("picky"), picky(emission{0, 7})},
	}
}

// fleetStreams are the outputs of a fleet. Upgrades of "same" mark its output differently.
func fleetStreams() []stream {
	return []stream{
		{"same", anyMark, all}, {"fan.a", 1, all}, {"fan.b", 2, all}, {"fan.a", 3, all},
		{"chain.1", 4, all}, {"chain.2", 5, all}, {"chain.3", 6, all},
		{"picky", 7, passed}, poisonStream(),
	}
}

// poisonStream is the dead letters of a fleet.
func poisonStream() stream { return stream{deploy.DeadLetterTopic("picky"), 0, poisoned} }

// createFleetTopics makes the topics that a fleet reads and writes, of small segments: what begins and
// ends with a segment happens often then.
func createFleetTopics(t *testing.T, brokers string, segmentBytes int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	within(t, 30*time.Second, "creating topics", func() error {
		made, err := kadm.NewClient(client).CreateTopics(t.Context(), fleetPartitions, -1, smallSegments(segmentBytes), "in", "same", "fan.a", "fan.b", "chain.1", "chain.2", "chain.3", "picky")
		return errors.Join(err, notMade(made))
	})
}

// notMade is why topics do not exist. One that does was made by a request whose answer got lost.
func notMade(made kadm.CreateTopicResponses) error {
	var errs []error
	for _, t := range made {
		if t.Err != nil && !errors.Is(t.Err, kerr.TopicAlreadyExists) {
			errs = append(errs, fmt.Errorf("topic %q: %w", t.Topic, t.Err))
		}
	}
	return errors.Join(errs...)
}

// deployFleet deploys all members by the admin API of a process.
func deployFleet(t *testing.T, adminURL, delivery string) {
	t.Helper()
	for _, m := range fleet() {
		m.deployNew(t, adminURL, delivery)
	}
}

// deployNew deploys a member in peace, which may have begun a moment ago: that its topics are new is not known to all
// of a cluster yet, and the process is not ready or takes too long.
func (m member) deployNew(t *testing.T, adminURL, delivery string) {
	t.Helper()
	within(t, time.Minute, "deploying "+m.name, func() error {
		err := m.deploy(t.Context(), adminURL, delivery)
		if p, ok := errors.AsType[*admin.Problem](err); err != nil && (!ok || p.Status != http.StatusConflict && p.Status < http.StatusInternalServerError) {
			t.Fatalf("deploying %s: %v", m.name, err)
		}
		return err
	})
}

func (m member) deploy(ctx context.Context, adminURL, delivery string) error {
	c, err := admin.NewClient(adminURL, nil)
	if err != nil {
		return err
	}
	retries := 1 // a trap of these modules comes again, and each try has a rest before it
	info, err := c.UploadModule(ctx, bytes.NewReader(m.module), int64(len(m.module)))
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	_, err = c.Deploy(ctx, admin.DeployRequest{Spec: deploy.Spec{
		Name: m.name, Module: info.Digest, Inputs: []string{m.input}, Outputs: m.outputs, Start: "earliest", Delivery: delivery, Retries: &retries,
	}})
	return err
}

func smallSegments(bytes int) map[string]*string {
	size := strconv.Itoa(bytes)
	return map[string]*string{"segment.bytes": &size}
}
