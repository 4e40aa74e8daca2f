package host

import (
	"bytes"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/millstream-io/millstream/sdk/abi"
)

// tailLines is how many of a guest's last lines a Trap tells.
const tailLines = 4

// lineLog turns what a guest prints and logs into lines, each cut to a length,
// so many a second. The rest is dropped, and counted until takeDropped.
type lineLog struct {
	write          LogFunc
	linesPerSecond int
	lineBytes      int

	partial [2][]byte // of fd 1 and 2, at most lineBytes each
	second  time.Time // start of the second that written counts in
	written int
	dropped int
	last    [tailLines]string // of this call, a ring
	count   int               // lines in this call
	panic   string            // the line of this call that says why the guest gave up
}

// begin forgets the lines of the call before.
func (l *lineLog) begin() { l.count, l.panic = 0, "" }

// panics begin the line with which guests in Go give up; a trace may follow.
var panics = [][]byte{[]byte("panic: "), []byte("fatal error: ")}

// log takes a line of the ABI's log function.
func (l *lineLog) log(level uint32, line []byte) {
	l.line(levels[level], line)
}

var levels = [...]slog.Level{
	abi.LevelDebug: slog.LevelDebug,
	abi.LevelInfo:  slog.LevelInfo,
	abi.LevelWarn:  slog.LevelWarn,
	abi.LevelError: slog.LevelError,
}

// print takes a part of what a guest writes on its standard output or standard error.
func (l *lineLog) print(fd int, p []byte) {
	partial := &l.partial[fd-1]
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		room := max(l.lineBytes+1-len(*partial), 0)
		*partial = append(*partial, part[:min(len(part), room)]...)
		if end < 0 {
			return
		}
		l.end(fd)
		p = p[end+1:]
	}
}

// flush ends the lines that are not ended.
func (l *lineLog) flush() {
	for fd := 1; fd <= 2; fd++ {
		if len(l.partial[fd-1]) > 0 {
			l.end(fd)
		}
	}
}

func (l *lineLog) end(fd int) {
	level := slog.LevelInfo
	if fd == 2 {
		level = slog.LevelWarn
	}
	l.line(level, l.partial[fd-1])
	l.partial[fd-1] = l.partial[fd-1][:0]
}

func (l *lineLog) line(level slog.Level, line []byte) {
	for _, p := range panics {
		if bytes.HasPrefix(line, p) {
			l.panic = printable(cut(line, l.lineBytes))
		}
	}
	now := time.Now()
	if now.Sub(l.second) >= time.Second {
		l.second, l.written = now, 0
	}
	if l.written >= l.linesPerSecond {
		l.dropped++
		return
	}
	text := printable(cut(line, l.lineBytes))
	l.last[l.count%tailLines] = text
	l.count++
	l.written++
	l.write(level, text)
}

// takeDropped returns how many lines were dropped since it was last called.
func (l *lineLog) takeDropped() int {
	n := l.dropped
	l.dropped = 0
	return n
}

// tail returns the line of this call that says why the guest gave up, else its
// last lines, oldest first.
func (l *lineLog) tail() string {
	if l.panic != "" {
		return l.panic
	}
	var b strings.Builder
	for n := max(l.count-tailLines, 0); n < l.count; n++ {
		if b.Len() > 0 {
			b.WriteString(" | ")
		}
		b.WriteString(l.last[n%tailLines])
	}
	return b.String()
}

// cut shortens p to at most size bytes and a mark, at the border of a character.
func cut(p []byte, size int) string {
	if len(p) <= size {
		return string(p)
	}
	for size > 0 && !utf8.RuneStart(p[size]) {
		size--
	}
	return string(p[:size]) + "…"
}

// printable makes s one line of valid UTF-8 that no terminal acts on.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '\t' || !unicode.IsControl(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	return strings.TrimRight(clean, " ")
}
