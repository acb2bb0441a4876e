package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A field is what a mapping of the file may hold.
type field struct {
	name  string
	index []int // in its struct; inlined structs make it longer
	typ   reflect.Type
	blank bool // the text may be empty
}

// fieldsOf are the fields of a struct, those of inlined structs included.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
		case name != "":
			all = append(all, field{name, []int{i}, f.Type, f.Tag.Get("empty") == "ok"})
		}
	}
	return all
}

// find is the field with this very name: case counts.
func find(all []field, name string) (field, bool) {
	i := slices.IndexFunc(all, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return all[i], true
}

// remedy says what was meant by a name that is not among the fields, and
// which of them, if one was.
func remedy(t reflect.Type, wrong string) (hint string, meant field) {
	all := fieldsOf(t)
	if t == reflect.TypeFor[Secret]() {
		return remedies[aPlace], field{}
	}
	if near := nearest(all, wrong); near.name != "" {
		return fmt.Sprintf("did you mean %q?", near.name), near
	}
	if home := homeOf(reflect.TypeFor[Config](), "", wrong); home != "" {
		return fmt.Sprintf("%q belongs under %s", wrong, home), field{}
	}
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	return "one of " + strings.Join(names, ", "), field{}
}

// nearest is the field whose name is most like a wrong one, if any is.
func nearest(all []field, wrong string) field {
	best, least := field{}, 3 // more than two slips is another word
	for _, f := range all {
		d := distance(strings.ToLower(wrong), f.name)
		if sorted(wrong) == sorted(f.name) {
			d = 1 // letters in another order are one slip
		}
		if d < least && d < len(f.name)/2+1 {
			best, least = f, d
		}
	}
	return best
}

func sorted(s string) string { return string(slices.Sorted(slices.Values([]rune(s)))) }

// homeOf is the path, below t, of the section that has a field of this name.
func homeOf(t reflect.Type, at, name string) string {
	for _, f := range fieldsOf(t) {
		inner, path := f.typ, strings.TrimPrefix(at+"."+f.name, ".")
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			if inner.Kind() == reflect.Slice {
				path += "[]"
			}
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		if _, ok := find(fieldsOf(inner), name); ok {
			return path
		}
		if home := homeOf(inner, path, name); home != "" {
			return home
		}
	}
	return ""
}

// distance is the number of letters to add, drop or change (Levenshtein).
func distance(a, b string) int {
	if len(a) > 2*len(b)+2 {
		return len(a)
	}
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
