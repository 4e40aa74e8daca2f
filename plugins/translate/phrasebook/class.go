package phrasebook

import (
	"strconv"
	"strings"
)

// Class tells the little grammar that a glossary may state about a target, in its third column. Without a class a target with several
// forms is a determiner or an adjective that stands before its noun: it takes the form that
// agrees with the noun that follows.
type Class uint8

// The classes, by their names in a glossary.
const (
	Plain           Class = iota // "": taken as it is, or one of 2 forms (singular|plural), 4 (m|f|mp|fp) or 5 (the last where no noun follows)
	Masculine                    // "m": noun; one form, or singular|plural
	Feminine                     // "f"
	FeminineEl                   // "fe": feminine that takes the masculine article in the singular (el agua)
	MasculinePlural              // "mp": noun that is plural as it stands
	FemininePlural               // "fp"
	Adjective                    // "adj": stands after its noun; one form (the others are made from it), 2 or 4 forms
	State                        // "state": like adj, and wants the second form of be
	Be                           // "be": two forms, the second before a state, an -ing form or a place
	BeFeminine                   // "bef": the same, its subject is feminine
	BePlural                     // "bep": the same, its subject is plural
	Ing                          // "ing": present participle
	Place                        // "place": opens a statement of place (in, at, here); of two forms the second stands before figures ("at 8:30")
	Adverb                       // "adv": may stand between be and what follows it
	Intensifier                  // "very": adverb that belongs to the adjective behind it
	Determiner                   // "det": like a plain word with forms, but only the first before its noun (the, this, my)
	Preceding                    // "pre": adjective that stands before its noun (French petit); without one it agrees with the noun before it
	Verb                         // "verb": singular|plural, as the last noun of the clause
	Bare                         // "bare": infinitive|plural; the plural only directly behind a plural noun ("the students read")
)

// classNames are ordered as the constants are.
const classNames = " m f fe mp fp adj state be bef bep ing place adv very det pre verb bare "

func classOf(name string) (Class, bool) {
	if name == "" {
		return Plain, true
	}
	at := strings.Index(classNames, " "+name+" ")
	if at < 0 || strings.IndexByte(name, ' ') >= 0 {
		return Plain, false
	}
	return Class(strings.Count(classNames[:at+1], " ")), true
}

func (c Class) noun() bool { return c >= Masculine && c <= FemininePlural }

func (c Class) feminine() bool { return c == Feminine || c == FeminineEl || c == FemininePlural }

// chooses reports whether a target of class c with several forms takes the one that agrees with the noun that follows.
func (c Class) chooses() bool { return c == Plain || c == Determiner || c == Preceding }

func (c Class) plural() bool { return c == MasculinePlural || c == FemininePlural }

func (c Class) follows() bool { return c == Adjective || c == State }

func (c Class) be() bool { return c == Be || c == BeFeminine || c == BePlural }

// wrongForms checks that a target has as many forms as its class can use, none of them empty.
func wrongForms(target string, c Class) string {
	if strings.Trim(target, " ") == "" {
		return "no translation"
	}
	forms := strings.Count(target, "|") + 1
	allowed := ""
	switch {
	case c == Plain, c == Determiner:
		if forms == 3 || forms > 5 {
			allowed = "1, 2, 4 or 5"
		}
	case c.follows(), c == Preceding:
		if forms == 3 || forms > 4 {
			allowed = "1, 2 or 4"
		}
	case c == Masculine, c == Feminine, c == FeminineEl:
		if forms > 2 {
			allowed = "1 or 2"
		}
	case c == Place:
		if forms > 2 {
			allowed = "1 or 2"
		}
	case c.be(), c == Verb, c == Bare:
		if forms != 2 {
			allowed = "2"
		}
	case forms != 1:
		allowed = "1"
	}
	if allowed != "" {
		return strconv.Itoa(forms) + " forms where " + allowed + " can be used"
	}
	for i := range forms {
		f := form(target, i)
		if f == "" || f[0] == ' ' || f[len(f)-1] == ' ' {
			return "an empty form or a space too many"
		}
	}
	return ""
}

// form returns form i of a target, the last one if it has fewer.
func form(target string, i int) string {
	for ; i > 0; i-- {
		at := strings.IndexByte(target, '|')
		if at < 0 {
			return target
		}
		target = target[at+1:]
	}
	if at := strings.IndexByte(target, '|'); at >= 0 {
		return target[:at]
	}
	return target
}

// agreement is the gender and number a word must have.
type agreement struct{ feminine, plural bool }

// choose returns the form of a target for an agreement, and whether it is the only form and therefore still to be inflected.
func choose(target string, a agreement) (f string, single bool) {
	switch strings.Count(target, "|") {
	case 0:
		return target, true
	case 1:
		if a.plural {
			return form(target, 1), false
		}
		return form(target, 0), false
	}
	i := 0
	if a.feminine {
		i = 1
	}
	if a.plural {
		i += 2
	}
	return form(target, i), false
}
