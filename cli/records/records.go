// Package records holds produce and consume: lines in, lines out, or JSON.
//
// Bytes are kept as they are. As JSON, a key or value that is no UTF-8 text is
// given in base64 in key_base64 or value_base64, and null differs from empty; what
// consume --json prints, produce --json reads.
package records

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

const category = "Topics and records"

// document is a record as JSON.
type document struct {
	Topic       string           `json:"topic,omitempty"`
	Partition   int32            `json:"partition"`
	Offset      int64            `json:"offset"`
	Timestamp   string           `json:"timestamp"`
	Key         *string          `json:"key"`
	KeyBase64   string           `json:"key_base64,omitempty"`
	Value       *string          `json:"value"`
	ValueBase64 string           `json:"value_base64,omitempty"`
	Headers     []headerDocument `json:"headers,omitempty"`
}

type headerDocument struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"value_base64,omitempty"`
}

// timestampLayout has milliseconds, which is what a record keeps.
const timestampLayout = "2006-01-02T15:04:05.000Z07:00"

func newDocument(r *kgo.Record) *document {
	d := &document{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Timestamp: r.Timestamp.UTC().Format(timestampLayout),
	}
	d.Key, d.KeyBase64 = text(r.Key)
	d.Value, d.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		hd := headerDocument{Key: h.Key}
		hd.Value, hd.ValueBase64 = text(h.Value)
		d.Headers = append(d.Headers, hd)
	}
	return d
}

// Document is a record as consume --json prints it.
func Document(r *kgo.Record) any { return newDocument(r) }

// text gives bytes as a JSON string, or in base64 when a JSON string could not hold them.
func text(b []byte) (plain *string, encoded string) {
	if b == nil {
		return nil, ""
	}
	if !utf8.Valid(b) {
		return nil, base64.StdEncoding.EncodeToString(b)
	}
	s := string(b)
	return &s, ""
}

// input is a line of produce --json. Key and value may be any JSON: what is no string is written as JSON text.
type input struct {
	Key         json.RawMessage `json:"key"`
	KeyBase64   *string         `json:"key_base64"`
	Value       json.RawMessage `json:"value"`
	ValueBase64 *string         `json:"value_base64"`
	Timestamp   json.RawMessage `json:"timestamp"`
	Headers     json.RawMessage `json:"headers"`
	// Where the record was; consume prints them, and they do not bind.
	Topic     json.RawMessage `json:"topic"`
	Partition json.RawMessage `json:"partition"`
	Offset    json.RawMessage `json:"offset"`
}

// parseDocument reads one line of JSON into a record.
func parseDocument(line []byte) (*kgo.Record, error) {
	var in input
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, fmt.Errorf("not a record as JSON: %w", err)
	}
	if d.More() {
		return nil, fmt.Errorf("more than one JSON value on a line")
	}
	r := &kgo.Record{}
	var err error
	if r.Key, err = field("key", in.Key, in.KeyBase64); err != nil {
		return nil, err
	}
	if r.Value, err = field("value", in.Value, in.ValueBase64); err != nil {
		return nil, err
	}
	if r.Timestamp, err = parseTimestamp(in.Timestamp); err != nil {
		return nil, err
	}
	r.Headers, err = parseHeaders(in.Headers)
	return r, err
}

func field(name string, raw json.RawMessage, encoded *string) ([]byte, error) {
	if encoded != nil {
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil {
			return nil, fmt.Errorf("%s_base64: %w", name, err)
		}
		return b, nil
	}
	return rawBytes(name, raw)
}

// rawBytes: nothing and null are null, a string is its text, anything else is its JSON.
func rawBytes(name string, raw json.RawMessage) ([]byte, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '"' {
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return b.Bytes(), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return []byte(s), nil
}

func parseTimestamp(raw json.RawMessage) (time.Time, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return time.Time{}, nil
	}
	if raw[0] != '"' {
		ms, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("timestamp %s is neither milliseconds since 1970 nor an RFC 3339 string", raw)
		}
		return time.UnixMilli(ms), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return time.Time{}, fmt.Errorf("timestamp: %w", err)
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("timestamp %q is neither milliseconds since 1970 nor an RFC 3339 string", s)
	}
	return t, nil
}

// parseHeaders reads a list of {"key":…,"value":…}, which keeps order and doubles, or a plain object.
func parseHeaders(raw json.RawMessage) ([]kgo.RecordHeader, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] == '{' {
		return objectHeaders(raw)
	}
	var list []struct {
		Key         string          `json:"key"`
		Value       json.RawMessage `json:"value"`
		ValueBase64 *string         `json:"value_base64"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf(`headers: write [{"key":"k","value":"v"}] or {"k":"v"}: %w`, err)
	}
	var out []kgo.RecordHeader
	for _, h := range list {
		v, err := field("header "+h.Key, h.Value, h.ValueBase64)
		if err != nil {
			return nil, err
		}
		out = append(out, kgo.RecordHeader{Key: h.Key, Value: v})
	}
	return out, nil
}

// objectHeaders keeps the order in which an object names its members.
func objectHeaders(raw json.RawMessage) ([]kgo.RecordHeader, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	var out []kgo.RecordHeader
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("headers: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("headers: %w", err)
		}
		key, _ := name.(string)
		v, err := rawBytes("header "+key, value)
		if err != nil {
			return nil, err
		}
		out = append(out, kgo.RecordHeader{Key: key, Value: v})
	}
	return out, nil
}
