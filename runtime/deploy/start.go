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
