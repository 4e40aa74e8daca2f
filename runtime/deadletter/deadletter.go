// Package deadletter is the envelope of a record that a deployment could not
// process. The dead letter keeps the record's key, value, headers and timestamp
// as they were and says in added headers what failed and where it came
// from, so that it can be looked at, mended and sent again with any Kafka tool.
//
// Values are pure: no clock, no state.
package deadletter

import (
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
)

// Headers added to a dead letter; all values are UTF-8 text.
const (
	HeaderReason     = "millstream.error.reason"     // a sentence
	HeaderKind       = "millstream.error.kind"       // one of the kinds below
	HeaderDeployment = "millstream.deployment"       // name
	HeaderModule     = "millstream.module"           // digest, "sha256:…"
	HeaderTopic      = "millstream.source.topic"     // input topic
	HeaderPartition  = "millstream.source.partition" // decimal
	HeaderOffset     = "millstream.source.offset"    // decimal
	// HeaderCut is there when the record was too large for the dead letter topic: its value and
	// own headers are left out, this says how many bytes the value had. The record is still in its source.
	HeaderCut = "millstream.value.cut"
	// HeaderKeyCut is there when not even the key had room: it says how many bytes the key had, -1 for none.
	HeaderKeyCut = "millstream.key.cut"
)

// Kinds of failures. A trap has the kind "trap/" and its host.TrapKind.
const (
	KindReject   = "reject"    // the module's own verdict
	KindTooLarge = "too-large" // an output is over its topic's max.message.bytes
	KindInvalid  = "invalid"   // an output breaks another rule of its topic: no key for a compacted one
	kindTrap     = "trap/"
)

// KindOf names the failure of a trap.
func KindOf(k host.TrapKind) string { return kindTrap + string(k) }

// maxReasonBytes bounds what a guest can make a header carry.
const maxReasonBytes = 4 << 10

// stubReasonBytes is how much of a reason a stub has.
const stubReasonBytes = 100

// MaxMessageBytes is the max.message.bytes of a dead letter topic when it is
// created: an input record of the default limit and its envelope have ample room.
const MaxMessageBytes = 8 << 20

// Source tells whose failures an envelope reports.
type Source struct {
	Deployment string
	Module     string // digest
}

// Failure is why a record could not be processed.
type Failure struct {
	Kind   string
	Reason string
}

// Envelope returns the dead letter of r, read from tp. It shares the bytes of r.
// Envelope headers of an earlier failure are replaced.
func (s Source) Envelope(tp engine.TopicPartition, r engine.Record, f Failure) engine.Record {
	headers := make([]engine.Header, 0, len(r.Headers)+8)
	for _, h := range r.Headers {
		if !isOurs(h.Name) {
			headers = append(headers, h)
		}
	}
	r.Headers = append(headers, s.headers(tp, r.Offset, f)...)
	return r
}

// Cut returns the dead letter of r without its value and own headers, for a topic that does not take it whole.
func (s Source) Cut(tp engine.TopicPartition, r engine.Record, f Failure) engine.Record {
	headers := s.headers(tp, r.Offset, f)
	r.Headers = append(headers, engine.Header{Name: HeaderCut, Value: strconv.AppendInt(nil, int64(len(r.Value)), 10)})
	r.Value = nil
	return r
}

// Stub returns what is left of the dead letter of r when it is too large even without its value and own
// headers: the key is left out, too, and the reason is short.
func (s Source) Stub(tp engine.TopicPartition, r engine.Record, f Failure) engine.Record {
	if len(f.Reason) > stubReasonBytes {
		f.Reason = f.Reason[:stubReasonBytes] + "…"
	}
	stub := s.Cut(tp, r, f)
	bytes := int64(len(r.Key))
	if r.Key == nil {
		bytes = -1
	}
	stub.Key, stub.Headers = nil, append(stub.Headers, engine.Header{Name: HeaderKeyCut, Value: strconv.AppendInt(nil, bytes, 10)})
	return stub
}

func (s Source) headers(tp engine.TopicPartition, offset int64, f Failure) []engine.Header {
	return []engine.Header{
		{Name: HeaderReason, Value: []byte(clean(f.Reason))},
		{Name: HeaderKind, Value: []byte(f.Kind)},
		{Name: HeaderDeployment, Value: []byte(s.Deployment)},
		{Name: HeaderModule, Value: []byte(s.Module)},
		{Name: HeaderTopic, Value: []byte(tp.Topic)},
		{Name: HeaderPartition, Value: strconv.AppendInt(nil, int64(tp.Partition), 10)},
		{Name: HeaderOffset, Value: strconv.AppendInt(nil, offset, 10)},
	}
}

func isOurs(name string) bool {
	switch name {
	case HeaderReason, HeaderKind, HeaderDeployment, HeaderModule, HeaderTopic, HeaderPartition, HeaderOffset, HeaderCut, HeaderKeyCut:
		return true
	}
	return false
}

// clean makes a guest's reason fit for a header: bounded and valid UTF-8.
func clean(reason string) string {
	if len(reason) > maxReasonBytes {
		reason = reason[:maxReasonBytes] + "…"
	}
	return strings.ToValidUTF8(reason, "�")
}
