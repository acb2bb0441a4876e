package main

// How signet talks to a person. One fact a line; tables align; an error is
// lower case, without a full stop, and ends in "hint: …" where something can be
// done. --json prints one value for programs and nothing else. Colour is only
// for a terminal, and never the only carrier of a meaning.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// emit prints v as indented JSON.
func emit(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows under heads, aligned.
func table(w io.Writer, heads []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, cell := range r {
			cells[i] = oneLine.Replace(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// columns prints rows without heads, aligned.
func columns(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// oneLine keeps a cell in its row: an error in one has its hint on a line of its
// own.
var oneLine = strings.NewReplacer("\n", "; ", "\t", " ")

// jsonFlag adds --json to a command.
func jsonFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON")
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// paint colours s for a terminal: NO_COLOR (no-color.org) is obeyed.
func paint(w io.Writer, code, s string) string {
	if !terminal(w) || os.Getenv("NO_COLOR") != "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func green(w io.Writer, s string) string { return paint(w, "32", s) }
func bold(w io.Writer, s string) string  { return paint(w, "1", s) }
