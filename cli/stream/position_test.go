package stream

import (
	"testing"
	"time"
)

func TestParsePosition(t *testing.T) {
	now := time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC)
	at := func(t time.Time) Position { return Position{Kind: Time, Time: t} }
	for text, want := range map[string]Position{
		"":                          {Kind: Start},
		"start":                     {Kind: Start},
		"earliest":                  {Kind: Start},
		"END":                       {Kind: End},
		"latest":                    {Kind: End},
		"0":                         {Kind: Offset},
		"1500":                      {Kind: Offset, Offset: 1500},
		"10m":                       at(now.Add(-10 * time.Minute)),
		"2d":                        at(now.Add(-48 * time.Hour)),
		"1h30m":                     at(now.Add(-90 * time.Minute)),
		"2026-11-21T13:00:00Z":      at(time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)),
		"2026-11-21T13:00:00.5Z":    at(time.Date(2026, 11, 21, 13, 0, 0, 5e8, time.UTC)),
		"2026-11-21T13:00:00+02:00": at(time.Date(2026, 11, 21, 11, 0, 0, 0, time.UTC)),
		"2026-11-20":                at(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)),
		"2026-11-20 12:30":          at(time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)),
	} {
		got, err := ParsePosition(text, now)
		if err != nil || got.Kind != want.Kind || got.Offset != want.Offset || !got.Time.Equal(want.Time) {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-1", "-5m", "1x", "2026-13-01", "1e9d", "NaNd"} {
		if got, err := ParsePosition(text, now); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}
