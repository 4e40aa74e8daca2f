// Freedict turns a bilingual dictionary in dictd's format (an .index and a
// .dict or gzipped .dict.dz) into a glossary for the translate plugin:
//
//	go run . -index eng-spa.index -dict eng-spa.dict.dz -base ../../plugins/translate/glossary/en-es.tsv > en-es.tsv
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// maxDictBytes bounds what is unpacked: the largest FreeDict dictionaries have some 50 MB.
const maxDictBytes = 256 << 20

func main() {
	index := flag.String("index", "", "the dictionary's .index `FILE`")
	dict := flag.String("dict", "", "its .dict or .dict.dz `FILE`")
	base := flag.String("base", "", "a glossary `FILE` whose entries come first and win")
	flag.Parse()
	if err := run(*index, *dict, *base, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "freedict:", err)
		os.Exit(1)
	}
}

func run(indexFile, dictFile, baseFile string, out, report io.Writer) error {
	if indexFile == "" || dictFile == "" {
		return errors.New("give -index FILE and -dict FILE; the Debian package dict-freedict-eng-spa has them in /usr/share/dictd")
	}
	index, err := os.ReadFile(indexFile)
	if err != nil {
		return err
	}
	dict, err := readDict(dictFile)
	if err != nil {
		return err
	}
	var base []byte
	if baseFile != "" {
		if base, err = os.ReadFile(baseFile); err != nil {
			return err
		}
	}
	w := bufio.NewWriter(out)
	c := converter{dict: dict, seen: map[string]bool{}, out: w}
	c.base(string(base))
	if err := c.index(indexFile, string(index)); err != nil {
		return err
	}
	fmt.Fprintf(report, "%d entries of the base, %d of the dictionary; left out: %d that are there already, %d that no text can match\n", c.kept, c.added, c.known, c.odd)
	return w.Flush()
}

// readDict reads the dictionary's text. A .dict.dz is a gzip file with an index for random access, which a reader may ignore.
func readDict(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxDictBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(text) > maxDictBytes {
		return nil, fmt.Errorf("%s: more than %d MB when unpacked", file, maxDictBytes>>20)
	}
	return text, nil
}

type converter struct {
	dict []byte
	seen map[string]bool // sources in lower case
	out  io.Writer

	kept, added, known, odd int
}

// base copies a glossary and remembers its sources.
func (c *converter) base(text string) {
	for _, line := range strings.Split(text, "\n") {
		source, _, ok := strings.Cut(line, "\t")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		c.seen[strings.ToLower(source)] = true
		c.kept++
		fmt.Fprintln(c.out, line)
	}
}

// index walks the lines of an .index: headword TAB offset TAB length, the numbers in dictd's base 64.
func (c *converter) index(file, text string) error {
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		word, place, ok := strings.Cut(line, "\t")
		offset, length, ok2 := strings.Cut(place, "\t")
		at, ok3 := number(offset)
		n, ok4 := number(length)
		if !ok || !ok2 || !ok3 || !ok4 {
			return fmt.Errorf("%s line %d: %q is no headword with offset and length", file, i+1, line)
		}
		if at > len(c.dict) || n > len(c.dict)-at {
			return fmt.Errorf("%s line %d: %q lies behind the end of the dictionary: do the two files belong together?", file, i+1, word)
		}
		if strings.HasPrefix(word, "00database") || strings.HasPrefix(word, "00-database") {
			continue
		}
		c.entry(string(c.dict[at : at+n]))
	}
	return nil
}

// entry writes one article: its headword, perhaps with its pronunciation between slashes, and below it the
// translations, the commonest first.
func (c *converter) entry(article string) {
	headword, rest, _ := strings.Cut(article, "\n")
	source, _, _ := strings.Cut(headword, " /")
	source = strings.TrimSpace(source)
	target := firstTranslation(rest)
	key := strings.ToLower(source)
	switch {
	case !matchable(source) || target == "":
		c.odd++
	case c.seen[key]:
		c.known++
	default:
		c.seen[key] = true
		c.added++
		fmt.Fprintf(c.out, "%s\t%s\n", source, target)
	}
}

// firstTranslation takes the first meaning and of it the first word: "1. brazo, ala" gives "brazo".
func firstTranslation(text string) string {
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		line = strings.TrimSpace(strings.TrimPrefix(line, "1."))
		for {
			open := strings.IndexAny(line, "([<")
			end := strings.IndexAny(line, ")]>")
			if open < 0 || end < open {
				break
			}
			line = strings.TrimSpace(line[:open] + line[end+1:])
		}
		line, _, _ = strings.Cut(line, ",")
		line, _, _ = strings.Cut(line, ";")
		line = strings.Join(strings.Fields(line), " ")
		if line != "" && !strings.ContainsAny(line, "|\t()[]<>") && len(line) <= 200 {
			return line
		}
	}
	return ""
}

// matchable reports whether translate can find a source in a text: one to eight words of letters with inner apostrophes, parted
// by single spaces or hyphens.
func matchable(s string) bool {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '-' })
	if len(words) == 0 || len(words) > 8 || len(s) > 120 || strings.Join(words, "") != strings.NewReplacer(" ", "", "-", "").Replace(s) ||
		len(words) != strings.Count(s, " ")+strings.Count(s, "-")+1 {
		return false
	}
	for _, w := range words {
		if strings.HasPrefix(w, "'") || strings.HasSuffix(w, "'") || strings.Contains(w, "''") {
			return false
		}
		for _, r := range w {
			if !unicode.IsLetter(r) && r != '\'' {
				return false
			}
		}
	}
	return true
}

// number reads dictd's base 64: the digits A-Z a-z 0-9 + /, the highest first.
func number(s string) (int, bool) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	n := 0
	for i := range len(s) {
		d := strings.IndexByte(digits, s[i])
		if d < 0 || n > maxDictBytes {
			return 0, false
		}
		n = n*64 + d
	}
	return n, s != ""
}
