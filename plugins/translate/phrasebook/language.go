package phrasebook

import "strings"

// Language is what a target language adds to its glossary.
type Language struct {
	// Code is the language's ISO 639-1 code.
	Code string
	// pluralEnding returns how a noun or masculine adjective becomes plural: cut so many bytes, append ending.
	pluralEnding func(word string) (cut int, ending string)
	// feminineEnding does the same for the feminine singular of an adjective.
	feminineEnding func(word string) (cut int, ending string)
	// join looks at the last word written (its case folded) and the word that comes after one space, and
	// says how the two are written together. ok is false where nothing changes.
	join func(last, next string) (j junction, ok bool)
	// joinBytes is the length of the longest word that join looks for.
	joinBytes int
}

// junction says how two words are written together.
type junction struct {
	word string // instead of the last word and the space behind it; an underscore is a space
	skip int    // bytes of the next word that are left out
}

// LanguageOf returns the language with a code; for one that the package does not know, a language without grammar of its own, whose words are
// taken as the glossary has them.
func LanguageOf(code string) Language {
	switch code {
	case "es":
		return Language{Code: code, pluralEnding: spanishPlural, feminineEnding: spanishFeminine, join: spanishJoin, joinBytes: len("de")}
	case "fr":
		return Language{Code: code, pluralEnding: frenchPlural, feminineEnding: frenchFeminine, join: frenchJoin, joinBytes: len("lorsque")}
	}
	return Language{Code: code}
}

// inflected reports whether the language can make forms that a glossary does not hold.
func (l *Language) inflected() bool { return l.pluralEnding != nil }

func endsIn(word string, endings ...string) bool {
	for _, e := range endings {
		if strings.HasSuffix(word, e) {
			return true
		}
	}
	return false
}

func spanishPlural(w string) (int, string) {
	switch {
	case endsIn(w, "z"):
		return 1, "ces"
	case endsIn(w, "ión"):
		return len("ón"), "ones"
	case endsIn(w, "ón"):
		return len("ón"), "ones"
	case endsIn(w, "án"):
		return len("án"), "anes"
	case endsIn(w, "ín"):
		return len("ín"), "ines"
	case endsIn(w, "és"):
		return len("és"), "eses"
	case endsIn(w, "ús"):
		return len("ús"), "uses"
	case endsIn(w, "s", "x"):
		return 0, ""
	case endsIn(w, "a", "e", "i", "o", "u", "á", "é", "ó"):
		return 0, "s"
	}
	return 0, "es"
}

func spanishFeminine(w string) (int, string) {
	switch {
	case endsIn(w, "o"):
		return 1, "a"
	case endsIn(w, "dor", "ñol"):
		return 0, "a"
	case endsIn(w, "és"):
		return len("és"), "esa"
	case endsIn(w, "án"):
		return len("án"), "ana"
	}
	return 0, ""
}

func spanishJoin(last, next string) (junction, bool) {
	switch {
	case (last == "a" || last == "de") && (next == "el" || strings.HasPrefix(next, "el ")):
		return junction{word: last, skip: 1}, true
	case last == "y" && (strings.HasPrefix(next, "i") || strings.HasPrefix(next, "í") || strings.HasPrefix(next, "hi") && !strings.HasPrefix(next, "hie")):
		return junction{word: "e_"}, true
	case last == "o" && (strings.HasPrefix(next, "o") || strings.HasPrefix(next, "ó") || strings.HasPrefix(next, "ho")):
		return junction{word: "u_"}, true
	}
	return junction{}, false
}

func frenchPlural(w string) (int, string) {
	switch {
	case endsIn(w, "s", "x", "z"):
		return 0, ""
	case endsIn(w, "eau", "eu", "au"):
		return 0, "x"
	case endsIn(w, "al"):
		return 1, "ux"
	}
	return 0, "s"
}

func frenchFeminine(w string) (int, string) {
	switch {
	case endsIn(w, "e"):
		return 0, ""
	case endsIn(w, "eux"):
		return 1, "se"
	case endsIn(w, "er"):
		return 2, "ère"
	case endsIn(w, "el", "il", "en", "on"):
		return 0, w[len(w)-1:] + "e"
	case endsIn(w, "if"):
		return 1, "ve"
	}
	return 0, "e"
}

func frenchJoin(last, next string) (junction, bool) {
	first, _, _ := strings.Cut(next, " ")
	switch article := first == "le" || first == "les"; {
	case article && last == "de":
		return junction{word: frenchContracted(first, "du", "des"), skip: len(first)}, true
	case article && last == "à":
		return junction{word: frenchContracted(first, "au", "aux"), skip: len(first)}, true
	case last == "si" && (first == "il" || first == "ils"):
		return junction{word: "s'"}, true
	case !frenchVowel(next):
		return junction{}, false
	}
	word := frenchElided(last)
	return junction{word: word}, word != ""
}

func frenchContracted(article, singular, plural string) string {
	if article == "le" {
		return singular
	}
	return plural
}

// frenchElided returns what a word becomes before a vowel, "" if it stays. An underscore is a space.
func frenchElided(word string) string {
	switch word {
	case "le", "la":
		return "l'"
	case "je":
		return "j'"
	case "me":
		return "m'"
	case "te":
		return "t'"
	case "se":
		return "s'"
	case "ne":
		return "n'"
	case "de":
		return "d'"
	case "que":
		return "qu'"
	case "lorsque":
		return "lorsqu'"
	case "puisque":
		return "puisqu'"
	case "du":
		return "de_l'"
	case "au":
		return "à_l'"
	case "ce":
		return "cet_"
	case "ma":
		return "mon_"
	case "ta":
		return "ton_"
	case "sa":
		return "son_"
	}
	return ""
}

// frenchVowel reports whether a word begins with a vowel sound. The aspirated h of common words is excepted.
func frenchVowel(w string) bool {
	if startsWith(w, "onze", "oui", "haut", "huit", "héros", "hasard", "hors", "haine", "haricot") {
		return false
	}
	return startsWith(w, "a", "à", "â", "e", "é", "è", "ê", "i", "î", "o", "ô", "œ", "u", "û", "h")
}

func startsWith(w string, starts ...string) bool {
	for _, s := range starts {
		if strings.HasPrefix(w, s) {
			return true
		}
	}
	return false
}
