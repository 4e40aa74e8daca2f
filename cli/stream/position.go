// Package stream reads the partitions of a topic from one position to another,
// without a consumer group: what consume and logs show.
package stream

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is the kind of a Position.
type Kind int

// The kinds.
const (
	Start Kind = iota
	End
	Offset
	Time
)

// Position is where reading begins in each partition.
type Position struct {
	Kind   Kind
	Offset int64     // Kind Offset
	Time   time.Time // Kind Time: the first record at or after it
}

// ParsePosition reads start, end, an offset, an RFC 3339 time (or its beginning, in local time), or a duration ago such as 10m or 2d.
func ParsePosition(s string, now time.Time) (Position, error) {
	switch strings.ToLower(s) {
	case "", "start", "earliest", "beginning":
		return Position{Kind: Start}, nil
	case "end", "latest":
		return Position{Kind: End}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			return Position{}, fmt.Errorf("offset %d is negative", n)
		}
		return Position{Kind: Offset, Offset: n}, nil
	}
	if d, err := ParseAgo(s); err == nil {
		return Position{Kind: Time, Time: now.Add(-d)}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return Position{Kind: Time, Time: t}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return Position{Kind: Time, Time: t}, nil
		}
	}
	return Position{}, fmt.Errorf("%q is no position: write start, end, an offset, a time such as %s, or a duration ago such as 10m",
		s, now.UTC().Format(time.RFC3339))
}

// ParseTime reads an RFC 3339 time (or its beginning, in local time), a duration ago, or milliseconds since 1970.
func ParseTime(s string, now time.Time) (Position, error) {
	p, err := ParsePosition(s, now)
	switch {
	case err == nil && p.Kind == Offset:
		return Position{Kind: Time, Time: time.UnixMilli(p.Offset)}, nil
	case err == nil && p.Kind == Time:
		return p, nil
	}
	return Position{}, fmt.Errorf("%q is no time: write for example %s, 10m for ten minutes ago, or milliseconds since 1970",
		s, now.UTC().Format(time.RFC3339))
}

// ParseIsolation reads a level of isolation by Kafka's name.
func ParseIsolation(s string) (Isolation, error) {
	switch s {
	case "read_committed":
		return ReadCommitted, nil
	case "read_uncommitted":
		return ReadUncommitted, nil
	}
	return ReadCommitted, fmt.Errorf("%q is unknown; it is read_committed or read_uncommitted", s)
}

// ParseAgo reads a positive duration: Go's form, and days as 2d.
func ParseAgo(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0 && n <= 36500) {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		return time.Duration(n * 24 * float64(time.Hour)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration; write for example 30s, 10m, 2h or 1d", s)
	}
	return d, nil
}
