package phrasebook

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/millstream-io/millstream/plugins/internal/letters"
)

// Limits of a glossary. They bound what one lookup may cost.
const (
	MaxPhraseWords = 8
	MaxPhraseBytes = 120
	MaxTargetBytes = 500
)

// LineError is a line of a glossary that cannot be used.
type LineError struct {
	Line   int // first is 1
	Reason string
}

// Error implements error.
func (e *LineError) Error() string { return "glossary line " + strconv.Itoa(e.Line) + ": " + e.Reason }

// ErrEmpty says that a glossary has no entries.
var ErrEmpty = errors.New("the glossary has no entries: a line is a source, a tab and its translation")

// Glossary maps source words and phrases to their translations.
type Glossary struct {
	text    string  // what was parsed; spellings and targets are parts of it
	keys    []byte  // the sources in lower case, one after the other
	entries []entry // in the order of the lines, then beginnings of phrases that are no entries themselves
	slots   []uint32
	sources int
}

// entry holds offsets instead of strings, so that the collector need not look at thousands of pointers.
type entry struct {
	key     uint32 // in keys
	source  uint32 // in text: the spelling
	target  uint32 // in text
	line    uint32
	length  uint16 // of the target; 0: only the beginning of longer phrases
	keyLen  uint8
	srcLen  uint8
	class   Class
	extends bool // longer phrases begin with this one
}

// Parse reads a glossary: one entry a line,
//
//	source TAB target [TAB class]
//
// in UTF-8. Empty lines and lines that start with # are skipped. A source is one to MaxPhraseWords words parted by single spaces; written
// with capitals ("Monday") it says that they belong to the spelling. Several forms of a target are parted by |, see
// Class. A source may stand only once, whatever its case. Errors: *LineError, ErrEmpty.
func Parse(text string) (*Glossary, error) {
	lines := strings.Count(text, "\n") + 1
	g := &Glossary{text: text, keys: make([]byte, 0, len(text)/2), entries: make([]entry, 0, lines+lines/8)}
	g.resize(lines + lines/4)
	for start, line := 0, 1; start < len(text); line++ {
		end := len(text)
		if i := strings.IndexByte(text[start:], '\n'); i >= 0 {
			end = start + i
		}
		if err := g.line(start, strings.TrimSuffix(text[start:end], "\r"), line); err != nil {
			return nil, err
		}
		start = end + 1
	}
	g.sources = len(g.entries)
	if g.sources == 0 {
		return nil, ErrEmpty
	}
	for i := range g.sources {
		g.beginnings(i)
	}
	return g, nil
}

// Len returns the number of entries.
func (g *Glossary) Len() int { return g.sources }

// line takes one line that stands at offset start.
func (g *Glossary) line(start int, s string, number int) error {
	if number == 1 && strings.HasPrefix(s, "\ufeff") {
		s = s[3:]
		start += 3
	}
	if strings.Trim(s, " \t") == "" || s[0] == '#' {
		return nil
	}
	fail := func(reason string) error { return &LineError{Line: number, Reason: reason} }
	if !utf8.ValidString(s) {
		return fail("not UTF-8")
	}
	source, rest, ok := strings.Cut(s, "\t")
	if !ok {
		return fail("no tab between the source and its translation")
	}
	target, className, _ := strings.Cut(rest, "\t")
	if strings.IndexByte(className, '\t') >= 0 {
		return fail("more than three columns")
	}
	if reason := wrongSource(source); reason != "" {
		return fail(reason)
	}
	if len(target) > MaxTargetBytes {
		return fail("the translation of " + quoted(source) + " is longer than " + strconv.Itoa(MaxTargetBytes) + " bytes")
	}
	class, ok := classOf(className)
	if !ok {
		return fail("unknown word class " + quoted(className))
	}
	if reason := wrongForms(target, class); reason != "" {
		return fail(reason + " for " + quoted(source))
	}
	e := entry{
		key: uint32(len(g.keys)), source: uint32(start), target: uint32(start + len(source) + 1), line: uint32(number),
		length: uint16(len(target)), srcLen: uint8(len(source)), class: class,
	}
	g.keys = appendKey(g.keys, source)
	key := g.keys[e.key:]
	e.keyLen = uint8(len(key))
	slot, old := g.find(key, hash(hashStart, key))
	if old >= 0 {
		return fail(quoted(source) + " stands already in line " + strconv.Itoa(int(g.entries[old].line)))
	}
	g.entries = append(g.entries, e)
	g.slots[slot] = uint32(len(g.entries))
	return nil
}

func wrongSource(s string) string {
	switch {
	case s == "":
		return "no source before the tab"
	case len(s) > MaxPhraseBytes:
		return "the source is longer than " + strconv.Itoa(MaxPhraseBytes) + " bytes"
	case strings.Trim(s, " ") != s || strings.Contains(s, "  "):
		return "a space too many in the source " + quoted(s)
	}
	words := 0
	for rest := s; rest != ""; words++ {
		n := wordLen(rest)
		if n == 0 {
			return "the source " + quoted(s) + " holds more than words, apostrophes, hyphens and single spaces, so no text can match it"
		}
		rest = rest[n:]
		if rest != "" {
			if rest[0] != ' ' && rest[0] != '-' || len(rest) == 1 {
				return "the source " + quoted(s) + " holds more than words, apostrophes, hyphens and single spaces, so no text can match it"
			}
			rest = rest[1:]
		}
	}
	if words > MaxPhraseWords {
		return "the source " + quoted(s) + " has more than " + strconv.Itoa(MaxPhraseWords) + " words"
	}
	return ""
}

// beginnings makes every beginning of entry i that ends between two words an entry, so that a search knows when to stop.
func (g *Glossary) beginnings(i int) {
	e := g.entries[i]
	key := g.keys[e.key : e.key+uint32(e.keyLen)]
	for n, c := range key {
		if c != ' ' && c != '-' {
			continue
		}
		h := hash(hashStart, key[:n])
		slot, at := g.find(key[:n], h)
		if at < 0 {
			if len(g.entries) >= len(g.slots)*3/4 {
				g.resize(len(g.entries) * 2)
				slot, _ = g.find(key[:n], h)
			}
			g.entries = append(g.entries, entry{key: e.key, keyLen: uint8(n)})
			at = len(g.entries) - 1
			g.slots[slot] = uint32(at + 1)
		}
		g.entries[at].extends = true
	}
}

// resize gives the hash table room for n entries and puts the present ones in.
func (g *Glossary) resize(n int) {
	size := 16
	for size < n*2 {
		size *= 2
	}
	g.slots = make([]uint32, size)
	for i, e := range g.entries {
		key := g.keys[e.key : e.key+uint32(e.keyLen)]
		slot, _ := g.find(key, hash(hashStart, key))
		g.slots[slot] = uint32(i + 1)
	}
}

// hashStart is the hash of nothing.
const hashStart uint32 = 2166136261

// hash continues the hash h, FNV-1a, with more bytes.
func hash(h uint32, more []byte) uint32 {
	for _, c := range more {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// find returns the entry of a key, -1 if there is none, and its slot or the free one where it belongs.
func (g *Glossary) find(key []byte, h uint32) (slot, index int) {
	mask := uint32(len(g.slots) - 1)
	for at := (h ^ h>>15) & mask; ; at = (at + 1) & mask {
		i := g.slots[at]
		if i == 0 {
			return int(at), -1
		}
		e := &g.entries[i-1]
		if int(e.keyLen) == len(key) && view(g.keys[e.key:e.key+uint32(e.keyLen)]) == view(key) {
			return int(at), int(i - 1)
		}
	}
}

func (g *Glossary) target(i int) string {
	e := &g.entries[i]
	return g.text[e.target : e.target+uint32(e.length)]
}

func (g *Glossary) spelling(i int) string {
	e := &g.entries[i]
	return g.text[e.source : e.source+uint32(e.srcLen)]
}

// quoted puts s in quotes for a message. strconv.Quote would bring tables of what is printable, 15 KB.
func quoted(s string) string { return `"` + s + `"` }

// view returns the bytes of b as a string without copying them. TinyGo copies in every string(b), even in a comparison.
// The string must not outlive the next change of b.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// appendKey appends the form under which a source is looked up: lower case, plain apostrophes.
func appendKey(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '’' {
			r = '\''
		}
		dst = utf8.AppendRune(dst, letters.ToLower(r))
		i += size
	}
	return dst
}

// wordLen returns the length of the word that s starts with: letters, and apostrophes between letters. 0: none.
func wordLen(s string) int {
	n := 0
	for n < len(s) {
		if c := s[n] | 0x20; c >= 'a' && c <= 'z' {
			n++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[n:])
		if r >= utf8.RuneSelf && letters.IsLetter(r) {
			n += size
			continue
		}
		if n == 0 || r != '\'' && r != '’' {
			break
		}
		next, _ := utf8.DecodeRuneInString(s[n+size:])
		if !letters.IsLetter(next) {
			break
		}
		n += size
	}
	return n
}
