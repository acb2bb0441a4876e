package policy

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A member is one claim: its name and its value as canonical JSON.
type member struct {
	name  string
	value []byte
}

func byName(a, b member) int { return strings.Compare(a.name, b.name) }

func find(in []member, name string) (member, bool) {
	for i := range in {
		if in[i].name == name {
			return in[i], true
		}
	}
	return member{}, false
}

func namesOf(in []member) []string {
	var names []string
	for _, m := range in {
		names = append(names, m.name)
	}
	return names
}

var errNotObject = errors.New("not one JSON object")

func canonicalValue(raw []byte) ([]byte, error) {
	v := jsontext.Value(bytes.Clone(raw))
	err := v.Canonicalize()
	return v, err
}

func parseObject(data []byte) ([]member, error) {
	canonical, err := canonicalValue(data)
	if err != nil {
		return nil, err
	}
	d := jsontext.NewDecoder(bytes.NewReader(canonical))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, errNotObject
	}
	var out []member
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		out = append(out, member{key, bytes.Clone(value)})
	}
	return out, nil
}

// merge writes two sorted lists as one canonical object, nil if it would be
// empty. Names that are in both have the same value.
func merge(a, b []member) []byte {
	if len(a)+len(b) == 0 {
		return nil
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, byName)
	out := []byte{'{'}
	for i, m := range all {
		if i > 0 && all[i-1].name == m.name {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		// Names were checked to need no escapes: isClaimName.
		out = append(append(append(out, '"'), m.name...), '"', ':')
		out = append(out, m.value...)
	}
	return append(out, '}')
}
