package suites

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// adminTools asks and changes with Kafka's own tools what they can of one server.
func adminTools(t *testing.T, j *jvm) {
	const records = 1_000
	j.topics(t, "1", "tools")
	produceVerifiably(t, j, "tools", records)
	for _, protocol := range []string{"classic", "consumer"} {
		j.run(t, time.Minute, kafkaTools+"VerifiableConsumer", "--bootstrap-server", j.server.brokers,
			"--topic", "tools", "--group-id", protocol, "--group-protocol", protocol, "--max-messages", "1000")
	}
	j.run(t, time.Minute, kafkaTools+"ProducerPerformance", "--topic", "idempotent", "--num-records", "5", "--record-size", "100",
		"--throughput", "-1", "--producer-props", "bootstrap.servers="+j.server.brokers)
	offsets := filepath.Join(t.TempDir(), "offsets.json")
	if err := os.WriteFile(offsets, []byte(`{"version":1,"partitions":[{"topic":"tools","partition":0,"offset":10}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	const groups = "consumer.group.ConsumerGroupCommand"
	for _, call := range []struct{ tool, args, prints string }{
		{"TopicCommand", "--alter --topic tools --partitions 2", ``},
		{"TopicCommand", "--describe --topic tools", `PartitionCount: 2\tReplicationFactor: 1`},
		{"consumer.ConsoleConsumer", "--topic tools --from-beginning --max-messages 1000 --isolation-level read_committed --timeout-ms 20000", `(?m)^999$`},
		{"DeleteRecordsCommand", "--offset-json-file " + offsets, `tools-0\tlow_watermark: 10`},
		{"GetOffsetShell", "--topic tools --time -1", `tools:0:1000\s+tools:1:0`},
		{"GetOffsetShell", "--topic tools --time -2", `tools:0:10\s`},
		{"GroupsCommand", "--list", `(?s)classic +Classic.*consumer +Consumer|consumer +Consumer.*classic +Classic`},
		{groups, "--describe --group classic", `classic +tools +0 +1000 +1000 +0 `},
		{groups, "--describe --group consumer --state", `consumer .* uniform +Empty`},
		{groups, "--group consumer --reset-offsets --to-earliest --topic tools --execute", `consumer +tools +0 +10 `},
		{groups, "--group classic --delete-offsets --topic tools", `tools +0 +Successful`},
		{groups, "--group classic --delete", `was successful`},
		{"StreamsResetter", "--application-id consumer --input-topics tools --to-offset 20 --force", `Topic: tools Partition: 0 Offset: 20`},
		{"TransactionsCommand", "list", `TransactionalId`},
		{"TransactionsCommand", "describe-producers --topic idempotent --partition 0", `(?m)\t4 +\t`},
		{"TransactionsCommand", "find-hanging --broker-id 1", `Duration`},
		{"LogDirsCommand", "--describe --topic-list tools", `"partition":"tools-0","size":[1-9]`},
		{"ClusterTool", "list-endpoints", `127\.0\.0\.1`},
		{"FeatureCommand", "describe", `transaction\.version.*FinalizedVersionLevel: 2`},
		{"MetadataQuorumCommand", "describe --status", `LeaderId: +1`},
		{"LeaderElectionCommand", "--election-type preferred --all-topic-partitions", ``},
		{"reassign.ReassignPartitionsCommand", "--list", `No partition reassignments found`},
		{"TopicCommand", "--delete --topic tools", ``},
	} {
		args := strings.Fields(call.args)
		where := []string{"--bootstrap-server", j.server.brokers}
		if call.tool == "ClusterTool" { // it wants its verb first
			args = append(args, where...)
		} else {
			args = append(where, args...)
		}
		printed := strings.Join(j.run(t, time.Minute, kafkaTools+call.tool, args...), "\n") + "\n"
		if !regexp.MustCompile(call.prints).MatchString(printed) {
			t.Errorf("%s %s does not print %s but\n%s", call.tool, call.args, call.prints, printed)
		}
	}
}
