package dlq

import "testing"

func TestReasonsInBrief(t *testing.T) {
	for reason, want := range map[string]string{
		"no such word": "no such word",
		"guest stopped (fault): module m: unreachable in $13, called by $6; last output: panic: index out of range": "panic: index out of range",
		"guest stopped (fuel): module m: used 51 units of fuel, 50 are allowed in $2":                               "module m: used 51 units of fuel, 50 are allowed in $2",
		"guest stopped (": "guest stopped (",
		"":                "",
	} {
		if got := brief(reason); got != want {
			t.Errorf("brief(%q) = %q, want %q", reason, got, want)
		}
	}
}
