package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Size formats a number of bytes: "512 B", "64.0 KiB", "1.5 GiB".
func Size(bytes int64) string {
	const units = "KMGTPE"
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes), -1
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// ParseSize reads "4096", "64KiB", "64 MiB", "1GB", "64m": powers of 1024 with i or a single letter, of 1000 with a plain B.
func ParseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRightFunc(text, func(r rune) bool { return unicode.IsLetter(r) || r == ' ' })
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || number < 0 {
		return 0, fmt.Errorf("%q is not a size; write for example 65536, 64KiB or 64MiB", s)
	}
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	base := 1024.0
	if len(unit) == 2 && unit[1] == 'b' {
		base = 1000
	}
	factor := 1.0
	if unit != "" && unit != "b" {
		power := strings.IndexByte("kmgt", unit[0])
		rest := unit[1:]
		if power < 0 || (rest != "" && rest != "b" && rest != "ib") {
			return 0, fmt.Errorf("%q is not a size: the unit is unknown; write for example 64KiB or 64MiB", s)
		}
		for range power + 1 {
			factor *= base
		}
	}
	bytes := number * factor
	if bytes >= 1<<62 {
		return 0, fmt.Errorf("%q is too large a size", s)
	}
	return int64(bytes), nil
}

// Age formats the time since t in one unit: "12s", "5m", "3h", "9d".
func Age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Duration formats how long something took, with as many digits as say something.
func Duration(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}

// Count formats a number of things: "1 record", "12 records".
func Count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Escape makes bytes safe for a terminal: what is not printable UTF-8 (except
// a tab) becomes \x1b-like text. Printable bytes are returned as they are, without a copy.
func Escape(b []byte) []byte {
	if printable(b) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, b[0])
		case r == '\t' || unicode.IsPrint(r):
			out = append(out, b[:n]...)
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r < 0x80:
			out = fmt.Appendf(out, `\x%02x`, r)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out
}

func printable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if (r == utf8.RuneError && n == 1) || (r != '\t' && !unicode.IsPrint(r)) {
			return false
		}
		b = b[n:]
	}
	return true
}
