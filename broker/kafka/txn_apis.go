package kafka

import "github.com/twmb/franz-go/pkg/kmsg"

// txnAPIs are the rows of the requests that the transaction coordinator answers.
func txnAPIs() []api {
	return []api{
		{22, "InitProducerId", 0, 5, 0, (*Service).initProducerID, "idempotent and transactional producers"},
		{24, "AddPartitionsToTxn", 0, 3, 0, (*Service).addPartitionsToTxn, "v4 and up are for brokers among themselves"},
		{25, "AddOffsetsToTxn", 0, 4, 0, (*Service).addOffsetsToTxn, ""},
		{26, "EndTxn", 0, 5, 0, (*Service).endTxn, "answered when all markers are durable; v5 grows the epoch (KIP-890)"},
		{27, "WriteTxnMarkers", 1, 1, 1, (*Service).writeTxnMarkers, "aborts only, for administrators"},
		{28, "TxnOffsetCommit", 0, 6, 0, (*Service).txnOffsetCommit, "v5 adds the group to the transaction (KIP-890)"},
		{61, "DescribeProducers", 0, 0, 0, (*Service).describeProducers, ""},
		{65, "DescribeTransactions", 0, 0, 0, (*Service).describeTransactions, ""},
		{66, "ListTransactions", 0, 2, 0, (*Service).listTransactions, ""},
	}
}

// feature is one that clients switch on by its finalized level (KIP-584).
type feature struct {
	name     string
	min, max int16 // supported
	level    int16 // finalized
}

// features are told from ApiVersions v3 on.
func features() []feature {
	return []feature{
		// At level 2 clients write without AddPartitionsToTxn, and every transaction has an epoch of its own.
		{"transaction.version", 0, 2, 2},
		// At level 1 clients may use the consumer group protocol (KIP-848).
		{"group.version", 0, 1, 1},
	}
}

// featuresEpoch is the version of the finalized features, which never change.
const featuresEpoch = 0

// addFeatures tells the features. Clients before v4 take a supported feature
// with a minimum of 0 for an error (KAFKA-17011): they are told of it as finalized only.
func addFeatures(resp *kmsg.ApiVersionsResponse) {
	resp.FinalizedFeaturesEpoch = featuresEpoch
	for _, f := range features() {
		if f.min > 0 || resp.Version >= 4 {
			s := kmsg.NewApiVersionsResponseSupportedFeature()
			s.Name, s.MinVersion, s.MaxVersion = f.name, f.min, f.max
			resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		}
		l := kmsg.NewApiVersionsResponseFinalizedFeature()
		l.Name, l.MinVersionLevel, l.MaxVersionLevel = f.name, f.level, f.level
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, l)
	}
}
