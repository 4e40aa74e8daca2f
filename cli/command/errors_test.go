package command

import (
	"bytes"
	"testing"
)

func TestReportsToATerminal(t *testing.T) {
	err := Failedf("topic \"a\x1b[31m\"\nsecond\tline\n").WithFix("fix \x07it")
	for terminal, want := range map[bool]string{
		true:  "millstream: topic \"a\\x1b[31m\"\nsecond\tline\n  fix \\x07it\n",
		false: "millstream: topic \"a\x1b[31m\"\nsecond\tline\n  fix \x07it\n",
	} {
		var out bytes.Buffer
		report(&Env{Err: &out, ErrTerminal: terminal}, err, false)
		if out.String() != want {
			t.Errorf("terminal %t: got %q, want %q", terminal, out.String(), want)
		}
	}
}
