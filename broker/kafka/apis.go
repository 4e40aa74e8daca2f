package kafka

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const keyApiVersions = 18

// apis are all rows of requests that are served, sorted by key.
func apis() []api {
	rows := []api{
		{0, "Produce", 3, 13, 0, (*Service).produce, "acks=all after fsync; versions 0 to 2 are listed and not served: old librdkafka compresses only then; v12 adds the partition to the transaction (KIP-890)"},
		{1, "Fetch", 4, 18, 4, (*Service).fetch, "long poll wakes on append; incremental fetches in sessions"},
		{2, "ListOffsets", 1, 11, 1, (*Service).listOffsets, "all special timestamps; no tiered storage"},
		{3, "Metadata", 0, 13, 0, (*Service).metadata, "creates topics where server and request allow it"},
		{keyApiVersions, "ApiVersions", 0, 4, 0, (*Service).apiVersions, "transaction.version 2 is finalized"},
		{19, "CreateTopics", 2, 7, 2, (*Service).createTopics, "replication factors above 1 are accepted, 1 is kept"},
		{20, "DeleteTopics", 1, 6, 1, (*Service).deleteTopics, ""},
		{21, "DeleteRecords", 0, 2, 0, (*Service).deleteRecords, ""},
		{23, "OffsetForLeaderEpoch", 2, 4, 2, (*Service).offsetForLeaderEpoch, "the leader epoch is always 0"},
		{32, "DescribeConfigs", 1, 4, 1, (*Service).describeConfigs, "topics, the broker, groups"},
		{33, "AlterConfigs", 0, 2, 0, (*Service).alterConfigs, "topics and groups"},
		{34, "AlterReplicaLogDirs", 1, 2, 1, (*Service).alterReplicaLogDirs, "there is one directory"},
		{35, "DescribeLogDirs", 1, 5, 1, (*Service).describeLogDirs, ""},
		{37, "CreatePartitions", 0, 3, 0, (*Service).createPartitions, ""},
		{43, "ElectLeaders", 0, 2, 0, (*Service).electLeaders, "never needed: one broker leads all"},
		{44, "IncrementalAlterConfigs", 0, 1, 0, (*Service).incrementalAlterConfigs, "topics and groups"},
		{45, "AlterPartitionReassignments", 0, 1, 0, (*Service).alterPartitionReassignments, "to the one broker only"},
		{46, "ListPartitionReassignments", 0, 0, 0, (*Service).listPartitionReassignments, "there is never one"},
		{55, "DescribeQuorum", 0, 2, 0, (*Service).describeQuorum, "a quorum of one"},
		{57, "UpdateFeatures", 0, 2, 0, (*Service).updateFeatures, "to the levels that are there"},
		{60, "DescribeCluster", 0, 2, 0, (*Service).describeCluster, "one broker, which is the controller"},
		{74, "ListConfigResources", 0, 1, 0, (*Service).listConfigResources, "v0 is for client metrics, of which there are none"},
		{75, "DescribeTopicPartitions", 0, 0, 0, (*Service).describeTopicPartitions, "in pages of 2000 partitions"},
	}
	rows = append(rows, groupAPIs()...)
	rows = append(rows, txnAPIs()...)
	slices.SortFunc(rows, func(a, b api) int { return cmp.Compare(a.key, b.key) })
	return rows
}

// api returns the row of a key, nil if the request is not served.
func (s *Service) api(key int16) *api {
	s.tableOnce.Do(func() {
		s.table = make([]*api, kmsg.MaxKey+1)
		for _, a := range apis() {
			s.table[a.key] = &a
		}
	})
	if key < 0 || int(key) >= len(s.table) {
		return nil
	}
	return s.table[key]
}

// Name returns the name of a request by its key, "" if it is not served.
func (s *Service) Name(key int16) string {
	if a := s.api(key); a != nil {
		return a.name
	}
	return ""
}

// supportedTable is the table of SUPPORTED.md.
func supportedTable() string {
	var b strings.Builder
	b.WriteString("# Served requests\n\nWritten by `go test ./broker/kafka -run Supported -update` from the table in apis.go.\n\n")
	b.WriteString("| key | request | versions | notes |\n|--:|---|---|---|\n")
	for _, a := range apis() {
		versions := fmt.Sprint(a.min)
		if a.max > a.min {
			versions = fmt.Sprintf("%d–%d", a.min, a.max)
		}
		if a.advertisedMin != a.min {
			versions += fmt.Sprintf(", listed from %d", a.advertisedMin)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", a.key, a.name, versions, a.notes)
	}
	return b.String()
}
