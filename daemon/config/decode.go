package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// A file is decoded here and not by the library, to find every mistake in one
// go, each with its place, and to take no value for another: 0660 and yes mean
// different things in different YAMLs.

// decode fills in c, and notes where each field stands. It returns false if
// there is nothing to check.
func (s *source) decode(data []byte, c *Config) bool {
	if !s.readable(data) {
		return false
	}
	tokens := lexer.Tokenize(string(data))
	if !s.plain(tokens) {
		return false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		s.notYAML(err)
		return false
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType && d.Body.Type() != ast.CommentGroupType {
			bodies = append(bodies, d.Body)
		}
	}
	switch len(bodies) {
	case 0:
		s.hidden[1] = true // it may be another file altogether
		s.note("", place{1, 1}, "empty", "`signet init DIR` writes a configuration that starts as it is")
	case 1:
		s.value("", bodies[0], reflect.ValueOf(c).Elem())
		return !s.bad[""]
	default:
		s.note("", startOf(bodies[1]), "more than one YAML document", "remove the --- lines")
	}
	return false
}

// notYAML notes what the parser says. Its line is not repeated: nobody knows
// yet what stands there.
func (s *source) notYAML(err error) {
	p, problem := place{1, 1}, "not YAML"
	var y yaml.Error
	if errors.As(err, &y) {
		p, problem = placeOf(y.GetToken()), "not YAML: "+y.GetMessage()
	}
	s.hidden[p.line] = true
	s.note("", p, problem, "look at this line and the one before for a missing quote, colon or bracket, or a tab")
}

// value decodes one node.
func (s *source) value(at string, n ast.Node, v reflect.Value) {
	if _, null := n.(*ast.NullNode); null {
		s.null(at, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		s.value(at, n, v.Elem())
	case reflect.Struct:
		s.structure(at, n, v)
	case reflect.Slice:
		s.list(at, n, v)
	case reflect.Map:
		s.open(at, n, v)
	default:
		s.scalar(at, n, v)
	}
}

// null takes a section whose every line is commented out for one that is not
// there. Elsewhere it is a mistake: a rule with its value gone would be wider.
func (s *source) null(at string, v reflect.Value) {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || len(at) > 0 && at[len(at)-1] == ']' {
		s.wrong(at, "no value", "give it one, or remove the line")
	}
}

// entries are the keys and values of a mapping, each key once.
func (s *source) entries(at string, n ast.Node, want string) ([]*ast.MappingValueNode, bool) {
	var all []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		all = m.Values
	case *ast.MappingValueNode:
		all = []*ast.MappingValueNode{m}
	default:
		s.mismatch(at, n, want)
		return nil, false
	}
	seen := map[string]place{}
	var once []*ast.MappingValueNode
	for _, e := range all {
		name, p := e.Key.GetToken().Value, placeOf(e.Key.GetToken())
		if first, twice := seen[name]; twice {
			s.note(join(at, name), p, fmt.Sprintf("a second time; the first is in line %d", first.line), "remove one of them")
			continue
		}
		seen[name] = p
		once = append(once, e)
	}
	return once, true
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// structure decodes a mapping whose fields are known.
func (s *source) structure(at string, n ast.Node, v reflect.Value) {
	want := aMap
	if v.Type() == reflect.TypeFor[Secret]() {
		want = aPlace
		s.hide(n)
	}
	entries, ok := s.entries(at, n, want)
	if !ok {
		return
	}
	fields := fieldsOf(v.Type())
	for _, e := range entries {
		key := e.Key.GetToken()
		f, ok := find(fields, key.Value)
		if !ok {
			s.unknown(at, v.Type(), e)
			continue
		}
		path := join(at, f.name)
		s.places[path] = start(e)
		if text, ok := e.Value.(*ast.StringNode); ok && text.Value == "" && !f.blank {
			s.wrong(path, "empty", "give it a value, or remove the line")
			continue
		}
		s.value(path, e.Value, v.FieldByIndex(f.index))
	}
}

// unknown notes a name that means nothing here. What it stands for may be a
// secret that somebody wrote into the file, so its lines are not repeated.
func (s *source) unknown(at string, t reflect.Type, e *ast.MappingValueNode) {
	name := e.Key.GetToken().Value
	hint, meant := remedy(t, name)
	if meant.name != "" {
		s.bad[join(at, meant.name)] = true // it is not missing, only misspelt
	}
	got := kindOf(e.Value)
	if meant.name == "" || meant.typ == reflect.TypeFor[*Secret]() || got == aMap || got == aList {
		s.hide(e)
	}
	if t == reflect.TypeFor[Secret]() {
		s.bad[at] = true // whatever else it lacks follows from this
	}
	s.note(at, placeOf(e.Key.GetToken()), "unknown field "+quote(name), hint)
}

// start is where the value of a field begins; for none, its name.
func start(e *ast.MappingValueNode) place {
	if _, null := e.Value.(*ast.NullNode); null {
		return placeOf(e.Key.GetToken())
	}
	return startOf(e.Value)
}

func startOf(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return placeOf(n.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key.GetToken())
	}
	return placeOf(n.GetToken())
}

// list decodes a sequence.
func (s *source) list(at string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s.mismatch(at, n, aList)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		path := fmt.Sprintf("%s[%d]", at, i)
		s.places[path] = startOf(item)
		s.value(path, item, v.Index(i))
	}
}

// scalar decodes text, a number or true and false.
func (s *source) scalar(at string, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.StringNode:
		if v.Kind() == reflect.String {
			v.SetString(n.Value)
			return
		}
	case *ast.LiteralNode:
		if v.Kind() == reflect.String {
			v.SetString(n.Value.Value)
			return
		}
	case *ast.BoolNode:
		if v.Kind() == reflect.Bool {
			v.SetBool(n.Value)
			return
		}
	case *ast.IntegerNode, *ast.FloatNode:
		if s.number(n.GetToken().Value, v) {
			return
		}
	}
	s.mismatch(at, n, wanted(v.Kind()))
}

// number takes digits for what they look like: text where text is wanted,
// such as a serial number, else a decimal number.
func (s *source) number(text string, v reflect.Value) bool {
	switch v.Kind() { //nolint:exhaustive // no number for others
	case reflect.String:
		v.SetString(text)
		return true
	case reflect.Int:
		i, err := strconv.ParseInt(text, 10, 34) // a vendor's mechanism has 32 bits, without a sign
		v.SetInt(i)
		return err == nil && plainNumber(text)
	case reflect.Uint32:
		u, err := strconv.ParseUint(text, 10, 32)
		v.SetUint(u)
		return err == nil && plainNumber(text) && u != math.MaxUint32 // the kernel's "nobody"
	}
	return false
}

// plainNumber holds back what some readers of YAML take for octal.
func plainNumber(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return text == "0" || digits != "" && digits[0] >= '1' && digits[0] <= '9'
}

// mismatch notes a value of another kind than the field's. What is there is
// named by its kind alone, and where a section was wanted or found its line is
// not repeated: it may be a secret, or another file altogether.
func (s *source) mismatch(at string, n ast.Node, want string) {
	got := kindOf(n)
	if got == aNumber && (want == aCount || want == anID) {
		got = quote(n.GetToken().Value)
	}
	if want == aMap || got == aMap || got == aList {
		s.hide(n)
	}
	hint := remedies[want]
	if want == aText && got == aBool {
		hint = "text that reads true or false stands in quotes"
	}
	s.wrong(at, fmt.Sprintf("want %s, got %s", want, got), hint)
}

// The kinds of value, as messages name them.
const (
	aMap    = "a section"
	aPlace  = "the place of a secret"
	aList   = "a list"
	aBool   = "true or false"
	aText   = "text"
	aClaim  = "text, a whole number, true, false, a list or a map"
	aNumber = "a number"
	aCount  = "a whole number"
	anID    = "a number from 0 to 4294967294"
)

// remedies say how to write each kind.
var remedies = map[string]string{
	aMap:   "write its fields below it, further in; `signet check-config --schema` prints what it may hold",
	aPlace: "say where the secret is, never what it is: credential, file or command",
	aList:  "put it in brackets: [a, b]",
	aBool:  "write true or false",
	aText:  "write one value, in quotes if in doubt",
	aClaim: "write it in quotes, as text",
	aCount: "write it in digits, without a leading zero",
	anID:   "write it in digits, without a leading zero; `id NAME` prints it",
}

func wanted(k reflect.Kind) string {
	switch k { //nolint:exhaustive // all that a Config has
	case reflect.Bool:
		return aBool
	case reflect.Int:
		return aCount
	case reflect.Uint32:
		return anID
	}
	return aText
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return aMap
	case *ast.SequenceNode:
		return aList
	case *ast.BoolNode:
		return aBool
	case *ast.NullNode:
		return "nothing"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return aNumber
	}
	return aText
}
