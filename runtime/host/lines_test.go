package host

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newLines(lineBytes, perSecond int) (*lineLog, *[]string) {
	var got []string
	l := &lineLog{
		write:     func(level slog.Level, line string) { got = append(got, level.String()+" "+line) },
		lineBytes: lineBytes, linesPerSecond: perSecond,
	}
	return l, &got
}

func TestLinesOverTheRateAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, got := newLines(100, 2)
		for range 5 {
			l.log(1, []byte("line"))
		}
		time.Sleep(time.Second)
		l.log(1, []byte("next"))
		if first, second := l.takeDropped(), l.takeDropped(); first != 3 || second != 0 {
			t.Errorf("%d lines were dropped, and then %d; want 3 and 0", first, second)
		}
		want := []string{"INFO line", "INFO line", "INFO next"}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got %q, want %q", *got, want)
		}
	})
}

func TestPrintedLinesArePutTogether(t *testing.T) {
	l, got := newLines(8, 100)
	l.print(1, []byte("a"))
	l.print(2, []byte("err\n"))
	l.print(1, []byte("b\n\nc"))
	l.print(1, []byte("\r\n\x1b[31mred"))
	l.print(2, []byte(strings.Repeat("x", 1000)))
	l.print(2, []byte(strings.Repeat("x", 1000)+"\n"))
	l.flush()
	l.flush()
	want := []string{"WARN err", "INFO ab", "INFO ", "INFO c", "WARN xxxxxxxx…", "INFO  [31mred"}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %q, want %q", *got, want)
	}
	if n := cap(l.partial[1]); n > 64 {
		t.Errorf("an endless line is kept in %d bytes", n)
	}
}

func TestTailTellsWhyAGuestGaveUp(t *testing.T) {
	l, _ := newLines(100, 3)
	for _, line := range []string{"1", "2", "3", "4", "5"} {
		l.log(1, []byte(line))
	}
	if got := l.tail(); got != "1 | 2 | 3" {
		t.Errorf("got %q", got)
	}
	l.print(2, []byte("panic: no more\ngoroutine 1\n"))
	if got := l.tail(); got != "panic: no more" {
		t.Errorf("got %q, want the panic, though its line was dropped", got)
	}
	if l.begin(); l.tail() != "" {
		t.Errorf("got %q of the call before", l.tail())
	}
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	for size, want := range map[int]string{0: "…", 1: "a…", 2: "a…", 3: "aé…", 4: "aéb"} {
		if got := cut([]byte("aéb"), size); got != want {
			t.Errorf("cut to %d: got %q, want %q", size, got, want)
		}
	}
	if got := cut([]byte("\x80\x80\x80"), 2); got != "…" {
		t.Errorf("got %q of bytes that are no text", got)
	}
}
