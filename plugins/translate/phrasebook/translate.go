package phrasebook

import (
	"strings"
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/internal/letters"
)

// What one text may cost is bounded: it is handled in segments, and words look at few neighbours.
const (
	segmentBytes = 16 << 10
	reach        = 8 // words
)

// Translator translates with one glossary into one language.
type Translator struct {
	glossary *Glossary
	language Language
	pieces   []piece
	key      []byte // the phrase that is looked up
	stem     []byte
	last     []byte // the last word written, in lower case
	next     []byte // the word to be written, in lower case
	writer
}

// writer is what is known while a translation is written.
type writer struct {
	subject agreement // of the last noun of the clause
	joint   int       // where the last translated word began, if only one space was written behind it; else -1
}

// New returns a translator.
func New(g *Glossary, l Language) *Translator { return &Translator{glossary: g, language: l} }

// Append appends the translation of text to dst and returns it with the number of words that the glossary does not have.
// text may be any bytes; it is not kept.
func (t *Translator) Append(dst, text []byte) (out []byte, unknownWords int) {
	opens := true
	for rest := view(text); rest != ""; {
		n := segmentLen(rest)
		var unknown int
		dst, unknown = t.segment(dst, rest[:n], opens)
		unknownWords += unknown
		opens = rest[n-1] == '\n'
		rest = rest[n:]
	}
	return dst, unknownWords
}

// segmentLen returns how much of s is handled at once: all, or up to the last line end, else white space, else character that fits.
func segmentLen(s string) int {
	if len(s) <= segmentBytes {
		return len(s)
	}
	window := s[:segmentBytes]
	for _, sign := range "\n " {
		if at := strings.LastIndexByte(window, byte(sign)); at >= 0 {
			return at + 1
		}
	}
	n := segmentBytes
	for n > segmentBytes-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

func (t *Translator) segment(dst []byte, s string, opens bool) (out []byte, unknownWords int) {
	t.scan(s, opens)
	t.writer = writer{joint: -1}
	for i := 0; i < len(t.pieces); {
		if n := t.adjectives(i); n > 0 {
			dst = t.swapped(dst, s, i, n)
			i += 2*n + 1
			continue
		}
		p := &t.pieces[i]
		switch p.kind {
		case verbatim:
			dst = t.verbatim(dst, s, p)
		case unknown:
			unknownWords++
			dst = t.unknown(dst, s[p.start:p.end])
		case known:
			dst = t.known(dst, i, t.style(s, p))
		}
		i++
	}
	return dst, unknownWords
}

func (t *Translator) verbatim(dst []byte, s string, p *piece) []byte {
	if !p.space {
		t.joint = -1
	}
	if p.breaks {
		t.subject = agreement{}
	}
	return append(dst, s[p.start:p.end]...)
}

// at returns piece i if it is a known word, else nil.
func (t *Translator) at(i int) *piece {
	if i < len(t.pieces) && t.pieces[i].kind == known {
		return &t.pieces[i]
	}
	return nil
}

// following returns the known word that stands one space behind piece i, or nil.
func (t *Translator) following(i int) *piece {
	if i+1 < len(t.pieces) && t.pieces[i+1].space {
		return t.at(i + 2)
	}
	return nil
}

// adjectives returns how many words from piece i on form a group that changes places with the noun behind it: adjectives that follow
// their noun, and intensifiers before them ("very old house" → "casa muy vieja").
func (t *Translator) adjectives(i int) int {
	n, found := 0, false
	for p := t.at(i); p != nil && n < reach; p = t.following(i + 2*(n-1)) {
		switch {
		case p.class.follows():
			found = true
		case p.class == Intensifier:
		case p.class.noun() && found:
			return n
		default:
			return 0
		}
		n++
	}
	return 0
}

// swapped writes n adjectives from piece i on and their noun, the noun first. Each place keeps its case.
func (t *Translator) swapped(dst []byte, s string, i, n int) []byte {
	noun := i + 2*n
	dst = t.known(dst, noun, t.style(s, &t.pieces[i]))
	for k := range n {
		dst = append(dst, ' ')
		style := t.style(s, &t.pieces[i+2*k+2])
		if style == asStored && t.style(s, &t.pieces[i+2*k]) == upper {
			style = upper
		}
		dst = t.known(dst, i+2*k, style)
	}
	return dst
}

// known writes piece i, a known word, in the form that its neighbours ask for.
func (t *Translator) known(dst []byte, i int, st style) []byte {
	p := &t.pieces[i]
	target := t.glossary.target(p.entry)
	second := false
	switch {
	case p.class.noun():
		return t.writeNoun(dst, p, target, st)
	case p.class.follows():
		return t.writeAdjective(dst, i, target, st)
	case p.class.chooses():
		return t.put(dst, t.determiner(i, target), st)
	case p.class.be():
		t.meet(p.class)
		second = t.temporary(i)
	case p.class == Verb:
		second = t.subject.plural
	case p.class == Bare:
		second = t.behindPlural(i)
	case p.class == Place:
		second = t.beforeFigures(i)
	}
	if second {
		return t.put(dst, form(target, 1), st)
	}
	return t.put(dst, form(target, 0), st)
}

func (t *Translator) writeNoun(dst []byte, p *piece, target string, st style) []byte {
	t.subject = agreement{feminine: p.class.feminine(), plural: p.plural || p.class.plural()}
	if p.plural && strings.IndexByte(target, '|') < 0 {
		return t.inflect(dst, target, headLen(target), agreement{plural: true}, st)
	}
	if p.plural {
		return t.put(dst, form(target, 1), st)
	}
	return t.put(dst, form(target, 0), st)
}

func (t *Translator) writeAdjective(dst []byte, i int, target string, st style) []byte {
	a := t.subject
	if noun := t.noun(i); noun != nil {
		a = agreement{feminine: noun.class.feminine(), plural: noun.plural || noun.class.plural()}
	}
	f, single := choose(target, a)
	if single && t.language.inflected() && strings.IndexByte(f, ' ') < 0 {
		return t.inflect(dst, f, len(f), a, st)
	}
	return t.put(dst, f, st)
}

// behindPlural reports whether the word before piece i, adverbs aside, is a plural noun.
func (t *Translator) behindPlural(i int) bool {
	for end := i - 2*reach; i >= 2 && i > end && t.pieces[i-1].space && t.pieces[i-2].kind == known; {
		i -= 2
		p := &t.pieces[i]
		if p.class != Adverb {
			return p.class.noun() && (p.plural || p.class.plural())
		}
	}
	return false
}

// beforeFigures reports whether one space and a figure follow piece i.
func (t *Translator) beforeFigures(i int) bool { return i+1 < len(t.pieces) && t.pieces[i+1].figure }

// determiner returns the form of a determiner that agrees with its noun.
func (t *Translator) determiner(i int, target string) string {
	if strings.IndexByte(target, '|') < 0 {
		return target
	}
	noun := t.noun(i)
	if noun == nil {
		switch {
		case strings.Count(target, "|") == 4:
			return form(target, 4)
		case t.pieces[i].class == Preceding:
			f, _ := choose(target, t.subject)
			return f
		}
		return form(target, 0)
	}
	a := agreement{feminine: noun.class.feminine(), plural: noun.plural || noun.class.plural()}
	if noun.class == FeminineEl && !a.plural && t.following(i) == noun {
		if f := form(target, 0); endsIn(f, "el", "al", "un") {
			return f
		}
	}
	f, _ := choose(target, a)
	return f
}

// noun returns the noun that the determiner or adjective at piece i belongs to: the next one, over other determiners and
// adjectives.
func (t *Translator) noun(i int) *piece {
	end := i + 2*reach
	for p := t.following(i); p != nil && i < end; p = t.following(i) {
		i += 2
		switch {
		case p.class.noun():
			return p
		case p.class.follows(), p.class == Intensifier:
		case p.class.chooses() && p.class != Determiner && strings.IndexByte(t.glossary.target(p.entry), '|') >= 0:
		default:
			return nil
		}
	}
	return nil
}

// meet lets a form of "to be" say what its subject is, if no noun said it.
func (t *Translator) meet(c Class) {
	switch {
	case c == BeFeminine:
		t.subject = agreement{feminine: true}
	case c == BePlural && !t.subject.plural:
		t.subject = agreement{plural: true}
	case c == Be && t.subject.plural:
		t.subject = agreement{}
	}
}

// temporary reports whether a state, an action going on or a place follows the form of "to be" at piece i.
func (t *Translator) temporary(i int) bool {
	end := i + 2*reach
	for p := t.following(i); p != nil && i < end; p = t.following(i) {
		switch p.class {
		case State, Ing, Place:
			return true
		case Adverb, Intensifier:
			i += 2
		default:
			return false
		}
	}
	return false
}

// inflect writes a word of which the first head bytes take the endings of an agreement.
func (t *Translator) inflect(dst []byte, word string, head int, a agreement, st style) []byte {
	t.stem = append(t.stem[:0], word[:head]...)
	if a.feminine {
		cut, ending := t.language.feminineEnding(view(t.stem))
		t.stem = append(t.stem[:len(t.stem)-cut], ending...)
	}
	if a.plural {
		cut, ending := t.language.pluralEnding(view(t.stem))
		t.stem = append(t.stem[:len(t.stem)-cut], ending...)
	}
	t.stem = append(t.stem, word[head:]...)
	return t.put(dst, view(t.stem), st)
}

// unknown writes a word as it is. The word before it may change for it ("le" → "l'"), it changes for no other.
func (t *Translator) unknown(dst []byte, word string) []byte {
	if t.joint >= 0 && t.language.join != nil {
		if j, ok := t.junction(dst, word); ok && j.skip == 0 {
			dst = t.joined(dst, j)
		}
	}
	t.joint = -1
	return append(dst, word...)
}

// put writes one word or phrase in its case, joined with the word before it where the language does so.
func (t *Translator) put(dst []byte, word string, st style) []byte {
	if t.joint >= 0 && t.language.join != nil {
		if j, ok := t.junction(dst, word); ok {
			dst = t.joined(dst, j)
			word = word[min(j.skip, len(word)):]
			if j.skip > 0 && st != upper {
				st = asStored
			}
		}
	}
	t.joint = len(dst)
	switch st {
	case upper:
		return appendUpper(dst, word)
	case capitalised:
		return appendCapitalised(dst, word, false)
	case title:
		return appendCapitalised(dst, word, true)
	}
	return append(dst, word...)
}

// junction says how the last word of dst, behind which stands a space, is written together with the word that comes next.
func (t *Translator) junction(dst []byte, next string) (junction, bool) {
	last := view(dst[t.wordStart(dst) : len(dst)-1])
	if len(last) > t.language.joinBytes {
		return junction{}, false
	}
	t.last = appendLower(t.last[:0], last)
	t.next = appendLower(t.next[:0], next)
	return t.language.join(view(t.last), view(t.next))
}

// wordStart returns where the last word of dst begins, behind which stands a space.
func (t *Translator) wordStart(dst []byte) int {
	start := len(dst) - 1
	for start > t.joint && dst[start-1] != ' ' && dst[start-1] != '\'' {
		start--
	}
	return start
}

// joined replaces the last word of dst and the space behind it.
func (t *Translator) joined(dst []byte, j junction) []byte {
	start := t.wordStart(dst)
	was := survey(view(dst[start : len(dst)-1]))
	dst = dst[:start]
	for i, r := range j.word {
		switch {
		case r == '_':
			r = ' '
		case was.shouts() || i == 0 && was.initials != 0:
			r = letters.ToUpper(r)
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
