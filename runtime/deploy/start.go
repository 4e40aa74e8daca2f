package deploy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// StartKind says where a deployment without committed offsets begins.
type StartKind int

// The kinds of start.
const (
	StartLatest StartKind = iota
	StartEarliest
	StartOffset
	StartTimestamp
)

// Start is a parsed start position.
type Start struct {
	Kind   StartKind
	Offset int64     // StartOffset
	Time   time.Time // StartTimestamp: the first record at or after it
}

// ParseStart parses a start position: "latest", "earliest", an offset, an
// RFC 3339 time, or a duration such as 90m, 36h or 7d, which means that long
// before origin. For a deployment, origin is Spec.Created, so the position does not
// move when the process restarts. Errors wrap ErrInvalid.
func ParseStart(text string, origin time.Time) (Start, error) {
	switch text {
	case "latest", "":
		return Start{Kind: StartLatest}, nil
	case "earliest":
		return Start{Kind: StartEarliest}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 {
			return Start{}, invalid("start %q is a negative offset: offsets begin at 0", text)
		}
		return Start{Kind: StartOffset, Offset: n}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return Start{Kind: StartTimestamp, Time: t}, nil
	}
	if d, ok := parseAgo(text); ok {
		return Start{Kind: StartTimestamp, Time: origin.Add(-d)}, nil
	}
	return Start{}, invalid("start %q is not a position: use latest, earliest, an offset (42), a time (2026-01-31T12:00:00Z) or how long ago (90m, 36h, 7d)", text)
}

// Until is the parsed end of a bounded run; the zero value is no end.
type Until struct {
	AtEnd bool      // the end of every input as it was when the run began
	Time  time.Time // the first record at or after it, or the end of the input if that time has passed
}

// ParseUntil parses the end of a bounded run: "end", an RFC 3339 time, or "" for none. Errors wrap ErrInvalid.
func ParseUntil(text string) (Until, error) {
	switch text {
	case "":
		return Until{}, nil
	case "end":
		return Until{AtEnd: true}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil && !t.IsZero() {
		return Until{Time: t}, nil
	}
	return Until{}, invalid("until %q is not an end: use end (of every input as it is when the run begins) or a time (2026-01-31T12:00:00Z)", text)
}

// ParseFailureLimit parses a share and a window, as in "50%/1m"; either may be left out: "10%" and "/30s". Errors wrap ErrInvalid.
func ParseFailureLimit(text string) (FailureLimit, error) {
	wrong := func() (FailureLimit, error) {
		return FailureLimit{}, invalid("failure limit %q is not PERCENT/WINDOW: write for example 50%%/1m, or 100%% to let all records fail", text)
	}
	share, window, _ := strings.Cut(text, "/")
	var f FailureLimit
	if share = strings.TrimSuffix(share, "%"); share != "" {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 100 {
			return wrong()
		}
		f.Percent = n
	}
	if window != "" {
		d, err := time.ParseDuration(window)
		if err != nil || d <= 0 {
			return wrong()
		}
		f.Window = d
	}
	if f == (FailureLimit{}) {
		return wrong()
	}
	return f, nil
}

// parseAgo reads a positive duration; besides Go's units it knows whole days.
func parseAgo(text string) (time.Duration, bool) {
	text = strings.TrimSuffix(text, " ago")
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, false
		}
		return time.Duration(n) * 24 * time.Hour, true
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, false
	}
	return d, true
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
