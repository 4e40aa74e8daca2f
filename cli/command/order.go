package command

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completionFlag is what the flag library's shell completion appends to a command line.
const completionFlag = "--generate-bash-completion"

// arrange rewrites a command line (without the program's name) into the one
// order that the flag library reads right: command, flags, "--", arguments.
// The library stops at the first argument and takes every flag behind it for
// another argument, silently; so flags are moved forward here, with their values.
// What stands behind "--" stays an argument whatever it looks like.
//
// Unknown commands and flags and missing values are reported here, because
// only here the whole line is seen.
func arrange(root []*cli.Command, args []string) ([]string, error) {
	args = helpOrder(args)
	var (
		path     []string
		current  *cli.Command
		commands = root
	)
	for len(args) > 0 && len(commands) > 0 {
		word := args[0]
		if strings.HasPrefix(word, "-") && word != "-" {
			if help(word) {
				return append(path, "--help"), nil
			}
			return nil, misplacedFlag(path, word, commands)
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if i < 0 {
			return nil, unknownCommand(path, word, commands)
		}
		current = commands[i]
		commands = current.Subcommands
		path = append(path, word)
		args = args[1:]
	}
	if current == nil || len(commands) > 0 {
		return path, nil
	}
	flags, arguments, err := partition(current, strings.Join(path, " "), args)
	if err != nil {
		return nil, err
	}
	if helpAsked(flags, flagsOf(current)) {
		// With arguments the library would look for help about the first of them.
		return append(path, "--help"), nil
	}
	return slices.Concat(path, flags, []string{"--"}, arguments), nil
}

// helpAsked looks for a help flag among flags and their values.
func helpAsked(flags []string, known map[string]bool) bool {
	for i := 0; i < len(flags); i++ {
		if help(flags[i]) {
			return true
		}
		if known[strings.TrimLeft(flags[i], "-")] {
			i++ // its value
		}
	}
	return false
}

// partition divides what follows a command into its flags, with their values, and its arguments.
func partition(c *cli.Command, path string, args []string) (flags, arguments []string, err error) {
	known := flagsOf(c)
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return flags, append(arguments, args...), nil
		case len(word) < 2 || word[0] != '-':
			arguments = append(arguments, word)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		takesValue, ok := known[name]
		if !ok {
			return nil, nil, unknownFlag(path, word, name, c)
		}
		flags = append(flags, word)
		if !takesValue || hasValue {
			continue
		}
		if len(args) == 0 {
			return nil, nil, needsValue(path, word)
		}
		if flagLike(args[0], known) {
			return nil, nil, needsValue(path, word).WithFix("it is followed by %s; if that is meant as its value, write %s=%s", args[0], word, args[0])
		}
		flags = append(flags, args[0])
		args = args[1:]
	}
	return flags, arguments, nil
}

// flagsOf tells for every flag name of a command whether the flag takes a value.
func flagsOf(c *cli.Command) map[string]bool {
	known := map[string]bool{"help": false, "h": false}
	for _, f := range c.Flags {
		takes := true
		if d, ok := f.(cli.DocGenerationFlag); ok {
			takes = d.TakesValue()
		}
		for _, name := range f.Names() {
			known[name] = takes
		}
	}
	return known
}

// flagLike reports whether a word is certainly a flag of this command, not the value of the flag before it.
func flagLike(word string, known map[string]bool) bool {
	name, ok := strings.CutPrefix(word, "--")
	if !ok {
		return false
	}
	name, _, _ = strings.Cut(name, "=")
	_, ok = known[name]
	return ok
}

func help(word string) bool { return word == "--help" || word == "-h" || word == "-help" }

// helpOrder turns "help topic create" into "topic create --help", and the customary --version into the command.
func helpOrder(args []string) []string {
	if len(args) == 0 {
		return args
	}
	switch args[0] {
	case "help":
		return append(slices.Clone(args[1:]), "--help")
	case "--version", "-v", "-version":
		return append([]string{"version"}, args[1:]...)
	}
	return args
}

func unknownCommand(path []string, word string, commands []*cli.Command) error {
	name := strings.Join(append([]string{"millstream"}, path...), " ")
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	e := Usagef("%q is not a command of %s", word, name)
	if s := Nearest(word, names); s != "" {
		return e.WithFix("did you mean %q? All commands: %s --help", s, name)
	}
	return e.WithFix("its commands are %s; more: %s --help", strings.Join(names, ", "), name)
}

func misplacedFlag(path []string, word string, commands []*cli.Command) error {
	name := strings.Join(append([]string{"millstream"}, path...), " ")
	return Usagef("%s: %s stands before the command", name, word).
		WithFix("write the command first: %s %s … %s", name, commands[0].Name, word)
}

func unknownFlag(path, word, name string, c *cli.Command) error {
	names, told := []string{"help"}, []string{}
	for _, f := range append(c.VisibleFlags(), cli.HelpFlag) {
		told = append(told, longNames(f)...)
	}
	for _, f := range c.Flags {
		names = append(names, longNames(f)...)
	}
	slices.Sort(told)
	told = slices.Compact(told)
	shown, _, _ := strings.Cut(word, "=")
	e := Usagef("millstream %s has no flag %s", path, shown)
	if s := Nearest(name, names); s != "" {
		return e.WithFix("did you mean --%s? All flags: millstream %s --help", s, path)
	}
	return e.WithFix("its flags are --%s; an argument that begins with a dash goes behind --", strings.Join(told, ", --"))
}

func longNames(f cli.Flag) []string {
	return slices.DeleteFunc(slices.Clone(f.Names()), func(n string) bool { return len(n) < 2 })
}

func needsValue(path, word string) *Error {
	return Usagef("millstream %s: %s needs a value", path, word)
}

// usageError takes over the flag library's own report about a value that does not parse.
func usageError(cc *cli.Context, err error, _ bool) error {
	if e := wrongValue(cc, err); e != nil {
		return e
	}
	text := err.Error()
	for _, prefix := range []string{"flag provided but not defined: ", "flag needs an argument: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	name := "millstream"
	if cc.Command != nil && cc.Command.HelpName != "" {
		name = cc.Command.HelpName
	}
	return &Error{Code: CodeUsage, Err: fmt.Errorf("%s: %s", name, text), Fix: "all flags: " + name + " --help"}
}

// wrongValues is how the flag library reports a value that does not parse.
var wrongValues = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-([^ :]+):`)

// wrongValue says in words what a flag's value should have been; nil when that is not what err is about.
func wrongValue(cc *cli.Context, err error) error {
	m := wrongValues.FindStringSubmatch(err.Error())
	if m == nil || cc.Command == nil {
		return nil
	}
	i := slices.IndexFunc(cc.Command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), m[2]) })
	if i < 0 {
		return nil
	}
	kind, example := "a whole number that fits", "7"
	switch cc.Command.Flags[i].(type) {
	case *cli.DurationFlag:
		kind, example = "a duration", "500ms, 30s or 5m"
	case *cli.BoolFlag:
		return Usagef("%s: --%s takes no value, and is given %s", cc.Command.HelpName, m[2], m[1])
	case *cli.Float64Flag:
		kind, example = "a number", "1.5"
	}
	return Usagef("%s: --%s %s is not %s", cc.Command.HelpName, m[2], m[1], kind).
		WithFix("write for example %s; all flags: %s --help", example, cc.Command.HelpName)
}

// Nearest returns the name that a misspelt word most likely means, or "".
func Nearest(word string, names []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, n := range names {
		d := editDistance(word, n)
		if d < bestDistance || (best == "" && len(word) >= 3 && strings.HasPrefix(n, word)) {
			best, bestDistance = n, min(d, bestDistance)
		}
	}
	return best
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours between a and b.
func editDistance(a, b string) int {
	before, previous, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, previous, row = previous, row, before
	}
	return previous[len(b)]
}
