package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDiff(t *testing.T) {
	retries := 0
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"nothing", func(*Spec) {}, ""},
		{"defaults written out", func(s *Spec) { s.Delivery, s.FailureLimit = DeliveryExactlyOnce, FailureLimit{50, time.Minute} }, ""},
		{"state, times and who", func(s *Spec) { s.Version, s.State, s.Changed, s.By = 9, Paused, time.Now(), "me" }, ""},
		{"module", func(s *Spec) { s.Module = "sha256:1" }, "module:"},
		{"config", func(s *Spec) { s.Config = map[string]string{"to": "fr", "new": "x"} }, "config.new:→x config.to:es→fr"},
		{"input", func(s *Spec) { s.Inputs = append(s.Inputs, "more") }, "inputs:notes→notes, more"},
		{"output", func(s *Spec) { s.Outputs = []Output{{"out", "other"}} }, "outputs.out:notes.es→other"},
		{"limits", func(s *Spec) { s.Limits.WallTime = time.Second }, "limits.wall_time:→1s"},
		{"failures", func(s *Spec) { s.Retries, s.FailureLimit.Percent = &retries, 10 }, "failure_limit:50%/1m0s→10%/1m0s retries:2→0"},
		{"order", func(s *Spec) { s.Until, s.Module, s.Inputs = "end", "sha256:1", []string{"x"} }, "module: inputs:notes→x until:→end"},
	} {
		before := valid()
		before.Config = map[string]string{"to": "es"}
		after := before
		after.Outputs = slices.Clone(before.Outputs)
		c.change(&after)
		var got []string
		for _, d := range Diff(before, after) {
			text := d.Field + ":" + d.Before + "→" + d.After
			if d.Field == "module" {
				text = "module:"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
}

func TestTheVersionAfter(t *testing.T) {
	now := time.Unix(5000, 0)
	first := Spec{Name: "a"}.After(Spec{}, now)
	if first.Version != 1 || !first.Created.Equal(now) || !first.DeployedAt().Equal(now) {
		t.Errorf("the first version is %+v", first)
	}
	for _, c := range []struct{ before, given, want string }{
		{Running, "", Running}, {Paused, "", Paused}, {Completed, "", Running}, {Paused, Running, Running},
	} {
		before := first
		before.State, before.Start = c.before, "earliest"
		later := now.Add(time.Hour)
		next := Spec{Name: "a", State: c.given}.After(before, later)
		if next.State != c.want || next.Start != "earliest" || next.Version != 2 || !next.Created.Equal(now) || !next.DeployedAt().Equal(later) {
			t.Errorf("after %s comes %+v, want %s", c.before, next, c.want)
		}
	}
}

func TestWhatSwaps(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		swaps  bool
	}{
		"module and config": {func(s *Spec) { s.Module, s.Config = "sha256:1", map[string]string{"a": "b"} }, true},
		"outputs":           {func(s *Spec) { s.Outputs = []Output{{"out", "other"}} }, true},
		"default delivery":  {func(s *Spec) { s.Delivery = DeliveryExactlyOnce }, true},
		"delivery":          {func(s *Spec) { s.Delivery = DeliveryAtLeastOnce }, false},
		"inputs":            {func(s *Spec) { s.Inputs = []string{"other"} }, false},
		"end of the run":    {func(s *Spec) { s.Until = "end" }, false},
	} {
		after := valid()
		c.change(&after)
		if got := after.Swaps(valid()); got != c.swaps {
			t.Errorf("%s: swaps is %v", name, got)
		}
	}
}

func TestParseUntilAndFailureLimit(t *testing.T) {
	for text, want := range map[string]Until{
		"": {}, "end": {AtEnd: true}, "2026-01-31T12:00:00Z": {Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)},
	} {
		if got, err := ParseUntil(text); err != nil || got != want {
			t.Errorf("until %q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"now", "10m", "latest", "2026-01-31", "0001-01-01T00:00:00Z"} {
		_, err := ParseUntil(text)
		wantError(t, err, ErrInvalid, "use end")
	}
	for text, want := range map[string]FailureLimit{
		"50%/1m": {50, time.Minute}, "10": {Percent: 10}, "10%": {Percent: 10}, "/30s": {Window: 30 * time.Second}, "100%": {Percent: 100},
	} {
		got, err := ParseFailureLimit(text)
		if err != nil || got != want {
			t.Errorf("failure limit %q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/", "0%", "101%", "ten", "50%/", "50%/soon", "50%/-1m", "-5%"} {
		if text == "50%/" {
			continue // the window may be left out, its slash too
		}
		_, err := ParseFailureLimit(text)
		wantError(t, err, ErrInvalid, "PERCENT/WINDOW")
	}
}

func TestModesThatAreRefused(t *testing.T) {
	many := MaxRetries + 1
	for want, change := range map[string]func(*Spec){
		`delivery "exactly_once" is unknown (did you mean "exactly-once"?)`: func(s *Spec) { s.Delivery = "exactly_once" },
		"retries is 101, allowed are 0 to 100":                              func(s *Spec) { s.Retries = &many },
		"the failure limit is 101 percent":                                  func(s *Spec) { s.FailureLimit.Percent = 101 },
		"counts for 1ms, allowed are 1s to 1h0m0s":                          func(s *Spec) { s.FailureLimit.Window = time.Millisecond },
		`until "soon" is not an end`:                                        func(s *Spec) { s.Until = "soon" },
		"who deploys has 300 bytes":                                         func(s *Spec) { s.By = strings.Repeat("x", 300) },
	} {
		s := valid()
		change(&s)
		wantError(t, s.Validate(nil), ErrInvalid, want)
	}
}
