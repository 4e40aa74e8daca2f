package deadletter_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/engine"
)

func TestOpenUndoesEnvelope(t *testing.T) {
	record := engine.Record{
		Offset: 42, Timestamp: 7, Key: []byte("k"), Value: []byte("v"),
		Headers: []engine.Header{{Name: "own", Value: []byte("1")}, {Name: "own"}},
	}
	source := deadletter.Source{Deployment: "d", Module: "sha256:ab"}
	from := engine.TopicPartition{Topic: "in", Partition: 3}
	failure := deadletter.Failure{Kind: deadletter.KindReject, Reason: "no"}

	l, err := deadletter.Open(source.Envelope(from, record, failure))
	if err != nil {
		t.Fatal(err)
	}
	if l.Failure != failure || l.Source != source || l.From != from || l.Offset != 42 || l.CutBytes != -1 {
		t.Errorf("letter is %+v", l)
	}
	if !reflect.DeepEqual(l.Record, record) {
		t.Errorf("got  %+v\nwant %+v", l.Record, record)
	}

	l, err = deadletter.Open(source.Cut(from, record, failure))
	if err != nil || l.CutBytes != 1 || l.Record.Value != nil || string(l.Record.Key) != "k" || l.Offset != 42 {
		t.Errorf("cut: %+v, %v", l, err)
	}
	failure.Reason = strings.Repeat("r", 4000)
	stub := source.Stub(from, record, failure)
	l, err = deadletter.Open(stub)
	if err != nil || l.CutBytes != 1 || !l.KeyCut || l.Record.Key != nil || l.Record.Value != nil || len(l.Record.Headers) != 0 || l.Offset != 42 {
		t.Errorf("stub: %+v, %v", l, err)
	}
	bytes := 0
	for _, h := range stub.Headers {
		bytes += len(h.Name) + len(h.Value)
	}
	if bytes > 512 {
		t.Errorf("a stub has %d bytes of headers", bytes)
	}
}

func TestWhatIsSentAgainSaysSoOnce(t *testing.T) {
	source := deadletter.Source{Deployment: "d"}
	record := engine.Record{Value: []byte("v"), Headers: []engine.Header{{Name: "own"}}}
	for _, letter := range []string{"d.dlq/0@1", "d.dlq/0@2"} {
		l, err := deadletter.Open(source.Envelope(engine.TopicPartition{Topic: "in"}, record, deadletter.Failure{}))
		if err != nil {
			t.Fatal(err)
		}
		record = l.Again(letter)
		want := []engine.Header{{Name: "own"}, {Name: deadletter.HeaderRetryOf, Value: []byte(letter)}}
		if !reflect.DeepEqual(record.Headers, want) {
			t.Errorf("got %v, want %v", record.Headers, want)
		}
	}
}

func TestRecordsWithoutEnvelopeAreNoLetters(t *testing.T) {
	whole := deadletter.Source{}.Cut(engine.TopicPartition{Topic: "in"}, engine.Record{}, deadletter.Failure{}).Headers
	for _, name := range []string{deadletter.HeaderTopic, deadletter.HeaderPartition, deadletter.HeaderOffset, deadletter.HeaderCut} {
		for _, bad := range []string{"", "-1", "99999999999999999999"} {
			if name == deadletter.HeaderTopic && bad != "" {
				continue // a topic may be called anything
			}
			var headers []engine.Header
			for _, h := range whole {
				if h.Name == name {
					h.Value = []byte(bad)
				}
				headers = append(headers, h)
			}
			if _, err := deadletter.Open(engine.Record{Headers: headers}); !errors.Is(err, deadletter.ErrNoLetter) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s = %q: got %v", name, bad, err)
			}
		}
	}
}
