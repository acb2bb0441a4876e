package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A place is where something stands in the file; both count from 1.
type place struct{ line, column int }

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// A source is a file with what was found where, so that whoever finds a
// mistake later can still point at it.
type source struct {
	name   string
	lines  []string
	places map[string]place // by field: "profiles[0].max_ttl"
	hidden map[int]bool     // lines that a message must not repeat: they may hold a secret
	bad    map[string]bool  // fields with a mistake; what follows from one is no news
	errs   Errors
}

func newSource(name string, data []byte) *source {
	return &source{
		name: name, lines: strings.Split(string(data), "\n"),
		places: map[string]place{}, hidden: map[int]bool{}, bad: map[string]bool{},
	}
}

// wrong notes a mistake in a field, once.
func (s *source) wrong(field, problem, hint string) {
	for at := field; at != ""; at = parent(at) {
		if s.bad[at] {
			return
		}
	}
	s.bad[field] = true
	s.note(field, s.place(field), problem, hint)
}

func (s *source) note(field string, p place, problem, hint string) {
	s.errs = append(s.errs, Error{File: s.name, Line: p.line, Column: p.column, Field: field, Problem: problem, Hint: hint})
}

// place finds a field in the file, or what it is missing from.
func (s *source) place(field string) place {
	for at := field; at != ""; at = parent(at) {
		if p, ok := s.places[at]; ok {
			return p
		}
	}
	return place{1, 1}
}

// parent is the section that a field is in, "" for the whole file.
func parent(field string) string {
	return field[:max(0, strings.LastIndexAny(field, ".["))]
}

// hide keeps the lines of a node out of messages.
func (s *source) hide(n ast.Node) {
	ast.Walk(hider(s.hidden), n)
}

type hider map[int]bool

// Visit implements ast.Visitor.
func (h hider) Visit(n ast.Node) ast.Visitor {
	t := n.GetToken()
	for i := range 1 + strings.Count(t.Origin, "\n") {
		h[placeOf(t).line+i] = true
	}
	return h
}

// found are the mistakes in the order of the file, each with its line where
// that may be shown.
func (s *source) found() Errors {
	slices.SortStableFunc(s.errs, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	for i := range s.errs {
		s.show(&s.errs[i])
	}
	return s.errs
}

// show adds the line to a mistake. What is missing from the whole file is
// missing from no line.
func (s *source) show(e *Error) {
	_, there := s.places[e.Field]
	lost := e.Field != "" && parent(e.Field) == "" && !there
	if !lost && e.Line > 0 && e.Line <= len(s.lines) && !s.hidden[e.Line] {
		e.Source = printable(s.lines[e.Line-1])
	}
}

// The parser's work grows with the square of the depth, and a configuration
// is six levels deep.
const (
	maxFile  = 4 << 20 // bytes
	maxDepth = 32
)

// readable refuses what is no text, before the parser sees it.
func (s *source) readable(data []byte) bool {
	if len(data) > maxFile {
		s.note("", place{1, 1}, fmt.Sprintf("%d bytes, the limit is %d", len(data), maxFile), "split what is generated over several daemons")
		return false
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) || bytes.ContainsRune(line, 0) {
			s.hidden[i+1] = true
			s.note("", place{i + 1, 1}, "not UTF-8 text", "save the file as UTF-8")
			return false
		}
	}
	return true
}

// plain refuses what YAML can do and a configuration needs not: a few
// anchors can stand for a file of any size, tags change what a value is, and
// depth is work. Nor is the line repeated: a PIN may begin with a star.
func (s *source) plain(tokens token.Tokens) bool {
	depth, dashes, line := 0, 0, 0
	for _, t := range tokens {
		p := placeOf(t)
		if p.line != line {
			line, dashes = p.line, 0
		}
		problem, hint := "", ""
		switch t.Type { //nolint:exhaustive // all others are plain
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			problem, hint = "anchors, aliases and merge keys are not taken", "write the value out; text that begins with * or & stands in quotes"
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			problem, hint = "tags, directives and ? keys are not taken", "text that begins with !, % or ? stands in quotes"
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			dashes++
		}
		if max(depth, dashes) > maxDepth {
			problem, hint = fmt.Sprintf("more than %d levels deep", maxDepth), "a configuration has six"
		}
		if problem != "" {
			s.hidden[p.line] = true
			s.note("", p, problem, hint)
			return false
		}
	}
	return true
}
