package wire

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Wire forms of requests, for the guard. One line a request: key, first flexible
// version (-1: none), and the fields in wire order:
//
//	1 2 4 8 16   so many bytes
//	s            string, nullable or not: length of 2 bytes, flexible a varint
//	b            bytes, nullable or not: length of 4 bytes, flexible a varint
//	[N … ]       array, length as of b; each element takes N bytes once decoded (64-bit)
//	?( … )       presence byte, then the fields unless it is -1
//	t            tagged fields, in flexible versions
//	3+: 1-4: 2:  in front of a field: the versions that have it
//
// The source is the message definitions of Apache Kafka 4.3, as kmsg has them;
// the tests encode every key and version with kmsg and compare.
var guardForms = []struct {
	key          int16
	flexibleFrom int16
	fields       string
}{
	{0, 9, "3+:s 2 4 [64 0-12:s 13+:16 [40 4 b t ] t ] t"},                                                                                // Produce
	{1, 12, "0-14:4 4 4 3+:4 4+:1 7+:4 7+:4 [64 0-12:s 13+:16 [72 4 9+:4 8 12+:4 5+:8 4 t ] t ] 7+:[64 7-12:s 13+:16 [4 4 ] t ] 11+:s t"}, // Fetch
	{2, 6, "4 2+:1 [48 s [32 4 4+:4 8 0:4 t ] t ] 10+:4 t"},                                                                               // ListOffsets
	{3, 9, "[32 10+:16 0-9:s 10+:s t ] 4+:1 8-10:1 8+:1 t"},                                                                               // Metadata
	{8, 8, "s 1+:4 1+:s 7+:s 2-4:8 [64 0-9:s 10+:16 [48 4 8 1:8 6+:4 s t ] t ] t"},                                                        // OffsetCommit
	{9, 6, "0-7:s 0-7:[48 s [4 4 ] t ] 8+:[64 s 9+:s 9+:4 [64 8-9:s 10+:16 [4 4 ] t ] t ] 7+:1 t"},                                        // OffsetFetch
	{10, 3, "0-3:s 1+:1 4+:[16 s ] t"},                                                                                                    // FindCoordinator
	{11, 6, "s 4 1+:4 s 5+:s s [48 s b t ] 8+:s t"},                                                                                       // JoinGroup
	{12, 4, "s 4 s 3+:s t"},                                        // Heartbeat
	{13, 4, "s 0-2:s 3+:[40 s s 5+:s t ] t"},                       // LeaveGroup
	{14, 4, "s 4 s 3+:s 5+:s 5+:s [48 s b t ] t"},                  // SyncGroup
	{15, 5, "[16 s ] 3+:1 t"},                                      // DescribeGroups
	{16, 3, "4+:[16 s ] 5+:[16 s ] t"},                             // ListGroups
	{17, -1, "s"},                                                  // SASLHandshake
	{18, 3, "3+:s 3+:s 5+:s 5+:4 t"},                               // ApiVersions
	{19, 5, "[80 s 4 2 [40 4 [4 4 ] t ] [32 s s t ] t ] 4 1+:1 t"}, // CreateTopics
	{20, 4, "0-5:[16 s ] 6+:[32 s 16 t ] 4 t"},                     // DeleteTopics
	{21, 2, "[48 s [24 4 8 t ] t ] 4 t"},                           // DeleteRecords
	{22, 2, "s 4 3+:8 3+:2 t"},                                     // InitProducerID
	{23, 4, "3+:4 [48 s [24 4 2+:4 4 t ] t ] t"},                   // OffsetForLeaderEpoch
	{24, 3, "0-3:s 0-3:8 0-3:2 0-3:[48 s [4 4 ] t ] 4+:[64 s 8 2 1 [48 s [4 4 ] t ] t ] t"}, // AddPartitionsToTxn
	{25, 3, "s 8 2 s t"}, // AddOffsetsToTxn
	{26, 3, "s 8 2 1 t"}, // EndTxn
	{27, 1, "[56 8 2 1 [48 s [4 4 ] t ] 4 2+:1 t ] t"},                         // WriteTxnMarkers
	{28, 3, "s s 8 2 3+:4 3+:s 3+:s [64 0-5:s 6+:16 [40 4 8 2+:4 s t ] t ] t"}, // TxnOffsetCommit
	{29, 2, "1 s 1+:1 s s 1 1 t"},                                              // DescribeACLs
	{30, 2, "[80 1 s 1+:1 s s 1 1 t ] t"},                                      // CreateACLs
	{31, 2, "[56 1 s 1+:1 s s 1 1 t ] t"},                                      // DeleteACLs
	{32, 4, "[56 1 s [16 s ] t ] 1+:1 3+:1 t"},                                 // DescribeConfigs
	{33, 2, "[56 1 s [32 s s t ] t ] 1 t"},                                     // AlterConfigs
	{34, 2, "[48 s [48 s [4 4 ] t ] t ] t"},                                    // AlterReplicaLogDirs
	{35, 2, "[48 s [4 4 ] t ] t"},                                              // DescribeLogDirs
	{36, 2, "b t"},                                                             // SASLAuthenticate
	{37, 2, "[56 s 4 [32 [4 4 ] t ] t ] 4 1 t"},                                // CreatePartitions
	{42, 2, "[16 s ] t"},                                                       // DeleteGroups
	{43, 2, "1+:1 [48 s [4 4 ] t ] 4 t"},                                       // ElectLeaders
	{44, 1, "[56 1 s [40 s 1 s t ] t ] 1 t"},                                   // IncrementalAlterConfigs
	{45, 0, "4 1+:1 [48 s [40 4 [4 4 ] t ] t ] t"},                             // AlterPartitionAssignments
	{46, 0, "4 [48 s [4 4 ] t ] t"},                                            // ListPartitionReassignments
	{47, -1, "s [40 s [4 4 ] ]"},                                               // OffsetDelete
	{50, 0, "[24 s t ] t"},                                                     // DescribeUserSCRAMCredentials
	{51, 0, "[32 s 1 t ] [80 s 1 4 b b t ] t"},                                 // AlterUserSCRAMCredentials
	{55, 0, "[48 s [16 4 t ] t ] t"},                                           // DescribeQuorum
	{57, 0, "4 [32 s 2 0:1 1+:1 t ] 1+:1 t"},                                   // UpdateFeatures
	{60, 0, "1 1+:1 2+:1 t"},                                                   // DescribeCluster
	{61, 0, "[48 s [4 4 ] t ] t"},                                              // DescribeProducers
	{65, 0, "[16 s ] t"},                                                       // DescribeTransactions
	{66, 0, "[16 s ] [8 8 ] 1+:8 2+:s t"},                                      // ListTransactions
	{68, 0, "s s 4 s s 4 [16 s ] 1+:s s [48 16 [4 4 ] t ] t"},                  // ConsumerGroupHeartbeat
	{69, 0, "[16 s ] 1 t"},                                                     // ConsumerGroupDescribe
	{74, 0, "1+:[1 1 ] t"},                                                     // ListConfigResources
	{75, 0, "[24 s t ] 4 ?( s 4 t ) t"},                                        // DescribeTopicPartitions
}

// form is the wire form of one request.
type form struct {
	flexibleFrom int16
	fields       []field
}

type fieldKind byte

const (
	fixedField fieldKind = iota
	stringField
	bytesField
	arrayField
	optionalField
	tagsField
)

// field is one field of a form.
type field struct {
	kind     fieldKind
	from, to int16 // versions that have it
	size     int   // fixed: bytes on the wire; array: bytes of a decoded element
	fields   []field
}

// forms returns the forms by key; nil where the guard knows none.
var forms = sync.OnceValue(func() []*form {
	var byKey []*form
	for _, f := range guardForms {
		for int(f.key) >= len(byKey) {
			byKey = append(byKey, nil)
		}
		p := formParser{tokens: strings.Fields(f.fields)}
		byKey[f.key] = &form{flexibleFrom: f.flexibleFrom, fields: p.fields("")}
		if p.err != nil || len(p.tokens) > 0 {
			panic(fmt.Sprintf("wire form of request key %d: %v, %q is left", f.key, p.err, p.tokens)) // a bug in the table
		}
	}
	return byKey
})

// formParser reads the text of a form.
type formParser struct {
	tokens []string
	err    error
}

// fields reads up to the closing token.
func (p *formParser) fields(closing string) (list []field) {
	for len(p.tokens) > 0 && p.err == nil {
		token := p.tokens[0]
		p.tokens = p.tokens[1:]
		if token == closing {
			return list
		}
		list = append(list, p.field(token))
	}
	if closing != "" && p.err == nil {
		p.err = fmt.Errorf("%s is missing", closing)
	}
	return list
}

const maxVersion = 1<<15 - 1

func (p *formParser) field(token string) field {
	f := field{to: maxVersion}
	if versions, rest, ok := strings.Cut(token, ":"); ok {
		token = rest
		from, to, isRange := strings.Cut(versions, "-")
		f.from = p.version(strings.TrimSuffix(from, "+"))
		switch {
		case isRange:
			f.to = p.version(to)
		case !strings.HasSuffix(from, "+"):
			f.to = f.from
		}
	}
	switch {
	case token == "s":
		f.kind = stringField
	case token == "b":
		f.kind = bytesField
	case token == "t":
		f.kind = tagsField
	case token == "?(":
		f.kind = optionalField
		f.fields = p.fields(")")
	case strings.HasPrefix(token, "["):
		f.kind = arrayField
		f.size = int(p.version(token[1:]))
		f.fields = p.fields("]")
	default:
		f.kind = fixedField
		f.size = int(p.version(token))
	}
	return f
}

func (p *formParser) version(s string) int16 {
	n, err := strconv.ParseInt(s, 10, 16)
	if err != nil && p.err == nil {
		p.err = err
	}
	return int16(n)
}
