package command

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// Help is laid out for reading top down: what it does, how it is written, an
// example to copy, then every flag. It is made here and not by the flag
// library, which neither wraps lines nor keeps the order of categories; the
// library only fills in the name that the command was called by.

const (
	// defaultColumns is how wide help is when nobody knows how wide the terminal is.
	defaultColumns = 100
	minColumns     = 40
	maxColumns     = 120
	// maxFlagColumns is what flags with their values take at most on the left; what is wider has a line of its own.
	maxFlagColumns = 32
)

const calledBy = "{{.HelpName}}"

func (e *Env) columns() int {
	if e.Columns <= 0 {
		return defaultColumns
	}
	return min(max(e.Columns, minColumns), maxColumns)
}

// commandHelp is the help of one command, as a template of the flag library.
func commandHelp(env *Env, s Spec, flags []cli.Flag) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n  %s [flags]\n", calledBy, literal(s.Usage), strings.TrimSpace(calledBy+" "+literal(s.Args)))
	if s.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", literal(wrapText(s.Description, env.columns())))
	}
	if s.Examples != "" {
		b.WriteString("\nExamples:\n")
		for line := range strings.Lines(strings.Trim(s.Examples, "\n")) {
			b.WriteString("  " + literal(strings.TrimRight(line, "\n")) + "\n")
		}
	}
	b.WriteString("\nFlags:\n")
	var rows [][2]string
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); !ok || v.IsVisible() {
			rows = append(rows, flagRow(f))
		}
	}
	rows = append(rows, [2]string{"--help, -h", "show help"})
	b.WriteString(literal(twoColumns(rows, env.columns())))
	return b.String()
}

// groupHelp is the help of a command that only holds others.
func groupHelp(env *Env, usage string, commands []*cli.Command) string {
	return fmt.Sprintf("%s: %s\n\nCommands:\n%s\nMore about one: %s COMMAND --help\n",
		calledBy, literal(usage), literal(twoColumns(commandRows(commands), env.columns())), calledBy)
}

// appHelp is the help of the whole; categories come in the order in which commands name them.
func appHelp(env *Env, usage string, commands []*cli.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "millstream: %s\n", literal(usage))
	var categories []string
	for _, c := range commands {
		if !slices.Contains(categories, c.Category) {
			categories = append(categories, c.Category)
		}
	}
	for _, category := range categories {
		var members []*cli.Command
		for _, c := range commands {
			if c.Category == category {
				members = append(members, c)
			}
		}
		fmt.Fprintf(&b, "\n%s:\n%s", literal(category), literal(twoColumns(commandRows(members), env.columns())))
	}
	b.WriteString(`
More about one: millstream COMMAND --help
Flags may stand before or after arguments. Every command takes --json.
Addresses: MILLSTREAM_BROKERS (default 127.0.0.1:9092), MILLSTREAM_ADMIN (default http://127.0.0.1:9644).
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 no server answers.
`)
	return b.String()
}

func commandRows(commands []*cli.Command) [][2]string {
	var rows [][2]string
	for _, c := range commands {
		if !c.Hidden {
			rows = append(rows, [2]string{c.Name, c.Usage})
		}
	}
	return rows
}

// flagRow is a flag as it is typed, and what it does.
func flagRow(f cli.Flag) [2]string {
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return [2]string{"--" + f.Names()[0], ""}
	}
	value, usage := placeholder(doc.GetUsage())
	names := ""
	for i, name := range f.Names() {
		if i > 0 {
			names += ", "
		}
		names += strings.Repeat("-", min(2, len(name))) + name
	}
	if doc.TakesValue() {
		names += " " + value
	}
	if _, isSwitch := f.(*cli.BoolFlag); !isSwitch && doc.GetDefaultText() != "" {
		usage += " (default: " + strings.Trim(doc.GetDefaultText(), `"`) + ")"
	}
	if env := doc.GetEnvVars(); len(env) > 0 {
		usage += " [$" + strings.Join(env, ", $") + "]"
	}
	return [2]string{names, usage}
}

// placeholder takes the word in backquotes, which stands for the value, out of a flag's usage.
func placeholder(usage string) (value, plain string) {
	before, rest, found := strings.Cut(usage, "`")
	value, after, closed := strings.Cut(rest, "`")
	if !found || !closed {
		return "VALUE", usage
	}
	return value, before + value + after
}

// twoColumns sets names beside their explanations, which are wrapped.
func twoColumns(rows [][2]string, columns int) string {
	left := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r[0]); n <= maxFlagColumns {
			left = max(left, n)
		}
	}
	left = min(left, columns/2)
	hanging := strings.Repeat(" ", left+4)
	var b strings.Builder
	for _, r := range rows {
		text := wrapText(r[1], columns-len(hanging))
		if n := utf8.RuneCountInString(r[0]); n > left {
			fmt.Fprintf(&b, "  %s\n%s", r[0], hanging)
		} else {
			fmt.Fprintf(&b, "  %s%s", r[0], hanging[n+2:])
		}
		b.WriteString(strings.ReplaceAll(text, "\n", "\n"+hanging) + "\n")
	}
	return b.String()
}

// wrapText breaks every paragraph into lines of at most so many columns, where its words allow.
func wrapText(text string, columns int) string {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var b strings.Builder
		used := 0
		for _, word := range strings.Fields(paragraph) {
			n := utf8.RuneCountInString(word)
			switch {
			case used == 0:
			case used+1+n > columns:
				b.WriteByte('\n')
				used = 0
			default:
				b.WriteByte(' ')
				used++
			}
			b.WriteString(word)
			used += n
		}
		paragraphs = append(paragraphs, b.String())
	}
	return strings.Join(paragraphs, "\n\n")
}

// literal keeps text from being taken for instructions of a template.
func literal(text string) string { return strings.ReplaceAll(text, "{{", `{{"{{"}}`) }
