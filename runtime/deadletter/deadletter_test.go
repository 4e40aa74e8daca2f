package deadletter

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
)

func TestEnvelope(t *testing.T) {
	source := Source{Deployment: "es", Module: "sha256:abc"}
	tp := engine.TopicPartition{Topic: "notes", Partition: 3}
	record := engine.Record{
		Offset: 42, Timestamp: 1234, Key: []byte("k"), Value: []byte{},
		Headers: []engine.Header{{Name: "own", Value: []byte("x")}, {Name: "null"}, {Name: HeaderReason, Value: []byte("an earlier failure")}},
	}
	failure := Failure{Kind: KindOf(host.TrapFuel), Reason: "too slow"}
	added := []engine.Header{
		{Name: "millstream.error.reason", Value: []byte("too slow")},
		{Name: "millstream.error.kind", Value: []byte("trap/fuel")},
		{Name: "millstream.deployment", Value: []byte("es")},
		{Name: "millstream.module", Value: []byte("sha256:abc")},
		{Name: "millstream.source.topic", Value: []byte("notes")},
		{Name: "millstream.source.partition", Value: []byte("3")},
		{Name: "millstream.source.offset", Value: []byte("42")},
	}
	want := record
	want.Headers = append([]engine.Header{{Name: "own", Value: []byte("x")}, {Name: "null"}}, added...)
	if diff := cmp.Diff(want, source.Envelope(tp, record, failure)); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
	record.Value = []byte("12345")
	want = engine.Record{Offset: 42, Timestamp: 1234, Key: []byte("k"), Headers: append(added, engine.Header{Name: HeaderCut, Value: []byte("5")})}
	if diff := cmp.Diff(want, source.Cut(tp, record, failure)); diff != "" {
		t.Errorf("cut envelope (-want +got):\n%s", diff)
	}
}

func TestReasonsAreBoundedAndText(t *testing.T) {
	for _, reason := range []string{strings.Repeat("ä", 100_000), "\xff\xfe", strings.Repeat("\xf0\x9f", 5000)} {
		r := Source{}.Envelope(engine.TopicPartition{}, engine.Record{}, Failure{Reason: reason})
		if got := r.Headers[0].Value; len(got) > 3*maxReasonBytes || !utf8.Valid(got) {
			t.Errorf("reason of %d bytes is told in %d bytes, valid text: %v", len(reason), len(got), utf8.Valid(got))
		}
	}
}
