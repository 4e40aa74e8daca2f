// Package terminal writes for people: tables, sizes, ages, progress, and bytes
// that must not upset a terminal. Everything goes to the writer it is given;
// colour and progress only where the caller says that a person is looking.
package terminal

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table collects rows and aligns them on Flush.
type Table struct {
	out     io.Writer
	aligned bytes.Buffer
	w       *tabwriter.Writer
}

// NewTable starts a table with the given column names, which are printed in capitals.
func NewTable(w io.Writer, columns ...string) *Table {
	t := &Table{out: w}
	t.w = tabwriter.NewWriter(&t.aligned, 0, 8, 2, ' ', 0)
	if len(columns) > 0 {
		fmt.Fprintln(t.w, strings.ToUpper(strings.Join(columns, "\t")))
	}
	return t
}

// Row adds a row. Values are printed with %v; control characters in them are escaped, tabs too, which would be columns.
func (t *Table) Row(values ...any) {
	for i, v := range values {
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		io.WriteString(t.w, strings.ReplaceAll(string(Escape([]byte(fmt.Sprint(v)))), "\t", `\t`))
	}
	io.WriteString(t.w, "\n")
}

// Flush writes the table, without the spaces that fill up a line whose last cells are empty.
func (t *Table) Flush() error {
	if err := t.w.Flush(); err != nil {
		return err
	}
	var trimmed bytes.Buffer
	for line := range bytes.Lines(t.aligned.Bytes()) {
		trimmed.Write(bytes.TrimRight(line, " \n"))
		trimmed.WriteByte('\n')
	}
	t.aligned.Reset()
	_, err := t.out.Write(trimmed.Bytes())
	return err
}
