package phrasebook

import (
	"strings"
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/internal/letters"
)

type kind uint8

const (
	verbatim kind = iota // white space, punctuation, numbers, addresses
	unknown              // a word that the glossary does not have
	known                // a word or phrase of the glossary
)

// piece is a part of a text. Together the pieces are the text.
type piece struct {
	start, end int
	entry      int // of a known piece
	kind       kind
	class      Class
	plural     bool // an English plural whose singular is the entry
	opens      bool // the first word of a sentence
	space      bool // exactly one space
	breaks     bool // punctuation that ends a clause
	number     bool // begins with a figure
	figure     bool // one space and then a figure
}

// scan parts s into t.pieces. opens says whether a sentence begins with it.
func (t *Translator) scan(s string, opens bool) {
	t.pieces = t.pieces[:0]
	for i := 0; i < len(s); {
		if i == 0 || isSpace(s[i-1]) {
			if n := addressLen(s[i:]); n > 0 {
				t.add(piece{start: i, end: i + n})
				i += n
				opens = false
				continue
			}
		}
		c := s[i]
		if isDigit(c) {
			n := alphanumericLen(s[i:])
			t.add(piece{start: i, end: i + n, number: true})
			i += n
			opens = false
			continue
		}
		if n := wordLen(s[i:]); n > 0 {
			p := t.word(s, i, n, opens)
			t.add(p)
			i = p.end
			opens = false
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			_, size = utf8.DecodeRuneInString(s[i:])
		}
		p := piece{start: i, end: i + size, space: c == ' '}
		p.breaks = strings.IndexByte(".,;:!?\n()", c) >= 0
		opens = opens || strings.IndexByte(".!?\n", c) >= 0 || s[i:i+size] == "…"
		t.add(p)
		i += size
	}
}

// add appends a piece; verbatim pieces that touch become one.
func (t *Translator) add(p piece) {
	if n := len(t.pieces); n > 0 && p.kind == verbatim && t.pieces[n-1].kind == verbatim {
		last := &t.pieces[n-1]
		last.figure = last.figure || last.space && p.number
		last.end = p.end
		last.space = false
		last.breaks = last.breaks || p.breaks
		return
	}
	t.pieces = append(t.pieces, p)
}

// word returns the piece that begins with the word of n bytes at i: the longest phrase the glossary has.
func (t *Translator) word(s string, i, n int, opens bool) piece {
	p := piece{start: i, end: i + n, kind: unknown, opens: opens}
	if i+n < len(s) && isDigit(s[i+n]) {
		return piece{start: i, end: i + alphanumericLen(s[i:])}
	}
	if s[i:i+n] == "A" && !opens && !shouting(s, i, i+n) {
		return piece{start: i, end: i + n} // a mark, a letter, an initial: not the article
	}
	if n > MaxPhraseBytes {
		return p
	}
	g := t.glossary
	end := i + n
	t.key = appendKey(t.key[:0], s[i:end])
	h := hash(hashStart, t.key)
	for words := 1; ; words++ {
		_, at := g.find(t.key, h)
		if at >= 0 && g.entries[at].length > 0 {
			p.kind, p.entry, p.end, p.plural = known, at, end, false
		} else if one := t.singularOf(t.key); one >= 0 {
			p.kind, p.entry, p.end, p.plural = known, one, end, true
		}
		if at < 0 || !g.entries[at].extends || words == MaxPhraseWords {
			break
		}
		next := nextWord(s, end)
		if next < 0 {
			break
		}
		before := len(t.key)
		t.key = appendKey(t.key, s[end:next])
		h = hash(h, t.key[before:])
		end = next
	}
	if p.kind == known {
		p.class = g.entries[p.entry].class
	}
	return p
}

// nextWord returns the end of the word that follows position i after one space or hyphen, -1 if none does.
func nextWord(s string, i int) int {
	if i+1 >= len(s) || s[i] != ' ' && s[i] != '-' {
		return -1
	}
	n := wordLen(s[i+1:])
	end := i + 1 + n
	if n == 0 || n > MaxPhraseBytes || end < len(s) && isDigit(s[end]) || s[i] == ' ' && addressLen(s[i+1:]) > 0 {
		return -1
	}
	return end
}

// singularOf returns the noun whose English plural a key is, -1 if there is none.
func (t *Translator) singularOf(key []byte) int {
	n := len(key)
	if n < 4 || key[n-1] != 's' || key[n-2] == 's' || key[n-2] == '\'' {
		return -1
	}
	if at := t.countable(key[:n-1]); at >= 0 || key[n-2] != 'e' {
		return at
	}
	if sibilant(key[:n-2]) {
		if at := t.countable(key[:n-2]); at >= 0 {
			return at
		}
	}
	if key[n-3] != 'i' {
		return -1
	}
	t.stem = append(append(t.stem[:0], key[:n-3]...), 'y')
	return t.countable(t.stem)
}

// sibilant reports whether an English noun takes -es.
func sibilant(w []byte) bool {
	s := view(w)
	return endsIn(s, "s", "x", "z", "ch", "sh", "o")
}

// countable returns the noun of a key if its plural in the target language can be told, else -1.
func (t *Translator) countable(key []byte) int {
	g := t.glossary
	_, at := g.find(key, hash(hashStart, key))
	if at < 0 || g.entries[at].length == 0 {
		return -1
	}
	c := g.entries[at].class
	if !c.noun() || c.plural() {
		return -1
	}
	target := g.target(at)
	if strings.IndexByte(target, '|') < 0 && (!t.language.inflected() || headLen(target) == 0) {
		return -1
	}
	return at
}

// headLen returns the length of the word that a plural changes: the only one, or the one before a preposition. 0: it cannot be told.
func headLen(target string) int {
	at := strings.IndexByte(target, ' ')
	if at < 0 {
		return len(target)
	}
	next, _, _ := strings.Cut(target[at+1:], " ")
	switch next {
	case "de", "del", "a", "al", "para", "con", "en", "por", "du", "des", "à", "au", "pour", "sans", "sin":
		return at
	}
	if strings.HasPrefix(next, "d'") {
		return at
	}
	return 0
}

// shouting reports whether the one-letter word s[start:end] stands beside a word in capitals.
func shouting(s string, start, end int) bool {
	if end+1 < len(s) && s[end] == ' ' {
		if n := wordLen(s[end+1:]); n > 0 && survey(s[end+1:end+1+n]).shouts() {
			return true
		}
	}
	if start == 0 || s[start-1] != ' ' {
		return false
	}
	before := start - 1
	for before > 0 && !isSpace(s[before-1]) {
		before--
	}
	return survey(s[before : start-1]).shouts()
}

// alphanumericLen returns the length of the run of letters and digits that s starts with.
func alphanumericLen(s string) int {
	n := 0
	for n < len(s) {
		if isDigit(s[n]) {
			n++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[n:])
		if !letters.IsLetter(r) {
			break
		}
		n += size
	}
	return n
}

// addressLen returns the length of the address that s starts with, 0 if it is none: a URL, an e-mail address, a
// path, a tag, a file or host name, an identifier. Punctuation around it is left out at the end and taken in at the start.
func addressLen(s string) int {
	n, signs := 0, false
	for n < len(s) && !isSpace(s[n]) {
		switch s[n] {
		case ':', '.', '@', '_', '\\', '#', '/', '~', '$':
			signs = true
		}
		n++
	}
	if !signs {
		return 0
	}
	chunk := s[:n]
	chunk = strings.TrimRight(chunk, ".,;:!?)]}>\"'*")
	body := strings.TrimLeft(chunk, "([{<\"'*")
	if len(body) < 2 {
		return 0
	}
	switch {
	case strings.Contains(body, "://"), strings.HasPrefix(body, "www."), strings.IndexByte(body, '_') >= 0,
		strings.IndexByte(body, '@') >= 0, strings.IndexByte(body, '\\') >= 0:
		return len(chunk)
	case strings.IndexByte("#/~$", body[0]) >= 0 && wordLen(body[1:]) > 0:
		return len(chunk)
	}
	for i := 1; i+1 < len(body); i++ {
		if body[i] == '.' && alphanumeric(body[i-1]) && alphanumeric(body[i+1]) {
			return len(chunk)
		}
	}
	return 0
}

func alphanumeric(c byte) bool {
	return isDigit(c) || letters.ToLower(rune(c)) >= 'a' && letters.ToLower(rune(c)) <= 'z'
}
