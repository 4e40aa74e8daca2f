package phrasebook

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/millstream-io/millstream/plugins/internal/letters"
)

// words is a small glossary that has one of every kind.
const words = `# test words
the	el|la|los|las	det
a	un|una|unos|unas	det
that	ese|esa|esos|esas|que	det
of	de
of the	del|de la|de los|de las
and	y
or	o
to the	al|a la|a los|a las
new	nuevo|nueva|nuevos|nuevas
good	buen|buena|buenos|buenas
good morning	buenos días
good morning to all of you	buenos días a todos
very	muy	very
still	todavía	adv
not	no
is	es|está	be
is not	no es|no está	be
are	son|están	bep
we are	somos|estamos	bep
she is	ella es|está	bef
red	rojo	adj
old	viejo	adj
green	verde	adj
blue	azul	adj
tired	cansado	state
wooden	de madera	adj
house	casa	f
teacher	maestro	m
class	clase	f
box	caja	f
water	agua	fe
light	luz	f
lesson	lección	f
party	fiesta	f
children	niños	mp
school bus	autobús escolar|autobuses escolares	m
bus stop	parada de autobús	f
group work	trabajo en grupo	m
exam	examen|exámenes	m
Monday	lunes	m
on Monday	el lunes
I	yo
I think	creo
i don't	no
don't	no
it's	es|está	be
working	trabajando	ing
here	aquí	place
in	en	place
at	en|a las	place
on	en|el	place
worked	trabajó|trabajaron	verb
read	leer|leen	bare
Spain	España
Spanish	español	adj
e-mail	correo electrónico	m
well-known	conocido	adj
wings	alas	fp
history	historia	f
write	escribir
PDF	PDF
`

func newTranslator(t testing.TB, glossary, language string) *Translator {
	t.Helper()
	g, err := Parse(glossary)
	if err != nil {
		t.Fatal(err)
	}
	return New(g, LanguageOf(language))
}

func TestTranslate(t *testing.T) {
	tests := []struct {
		name, in, want string
		unknown        int
	}{
		{"nothing", "", "", 0},
		{"longest phrase first", "good morning to all of you", "buenos días a todos", 0},
		{"the phrase breaks off", "good morning to all", "buenos días to all", 2},
		{"only single spaces join a phrase", "good  morning", "buen  morning", 1},
		{"a phrase ends at a comma", "good, morning", "buen, morning", 1},

		{"capitalised", "Good morning", "Buenos días", 0},
		{"all capitals", "GOOD MORNING", "BUENOS DÍAS", 0},
		{"title", "Good Morning", "Buenos Días", 0},
		{"inner capital is no style", "the hOUSE", "la casa", 0},
		{"I in the middle", "and I think", "y creo", 0},
		{"I at the start", "I think. I think", "Creo. Creo", 0},
		{"I in capitals", "I THINK", "CREO", 0},
		{"I beside capitals", "HOUSE OR I", "CASA O YO", 0},
		{"the article in capitals", "A HOUSE", "UNA CASA", 0},
		{"the mark A", "the red A", "el rojo A", 0},
		{"a day in the middle", "the house on Monday", "la casa el lunes", 0},
		{"a day at the start", "Monday", "Lunes", 0},
		{"a name keeps its capital", "in Spain", "en España", 0},
		{"an abbreviation", "the PDF", "el PDF", 0},

		{"article", "the house and the teacher", "la casa y el maestro", 0},
		{"plurals", "the houses of the teachers", "las casas de los maestros", 0},
		{"plural in -es", "boxes and classes", "cajas y clases", 0},
		{"plural in -ies", "the parties", "las fiestas", 0},
		{"plural of -z and -ión", "lights and lessons", "luces y lecciones", 0},
		{"plural given", "the exams", "los exámenes", 0},
		{"plural of a phrase", "bus stops, school buses", "paradas de autobús, autobuses escolares", 0},
		{"a verb has no plural", "writes", "writes", 1},
		{"irregular plural", "the children", "los niños", 0},
		{"no noun follows", "that house, that Qwerty, I think that the house", "esa casa, que Qwerty, creo que la casa", 1},
		{"el agua", "the water, a water, the new water", "el agua, un agua, la nueva agua", 0},
		{"an adjective in front", "the new house", "la nueva casa", 0},
		{"an adjective behind", "the red house", "la casa roja", 0},
		{"the case of the places", "Red houses. RED HOUSE", "Casas rojas. CASA ROJA", 0},
		{"two adjectives", "the old red houses", "las casas viejas rojas", 0},
		{"an intensifier", "a very old house", "una casa muy vieja", 0},
		{"forms of adjectives", "green lights, blue lights, Spanish class", "luces verdes, luces azules, clase española", 0},
		{"an adjective of several words", "the wooden houses", "las casas de madera", 0},
		{"the subject of a clause", "the house is very old", "la casa es muy vieja", 0},
		{"the clause ends", "the house, old", "la casa, viejo", 0},
		{"a state", "the class is still tired", "la clase está todavía cansada", 0},
		{"a plural subject", "we are tired, the classes are tired", "estamos cansados, las clases están cansadas", 0},
		{"she", "she is tired", "está cansada", 0},
		{"an action going on", "the teacher is not working", "el maestro no está trabajando", 0},
		{"a place", "it's here", "está aquí", 0},

		{"a verb follows its noun", "the teacher worked, the teachers worked", "el maestro trabajó, los maestros trabajaron", 0},
		{"a bare verb", "read! the teachers still read, the teacher Ann read", "leer! los maestros todavía leen, el maestro Ann leer", 1},
		{"a time", "at 8:30, at the house, at (8)", "a las 8:30, en la casa, en (8)", 0},

		{"contractions", "I don't, it’s good", "No, es buen", 0},
		{"hyphens", "a well-known teacher; e-mail; red-green", "un maestro conocido; correo electrónico; rojo-verde", 0},
		{"de el is del", "of the teacher, (of red the house, of the very old", "del maestro, (de rojo la casa, del muy viejo", 0},
		{"joined within brackets", "the class (and history)", "la clase (e historia)", 0},
		{"y is e before i", "the class and history", "la clase e historia", 0},

		{"unknown words pass", "the zebra and Qwerty", "el zebra y Qwerty", 2},
		{"punctuation", "¿Good? (the house!) — “red”…", "¿Buen? (la casa!) — “rojo”…", 0},
		{"white space", " the\t house \n\n the  ", " el\t casa \n\n el  ", 0},
		{"numbers", "3.5 houses, 10:30, 50%, 1,000", "3.5 casas, 10:30, 50%, 1,000", 0},
		{"letters and digits", "H2O 3rd 10am red2", "H2O 3rd 10am red2", 0},
		{"addresses", "red.house@good.org https://red.house/good www.red.es red_house #red /red/house red.txt", "red.house@good.org https://red.house/good www.red.es red_house #red /red/house red.txt", 0},
		{"an address in brackets", "(see https://red.es/the), red", "(see https://red.es/the), rojo", 1},
		{"a phrase does not reach into an address", "good morning.es", "buen morning.es", 0},
		{"not UTF-8", "the \xff\xfe house\xc3", "el \xff\xfe casa\xc3", 0},
	}
	tr := newTranslator(t, words, "es")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, unknown := tr.Append(nil, []byte(tt.in))
			if string(got) != tt.want || unknown != tt.unknown {
				t.Errorf("%q: got %q, %d unknown; want %q, %d", tt.in, got, unknown, tt.want, tt.unknown)
			}
		})
	}
}

func TestFrench(t *testing.T) {
	const words = "the\tle|la|les|les\nof\tde\nof the\tdu|de la|des|des\nto\tà\nto the\tau|à la|aux|aux\nthis\tce|cette|ces|ces\nmy\tmon|ma|mes|mes\nthat\tque\nif\tsi\nhe\til\ni\tje\n" +
		"have\tai\nschool\técole\tf\ntree\tarbre\tm\nhall\thall\tm\nchair\tchaise\tf\nbook\tlivre\tm\nanimal\tanimal\tm\nboard\ttableau\tm\nhappy\theureux|heureuse|heureux|heureuses\tadj\nactive\tactif\tadj\ngreen\tvert\tadj\nhigh\thaut\tadj\nsmall\tpetit|petite|petits|petites\tpre\nare\tsont\n"
	tests := []struct{ in, want string }{
		{"the school, the tree, the chair", "l'école, l'arbre, la chaise"},
		{"The school. THE SCHOOL", "L'école. L'ÉCOLE"},
		{"of the tree, to the tree, to the school", "de l'arbre, à l'arbre, à l'école"},
		{"of the book, of the books", "du livre, des livres"},
		{"this tree, my school, my chair", "cet arbre, mon école, ma chaise"},
		{"I have", "J'ai"},
		{"if he, that he", "s'il, qu'il"},
		{"the boards of the animals", "les tableaux des animaux"},
		{"happy schools, active schools, the green chairs", "écoles heureuses, écoles actives, les chaises vertes"},
		{"the small chair, the chairs are small", "la petite chaise, les chaises sont petites"},
		{"the  tree", "le  arbre"},
	}
	tr := newTranslator(t, words, "fr")
	for _, tt := range tests {
		if got, _ := tr.Append(nil, []byte(tt.in)); string(got) != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

// TestOtherLanguage: a language without grammar takes the words as the glossary has them.
func TestOtherLanguage(t *testing.T) {
	tr := newTranslator(t, "the\tdas\nhouse\tHaus|Häuser\tm\nbook\tBuch\tm\nred\trot\tadj\n", "de")
	got, unknown := tr.Append(nil, []byte("the houses, the books, RED"))
	if want := "das Häuser, das books, ROT"; string(got) != want || unknown != 1 {
		t.Errorf("got %q, %d unknown; want %q, 1", got, unknown, want)
	}
}

// TestLongTexts: a text of any length comes out whole, at a cost that grows with its length only.
func TestLongTexts(t *testing.T) {
	tr := newTranslator(t, words, "es")
	line := "The red house of the teachers. And the water\n"
	want, _ := tr.Append(nil, []byte(line))
	const n = 20_000
	if got, _ := tr.Append(nil, bytes.Repeat([]byte(line), n)); !bytes.Equal(got, bytes.Repeat(want, n)) {
		t.Error("lines are not translated as each alone")
	}
	// What makes words look far, and what the glossary knows nothing of.
	for part, untouched := range map[string]bool{
		"red ": false, "very ": false, "the ": false, "still ": false, "is ": false, "A ": false, "red-": false,
		"zebra": true, "é": true, "x,": true, "...": true, "\xff": true, "a@": true, " ": true,
	} {
		text := bytes.Repeat([]byte(part), 1<<18/len(part))
		out, _ := tr.Append(nil, text)
		if untouched && !bytes.Equal(out, text) {
			t.Errorf("%q: a text of nothing known has changed", part)
		}
		if cap(tr.pieces) > 2*segmentBytes {
			t.Fatalf("%q: room for %d pieces", part, cap(tr.pieces))
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	got, _ := newTranslator(t, words, "es").Append([]byte("el "), []byte("of the house"))
	if want := "el de la casa"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoAllocation(t *testing.T) {
	tr := newTranslator(t, words, "es")
	text := []byte("Good morning! The red houses of the teachers are very old, AND I think it’s here: https://example.com, 3rd zebra e-mail.")
	var buf []byte
	buf, _ = tr.Append(buf[:0], text)
	if n := testing.AllocsPerRun(100, func() { buf, _ = tr.Append(buf[:0], text) }); n != 0 {
		t.Errorf("%v allocations a text", n)
	}
}

// other returns what of a text is neither letter nor digit nor apostrophe.
func other(s string) string {
	return strings.Map(func(r rune) rune {
		if letters.IsLetter(r) || r < 0x80 && isDigit(byte(r)) || r == '\'' || r == '’' || r == ' ' || r == '-' {
			return -1
		}
		return r
	}, s)
}

// FuzzTranslate: whatever the bytes, nothing panics, punctuation is kept in order, and a text that holds no
// word of the glossary is not touched.
func FuzzTranslate(f *testing.F) {
	for _, s := range []string{"Good morning!", "THE RED HOUSE of I", "\xff\xc3(", "a-b-c it’s 10am", "http://x y@z.de", "the very very old old zebra"} {
		f.Add([]byte(s))
	}
	es, fr := newTranslator(f, words, "es"), newTranslator(f, words, "fr")
	nothing := newTranslator(f, "qqqqq\tx", "es")
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, tr := range []*Translator{es, fr} {
			got, _ := tr.Append(nil, text)
			if utf8.Valid(text) {
				if !utf8.Valid(got) {
					t.Fatalf("%q: %q is not UTF-8", text, got)
				}
				if a, b := other(string(text)), other(string(got)); a != b {
					t.Fatalf("%q: punctuation %q became %q", text, a, b)
				}
			}
			again, _ := tr.Append(nil, text)
			if !bytes.Equal(got, again) {
				t.Fatalf("%q: first %q, then %q", text, got, again)
			}
		}
		if got, _ := nothing.Append(nil, text); !bytes.Contains(bytes.ToLower(text), []byte("qqqqq")) && !bytes.Equal(got, text) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text, err := os.ReadFile("../glossary/en-es.tsv")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(string(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranslate(b *testing.B) {
	tr := newTranslator(b, words, "es")
	text := []byte("Good morning! The red houses of the teachers are very old, and I think it’s here: 100 bytes of text.")
	var buf []byte
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = tr.Append(buf[:0], text)
	}
}
