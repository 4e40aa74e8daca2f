package kafka

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millstream-io/millstream/broker/suites/kafkacluster"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/enginetest"
)

// TestKafkaClusterContract runs the engine over three nodes of Apache Kafka.
func TestKafkaClusterContract(t *testing.T) {
	brokers := clusterBrokers(t)
	for name, delivery := range deliveries {
		t.Run(name, func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Subject {
				t.Cleanup(func() { empty(t, brokers) })
				return subject(t, brokers, delivery)
			})
		})
	}
}

// TestKafkaClusterOlder runs the engine over clusters that have transactions as they were before KIP-890: of this release, and of
// the last before 4.0.
func TestKafkaClusterOlder(t *testing.T) {
	wantCluster(t)
	for name, option := range map[string]kafkacluster.Option{
		"transactions 0": kafkacluster.Feature("transaction.version", 0),
		"Kafka 3.9":      kafkacluster.Version("3.9.1"),
	} {
		t.Run(name, func(t *testing.T) {
			brokers := kafkacluster.Start(t, kafkacluster.OneNode(), option).Brokers()
			if k := openEngine(t, Options{Brokers: brokers}); k.implicit {
				t.Fatal("the cluster has newer transactions")
			}
			enginetest.Run(t, func(t *testing.T) enginetest.Subject {
				t.Cleanup(func() { empty(t, brokers) })
				return subject(t, brokers, engine.ExactlyOnce)
			})
		})
	}
}

// envCluster asks for the tests over Apache Kafka, which take minutes: "start" starts a cluster for each, addresses with
// commas name one that runs already (make kafka-cluster), whose topics are all deleted.
const envCluster = "MILLSTREAM_KAFKA_CLUSTER"

func clusterBrokers(t *testing.T) []string {
	if running := wantCluster(t); running != "start" {
		return strings.Split(running, ",")
	}
	// What is too old for its topic goes at once, not at some time in the midst of a test.
	return kafkacluster.Start(t, kafkacluster.Property("log.retention.check.interval.ms", "1000"),
		kafkacluster.Property("log.initial.task.delay.ms", "0")).Brokers()
}

func wantCluster(t *testing.T) string {
	wanted := os.Getenv(envCluster)
	if wanted == "" {
		t.Skipf("NOT RUN: it takes minutes; %s=start runs it", envCluster)
	}
	return wanted
}

// empty deletes all topics and groups of a cluster.
func empty(t *testing.T, brokers []string) {
	t.Helper()
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range groups.Groups() {
		if err := newCluster(client).awaitStable(ctx, group); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.DeleteGroups(ctx, groups.Groups()...); err != nil {
		t.Fatal(err)
	}
	for {
		topics, err := admin.ListTopicsWithInternal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, name := range topics.Names() {
			if !strings.HasPrefix(name, "__") {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			return
		}
		if _, err := admin.DeleteTopics(ctx, names...); err != nil {
			t.Fatal(err)
		}
	}
}
