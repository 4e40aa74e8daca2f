package terminal

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSizes(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 64 << 20: "64.0 MiB", 1 << 62: "4.0 EiB"} {
		if got := Size(bytes); got != want {
			t.Errorf("Size(%d) = %q, want %q", bytes, got, want)
		}
	}
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "64KiB": 64 << 10, "64 MiB": 64 << 20, "1.5k": 1536, "1GB": 1e9, "2b": 2, "3M": 3 << 20} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1XB", "1 MiBs", "1e400", "NaN", "99999999TiB", "1 2"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestAges(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Hour: "0s", 59 * time.Second: "59s", 61 * time.Minute: "1h", 47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := Age(now.Add(-d), now); got != want {
			t.Errorf("Age(%s) = %q, want %q", d, got, want)
		}
	}
	if got := Age(time.Time{}, now); got != "-" {
		t.Errorf("Age of no time = %q", got)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"añb\t": "añb\t", "a\x1b[31m": `a\x1b[31m`, "a\nb\r": `a\nb\r`, "\xff\x00": `\xff\x00`, "\u202e": `\u202e`, "": "",
	} {
		if got := string(Escape([]byte(in))); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte("\x1b]0;title\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := Escape(b); !printable(got) {
			t.Errorf("Escape(%q) = %q is not safe", b, got)
		}
	})
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	table := NewTable(&b, "name", "lag")
	table.Row("a", 1)
	table.Row("longer\x1b", 22)
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "NAME        LAG\na           1\nlonger\\x1b  22\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		if p := NewProgress(&b, false, "work"); p != nil {
			t.Error("progress without a terminal")
		}
		short := NewProgress(&b, true, "short work")
		time.Sleep(progressDelay / 2) // bubble
		short.Done()
		if b.Len() > 0 {
			t.Errorf("short work shows %q", b.String())
		}
		long := NewProgress(&b, true, "compiling")
		time.Sleep(progressDelay + progressDelay/2) // bubble
		long.Set("uploading")
		time.Sleep(progressDelay) // bubble
		long.Watch(func() string { return "starting" })
		time.Sleep(progressDelay) // bubble
		long.Done()
		got := b.String()
		if !strings.Contains(got, "compiling … 400 ms") || !strings.Contains(got, "uploading … 800 ms") || !strings.Contains(got, "starting … 1.2 s") || !strings.HasSuffix(got, "\r\x1b[K") {
			t.Errorf("long work shows %q", got)
		}
		var none *Progress
		none.Set("x")
		none.Done()
	})
}

func TestStyle(t *testing.T) {
	env := func(vars map[string]string) func(string) string { return func(k string) string { return vars[k] } }
	for _, tc := range []struct {
		terminal bool
		vars     map[string]string
		want     string
	}{
		{true, nil, "\x1b[1mx\x1b[0m"}, {false, nil, "x"}, {true, map[string]string{"NO_COLOR": "1"}, "x"}, {true, map[string]string{"TERM": "dumb"}, "x"},
	} {
		if got := NewStyle(tc.terminal, env(tc.vars)).Bold("x"); got != tc.want {
			t.Errorf("%+v: %q", tc, got)
		}
	}
}

func TestTableKeepsItsColumns(t *testing.T) {
	var b bytes.Buffer
	table := NewTable(&b)
	table.Row("a\tb", 1, "")
	table.Row("", "two", "x")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "a\\tb  1\n      two  x\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
