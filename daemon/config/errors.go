package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// An Error is one mistake in a configuration.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty"` // "profiles[0].max_ttl"
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

// Error is "FILE:LINE:COLUMN: field: problem", and the hint on a line of its
// own.
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
	if e.Hint != "" {
		b.WriteString("\nhint: " + e.Hint)
	}
	return b.String()
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

// nearest is the field name that is most like a wrong one, "" if none is.
func nearest(wrong string) string {
	best, least := "", 3 // more than two slips is another word
	for _, name := range fieldNames(reflect.TypeFor[Config](), map[reflect.Type]bool{}) {
		if d := distance(wrong, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// fieldNames are all the names that a configuration can have.
func fieldNames(t reflect.Type, seen map[reflect.Type]bool) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return nil
	}
	seen[t] = true
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" {
			names = append(names, name)
		}
		names = append(names, fieldNames(t.Field(i).Type, seen)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// distance is the number of letters to add, drop or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
