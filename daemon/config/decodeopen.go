package config

import (
	"fmt"
	"reflect"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// open decodes a mapping whose fields are the operator's own: claims, whose
// values are anything, or options and extensions, whose values are text.
func (s *source) open(at string, n ast.Node, v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.String {
		s.texts(at, n, v)
		return
	}
	if value, ok := s.any(at, n).(map[string]any); ok {
		v.Set(reflect.ValueOf(value))
	} else if !s.bad[at] {
		s.mismatch(at, n, aMap)
	}
}

// texts decodes names with texts. An empty one is a value, too.
func (s *source) texts(at string, n ast.Node, v reflect.Value) {
	entries, _ := s.entries(at, n, aMap)
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range entries {
		name, value := e.Key.GetToken().Value, reflect.New(v.Type().Elem()).Elem()
		s.places[join(at, name)] = start(e)
		s.value(join(at, name), e.Value, value)
		v.SetMapIndex(reflect.ValueOf(name), value)
	}
}

// any is a claim's value.
func (s *source) any(at string, n ast.Node) any {
	s.places[at] = startOf(n)
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		all := map[string]any{}
		entries, _ := s.entries(at, n, aMap)
		for _, e := range entries {
			name := e.Key.GetToken().Value
			all[name] = s.any(join(at, name), e.Value)
		}
		return all
	case *ast.SequenceNode:
		all := []any{}
		for i, item := range n.Values {
			all = append(all, s.any(fmt.Sprintf("%s[%d]", at, i), item))
		}
		return all
	case *ast.IntegerNode:
		if i, err := strconv.ParseInt(n.Token.Value, 10, 64); err == nil && plainNumber(n.Token.Value) {
			return i
		}
		s.wrong(at, quote(n.Token.Value)+" is not a whole number that every reader takes alike", "write it in digits without a leading zero, or as text in quotes")
		return nil
	case *ast.BoolNode:
		return n.Value
	}
	return s.text(at, n)
}

// text is a claim that is text. Fractions are none: verifiers disagree on them.
func (s *source) text(at string, n ast.Node) any {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	s.mismatch(at, n, aClaim)
	return nil
}
