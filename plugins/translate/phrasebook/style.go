package phrasebook

import (
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/internal/letters"
)

// style is how a target is written.
type style uint8

const (
	asStored    style = iota
	capitalised       // the first letter
	title             // the first letter of every word
	upper             // all letters
)

// look is the case of a source text.
type look struct {
	letters, uppers, words int
	initials               uint16 // bit i: word i begins with a capital
}

func (l look) shouts() bool { return l.letters > 1 && l.uppers == l.letters }

func survey(s string) look {
	var l look
	inside := false
	for _, r := range s {
		if r == '\'' || r == '’' {
			continue
		}
		if !letters.IsLetter(r) {
			inside = false
			continue
		}
		l.letters++
		capital := letters.ToLower(r) != r
		if capital {
			l.uppers++
		}
		if !inside {
			if capital && l.words < 16 {
				l.initials |= 1 << l.words
			}
			l.words++
		}
		inside = true
	}
	return l
}

// style says how the target of a known piece is written. Capitals that belong to the spelling of the entry are no reason for
// capitals in the target.
func (t *Translator) style(s string, p *piece) style {
	span := s[p.start:p.end]
	if plainLower(span) {
		return asStored
	}
	l := survey(span)
	spelling := t.glossary.spelling(p.entry)
	if span == spelling && l.initials != 0 {
		if p.opens {
			return capitalised
		}
		if l.letters > 1 || !shouting(s, p.start, p.end) {
			return asStored
		}
	}
	if l.shouts() || l.letters == 1 && l.uppers == 1 && shouting(s, p.start, p.end) {
		return upper
	}
	own := l.initials &^ survey(spelling).initials
	switch {
	case own&1 != 0 && l.words > 1 && own == 1<<l.words-1:
		return title
	case own&1 != 0, p.opens && l.initials&1 != 0:
		return capitalised
	}
	return asStored
}

// plainLower reports whether s has neither a capital nor a letter beyond ASCII; most words have not.
func plainLower(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}
