package records

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseDocument(t *testing.T) {
	header := func(k string, v []byte) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: v} }
	for line, want := range map[string]*kgo.Record{
		`{}`:                                 {},
		`{"key":null,"value":""}`:            {Value: []byte{}},
		`{"key":1,"value":{"a": [1, true]}}`: {Key: []byte("1"), Value: []byte(`{"a":[1,true]}`)},
		`{"key_base64":"/w==","value_base64":""}`:                   {Key: []byte{0xff}, Value: []byte{}},
		`{"value":"\u00e9","timestamp":"2026-01-02T03:04:05.678Z"}`: {Value: []byte("é"), Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)},
		`{"timestamp":1500}`:                                        {Timestamp: time.UnixMilli(1500)},
		`{"headers":{"b":"1","a":null}}`:                            {Headers: []kgo.RecordHeader{header("b", []byte("1")), header("a", nil)}},
		`{"headers":[{"key":"a","value":"1"},{"key":"a"},{"key":"b","value_base64":"/w=="}]}`: {
			Headers: []kgo.RecordHeader{header("a", []byte("1")), header("a", nil), header("b", []byte{0xff})},
		},
		`{"topic":"x","partition":3,"offset":9,"value":"v"}`: {Value: []byte("v")},
	} {
		got, err := parseDocument([]byte(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if !got.Timestamp.Equal(want.Timestamp) {
			t.Errorf("%s: timestamp %s, want %s", line, got.Timestamp, want.Timestamp)
		}
		for _, d := range []string{cmp.Diff(want.Key, got.Key), cmp.Diff(want.Value, got.Value), cmp.Diff(want.Headers, got.Headers)} {
			if d != "" {
				t.Errorf("%s: %s", line, d)
			}
		}
	}
	for _, line := range []string{
		``, `[]`, `"x"`, `{"valu":1}`, `{} {}`, `{"key_base64":"?"}`, `{"timestamp":"noon"}`, `{"timestamp":1.5}`, `{"timestamp":true}`, `{"headers":1}`, `{"headers":[1]}`,
	} {
		if r, err := parseDocument([]byte(line)); err == nil {
			t.Errorf("%s: got %+v, want an error", line, r)
		}
	}
}

// FuzzDocument: what consume prints of any record, produce reads back to the same bytes.
func FuzzDocument(f *testing.F) {
	f.Add([]byte("k"), []byte("\xff"), "h", []byte(nil), int64(1))
	f.Fuzz(func(t *testing.T, key, value []byte, name string, header []byte, ms int64) {
		const tenThousandYears = 253402300799999
		in := &kgo.Record{Key: key, Value: value, Timestamp: time.UnixMilli(max(0, min(ms, tenThousandYears)))}
		if name == strings.ToValidUTF8(name, "?") {
			in.Headers = []kgo.RecordHeader{{Key: name, Value: header}}
		}
		line, err := json.Marshal(newDocument(in))
		if err != nil {
			t.Fatal(err)
		}
		out, err := parseDocument(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		same := func(a, b []byte) bool {
			// An empty text that is given in base64 or as a string stays empty; null stays null.
			return bytes.Equal(a, b) && (a == nil) == (b == nil)
		}
		if !same(in.Key, out.Key) || !same(in.Value, out.Value) || !in.Timestamp.Equal(out.Timestamp) || len(in.Headers) != len(out.Headers) {
			t.Fatalf("%s: got %+v, want %+v", line, out, in)
		}
		for i, h := range in.Headers {
			if h.Key != out.Headers[i].Key || !same(h.Value, out.Headers[i].Value) {
				t.Fatalf("%s: header %+v, want %+v", line, out.Headers[i], h)
			}
		}
	})
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	input := "a\r\n\n" + long + "\nlast"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(input), "by byte": iotest.OneByteReader(strings.NewReader(input))} {
		l := readLines(t.Context(), r)
		var got []string
		for line := range l.next {
			if line == nil {
				t.Errorf("%s: a line is nil, which would be a null value", name)
			}
			got = append(got, string(line))
		}
		if d := cmp.Diff([]string{"a", "", long, "last"}, got); d != "" || l.err != nil {
			t.Errorf("%s: %v\n%s", name, l.err, d)
		}
	}
	l := readLines(t.Context(), io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(errors.New("broken pipe"))))
	for range l.next {
	}
	if l.err == nil || l.err.Error() != "line 2: broken pipe" {
		t.Errorf("got %v", l.err)
	}
}

func TestDeliveryGivesUpWithoutProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDelivery(t.Context())
		defer d.close()
		time.Sleep(2 * stallTimeout) // bubble: an idle terminal is no stall
		d.sent()
		d.sent()
		time.Sleep(stallTimeout - time.Second) // bubble
		d.done(&kgo.Record{Value: []byte("abc")}, nil)
		time.Sleep(stallTimeout - time.Second) // bubble: there was progress
		if err := d.ctx.Err(); err != nil {
			t.Fatalf("gave up in spite of progress: %v", err)
		}
		time.Sleep(2 * time.Second) // bubble
		if !errors.Is(context.Cause(d.ctx), errStalled) {
			t.Fatalf("does not give up: %v", context.Cause(d.ctx))
		}
		d.done(&kgo.Record{}, context.Canceled)
		if d.records != 1 || d.bytes != 3 || d.failed != 1 || d.failure() == nil {
			t.Errorf("counts %+v", d)
		}
	})
}
