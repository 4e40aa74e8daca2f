// Package terminal writes for people: tables, sizes, ages, progress, and bytes
// that must not upset a terminal. Everything goes to the writer it is given;
// colour and progress only where the caller says that a person is looking.
package terminal

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table collects rows and aligns them on Flush.
type Table struct {
	w *tabwriter.Writer
}

// NewTable starts a table with the given column names, which are printed in capitals.
func NewTable(w io.Writer, columns ...string) *Table {
	t := &Table{w: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(columns) > 0 {
		fmt.Fprintln(t.w, strings.ToUpper(strings.Join(columns, "\t")))
	}
	return t
}

// Row adds a row. Values are printed with %v; control characters in them are escaped.
func (t *Table) Row(values ...any) {
	for i, v := range values {
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		io.WriteString(t.w, string(Escape([]byte(fmt.Sprint(v)))))
	}
	io.WriteString(t.w, "\n")
}

// Flush writes the table.
func (t *Table) Flush() error { return t.w.Flush() }
