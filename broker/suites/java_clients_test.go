package suites

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clientCompatibility calls nearly everything that a client and an admin client can.
func clientCompatibility(t *testing.T, j *jvm) {
	j.topics(t, "1", "compatibility")
	lines := j.run(t, time.Minute, kafkaTools+"ClientCompatibilityTest", "--bootstrap-server", j.server.brokers,
		"--topic", "compatibility", "--num-cluster-nodes", "1", "--create-topics-supported", "true",
		"--offsets-for-times-supported", "true", "--cluster-id-supported", "true",
		"--expect-record-too-large-exception", "false", "--describe-acls-supported", "false",
		"--describe-configs-supported", "true", "--idempotent-producer-supported", "true")
	if matches(lines, regexp.MustCompile(`^SUCCESS`)) != 1 {
		t.Errorf("no SUCCESS: %q", lines)
	}
}

// produceVerifiably writes the numbers from 0 on, each as the value of a record, and checks that all were acknowledged.
func produceVerifiably(t *testing.T, j *jvm, topic string, records int) {
	t.Helper()
	lines := j.run(t, time.Minute, kafkaTools+"VerifiableProducer", "--bootstrap-server", j.server.brokers,
		"--topic", topic, "--max-messages", strconv.Itoa(records), "--acks", "-1")
	var summary struct{ Sent, Acked int }
	for _, l := range lines {
		if !strings.Contains(l, `"name":"tool_data"`) {
			continue
		}
		if err := json.Unmarshal([]byte(l), &summary); err != nil {
			t.Fatal(err)
		}
	}
	if summary.Sent != records || summary.Acked != records {
		t.Fatalf("of %d records %d were sent and %d acknowledged", records, summary.Sent, summary.Acked)
	}
}

// verifiableClients reads in groups of both protocols what was acknowledged.
func verifiableClients(t *testing.T, j *jvm) {
	const records = 100_000
	j.topics(t, "4", "verifiable")
	produceVerifiably(t, j, "verifiable", records)
	for _, protocol := range []string{"classic", "consumer"} {
		lines := j.run(t, time.Minute, kafkaTools+"VerifiableConsumer", "--bootstrap-server", j.server.brokers,
			"--topic", "verifiable", "--group-id", protocol, "--group-protocol", protocol, "--max-messages", strconv.Itoa(records))
		consumed := 0
		for _, l := range lines {
			var event struct {
				Name  string
				Count int
			}
			if err := json.Unmarshal([]byte(l), &event); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			if event.Name == "records_consumed" {
				consumed += event.Count
			}
		}
		if consumed != records {
			t.Errorf("group protocol %s: %d of %d records were read", protocol, consumed, records)
		}
		if n := matches(lines, regexp.MustCompile(`"offsets_committed".*"success":true`)); n == 0 {
			t.Errorf("group protocol %s: nothing was committed", protocol)
		}
	}
}

// performance runs the tools for throughput; their numbers go to the log.
func performance(t *testing.T, j *jvm) {
	const records = "200000"
	j.topics(t, "4", "performance")
	lines := j.run(t, time.Minute, kafkaTools+"ProducerPerformance", "--topic", "performance", "--num-records", records, "--record-size", "100",
		"--throughput", "-1", "--producer-props", "bootstrap.servers="+j.server.brokers, "acks=all", "linger.ms=5")
	t.Log(lines[len(lines)-1])
	if !strings.HasPrefix(lines[len(lines)-1], records+" records sent") {
		t.Error("not all records were sent")
	}
	lines = j.run(t, time.Minute, kafkaTools+"ConsumerPerformance", "--bootstrap-server", j.server.brokers, "--topic", "performance", "--messages", records)
	t.Log(strings.Join(lines, "\n"))
	if !strings.Contains(lines[len(lines)-1], " "+records+",") {
		t.Error("not all records were read")
	}
}

// copied is a line of the copier about a transaction that ended.
var copied = regexp.MustCompile(`"totalProcessed":[1-9]`)

// transactionalCopier copies a partition in transactions of which some are
// aborted, while the server and the copier are killed. The copy has each record once, in order.
func transactionalCopier(t *testing.T, j *jvm) {
	const records = 33_333
	j.topics(t, "1", "in", "out")
	produceVerifiably(t, j, "in", records)
	start := func() *process {
		return j.start(t, kafkaTools+"TransactionalMessageCopier", "--broker-list", j.server.brokers,
			"--input-topic", "in", "--input-partition", "0", "--output-topic", "out", "--consumer-group", "copier", "--transactional-id", "copier",
			"--transaction-size", "250", "--transaction-timeout", "10000", "--enable-random-aborts", "--group-mode", "--use-group-metadata")
	}
	copier := start()
	copier.await(t, time.Minute, copied, 15)
	j.server.crash(t)
	checkOrder(t, consume(t, j.server.brokers, "out"))
	copier.await(t, time.Minute, copied, 35)
	copier.kill()
	copier = start()
	checkOrder(t, consume(t, j.server.brokers, "out"))
	copier.await(t, 2*time.Minute, copied, 10)
	j.server.crash(t)
	if err := copier.wait(t, 2*time.Minute); err != nil {
		t.Fatalf("the copier ended with %v, its log is %s", err, copier.log)
	}
	values := consume(t, j.server.brokers, "out")
	checkOrder(t, values)
	if len(values) != records {
		t.Errorf("%d records were copied, not %d", len(values), records)
	}
	if all := consume(t, j.server.brokers, "out", "--isolation", "read_uncommitted"); len(all) <= records {
		t.Errorf("the log holds %d records: no transaction was aborted, so nothing is proved", len(all))
	}
}

// checkOrder compares what was copied with the numbers from 0 on: none is missing, none comes twice.
func checkOrder(t *testing.T, values []string) {
	t.Helper()
	for i, v := range values {
		if v != strconv.Itoa(i) {
			t.Errorf("record %d is %q", i, v)
			return
		}
	}
}
