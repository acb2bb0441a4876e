package config

import (
	"fmt"
	"strings"
	"unicode"
)

// longestLine is the longest line of the file that a message repeats.
const longestLine = 160

// An Error is one mistake in a configuration.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty"`  // "profiles[0].max_ttl"
	Source  string `json:"source,omitempty"` // the line; empty where it could show a secret
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

// Error is "FILE:LINE:COLUMN: field: problem", then the line with a caret under
// the column, then the hint, each on a line of its own.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	if e.Source != "" {
		b.WriteString("\n    " + e.Source + "\n    " + e.caret())
	}
	if e.Hint != "" {
		b.WriteString("\nhint: " + e.Hint)
	}
	return b.String()
}

// caret points at the column. Tabs stay tabs, so that it stands where it should.
func (e Error) caret() string {
	var b strings.Builder
	for i, r := range []rune(e.Source) {
		if i >= e.Column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String() + "^"
}

// Errors are all the mistakes that were found, in the order of the file.
type Errors []Error

// Error lists them, one after the other.
func (es Errors) Error() string {
	var lines []string
	for _, e := range es {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

// printable is a line as a message may repeat it: no terminal's control
// characters, and nothing too long to help.
func printable(line string) string {
	line = strings.TrimRight(line, " \t\r")
	if len(line) > longestLine {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, line)
}

// quote repeats a value of the file: short, on one line.
func quote(s string) string { return fmt.Sprintf("%.64q", s) }
