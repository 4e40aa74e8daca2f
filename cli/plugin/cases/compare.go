package cases

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millstream-io/millstream/runtime/host"
)

// compareOutput compares everything of every record of one output.
func (r *run) compareOutput(name string, want []Record, got []output) {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			r.failf("output %s, record %d is missing\n  want  %s", name, i, show(want[i], nil))
		case i >= len(want):
			at := time.UnixMilli(got[i].timestamp)
			r.failf("output %s, record %d was not expected\n  got   %s", name, i, show(got[i].Record, &at))
		default:
			r.compareRecord(fmt.Sprintf("output %s, record %d", name, i), want[i], got[i])
		}
	}
}

func (r *run) compareRecord(where string, want Record, got output) {
	if !same(want.Key, got.Key) {
		r.failf("%s: key\n  want  %s\n  got   %s", where, quote(want.Key), quote(got.Key))
	}
	if !same(want.Value, got.Value) {
		r.failf("%s: value\n  want  %s\n  got   %s%s", where, quote(want.Value), quote(got.Value), pointer(want.Value, got.Value))
	}
	equal := func(a, b Header) bool { return a.Name == b.Name && same(a.Value, b.Value) }
	if !slices.EqualFunc(want.Headers, got.Headers, equal) {
		r.failf("%s: headers\n  want  %s\n  got   %s", where, showHeaders(want.Headers), showHeaders(got.Headers))
	}
	timestamp, origin := r.timestamp(got.input), fmt.Sprintf(", that of input %d", got.input)
	if want.Timestamp != nil {
		timestamp, origin = want.Timestamp.UnixMilli(), ""
	}
	if timestamp != got.timestamp {
		r.failf("%s: timestamp\n  want  %s%s\n  got   %s", where, showTime(timestamp), origin, showTime(got.timestamp))
	}
}

func (r *run) compareRejects(got []host.Reject) {
	want := map[int]Reject{}
	for _, w := range r.c.Rejects {
		want[w.Input] = w
	}
	for _, g := range got {
		w, expected := want[g.Index]
		delete(want, g.Index)
		switch {
		case !expected:
			r.failf("input %d was rejected\n  want  accepted\n  got   rejected, reason %q", g.Index, g.Reason)
		case !strings.Contains(g.Reason, w.Reason):
			r.failf("input %d was rejected for another reason\n  want  …%q…\n  got   %q", g.Index, w.Reason, g.Reason)
		}
	}
	for _, w := range r.c.Rejects {
		if _, missing := want[w.Input]; missing {
			r.failf("input %d was accepted\n  want  rejected", w.Input)
		}
	}
}

// same compares bytes, null being different from empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func show(r Record, at *time.Time) string {
	parts := []string{"value " + quote(r.Value)}
	if r.Key != nil {
		parts = append([]string{"key " + quote(r.Key)}, parts...)
	}
	if len(r.Headers) > 0 {
		parts = append(parts, "headers "+showHeaders(r.Headers))
	}
	if r.Timestamp != nil {
		at = r.Timestamp
	}
	if at != nil {
		parts = append(parts, "timestamp "+showTime(at.UnixMilli()))
	}
	return strings.Join(parts, ", ")
}

func showTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }

func showHeaders(headers []Header) string {
	if len(headers) == 0 {
		return "none"
	}
	var parts []string
	for _, h := range headers {
		parts = append(parts, h.Name+"="+quote(h.Value))
	}
	return strings.Join(parts, " ")
}

const maxShownBytes = 2000

func quote(b []byte) string {
	if b == nil {
		return "null"
	}
	if len(b) > maxShownBytes {
		return fmt.Sprintf("%s… (%d bytes)", quote(b[:maxShownBytes]), len(b))
	}
	if utf8.Valid(b) {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("!!binary % x", b)
}

// pointer marks the place where two texts begin to differ, when they are short enough to see it.
func pointer(want, got []byte) string {
	if want == nil || got == nil || len(want) > 100 || len(got) > 100 || !utf8.Valid(want) || !utf8.Valid(got) {
		return ""
	}
	a, b := []rune(string(want)), []rune(string(got))
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	indent := utf8.RuneCountInString(quote([]byte(string(a[:at])))) - 1
	return "\n        " + strings.Repeat(" ", indent) + "^"
}
