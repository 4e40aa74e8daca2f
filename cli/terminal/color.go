package terminal

// Style colours text, or does not.
type Style bool

// NewStyle colours if a person is looking and has not set NO_COLOR (see no-color.org) or TERM=dumb.
func NewStyle(terminal bool, getenv func(string) string) Style {
	return Style(terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb")
}

func (s Style) wrap(code, text string) string {
	if !s || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold marks what matters.
func (s Style) Bold(text string) string { return s.wrap("1", text) }

// Dim marks what may be skipped.
func (s Style) Dim(text string) string { return s.wrap("2", text) }

// Good marks success.
func (s Style) Good(text string) string { return s.wrap("32", text) }

// Bad marks failure.
func (s Style) Bad(text string) string { return s.wrap("31", text) }

// Warn marks what needs a look.
func (s Style) Warn(text string) string { return s.wrap("33", text) }
