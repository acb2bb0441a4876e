// Package strictjson is the one strict JSON decoder: what it accepts reads the
// same to every reader. It refuses what encoding/json lets through (duplicate
// and case-variant names, invalid UTF-8, numbers that other languages round)
// and bounds size, depth and count before it builds anything.
//
// Numbers are integers within ±(2^53-1) and nothing else: 1e3, 1.0 and 2^53+1
// are read differently by different parsers (RFC 8259 section 6).
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrRefused says that bytes are not strict JSON. The text around it names the
// place as a JSON pointer (RFC 6901) and is safe to show: it holds no values.
var ErrRefused = errors.New("not strict JSON")

// Limits bound what is read. A zero field means its default.
type Limits struct {
	Bytes    int      // of the whole text; default 64 KiB
	Depth    int      // of nesting; default 16
	Members  int      // of all objects and arrays together; default 256
	String   int      // bytes of one string; default 8 KiB
	Reserved []string // names of which no case variant may stand at the top: AUD beside aud
}

const (
	defaultBytes   = 64 << 10
	defaultDepth   = 16
	defaultMembers = 256
	defaultString  = 8 << 10
	maxInteger     = 1<<53 - 1
)

func (l Limits) orDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.Bytes, defaultBytes}, {&l.Depth, defaultDepth}, {&l.Members, defaultMembers}, {&l.String, defaultString}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return l
}

// A Member is one member of an object, its value canonical: no white space,
// names sorted.
type Member struct {
	Name  string
	Value []byte
}

// Object reads one JSON object and returns its members in the order of the
// text. Values that are canonical already share memory with data.
func Object(data []byte, l Limits) ([]Member, error) {
	l = l.orDefaults()
	if len(data) > l.Bytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrRefused, len(data), l.Bytes)
	}
	r := &reader{data: data, limits: l}
	if r.peek() != '{' {
		return nil, fmt.Errorf("%w: not an object\nhint: send one JSON object: {…}", ErrRefused)
	}
	members, err := r.object(1)
	if err != nil {
		return nil, err
	}
	if r.peek(); r.at < len(data) {
		return nil, fmt.Errorf("%w: bytes follow the object at byte %d", ErrRefused, r.at)
	}
	return members, nil
}

// Canonical reads one JSON object and writes it without white space, the names
// of every object sorted: the form of RFC 8785 for what this package accepts.
func Canonical(data []byte, l Limits) ([]byte, error) {
	members, err := Object(data, l)
	if err != nil {
		return nil, err
	}
	return Join(members), nil
}

// Join writes members as one canonical object.
func Join(members []Member) []byte {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return appendObject(nil, sorted)
}

func appendObject(b []byte, members []Member) []byte {
	b = append(b, '{')
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(Quote(b, m.Name), ':')
		b = append(b, m.Value...)
	}
	return append(b, '}')
}

// Quote appends s as a JSON string. It is for strings that this package
// accepted or that are valid UTF-8 by themselves.
func Quote(b []byte, s string) []byte {
	if !plain(s) {
		quoted, err := jsontext.AppendQuote(b, s)
		if err == nil {
			return quoted
		}
		return strconv.AppendQuoteToASCII(b, s) // invalid UTF-8: never accepted, so never read back
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// plain reports whether s needs no escapes.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return true
}

// Text returns the string that a member's value is.
func (m Member) Text() (string, bool) {
	v := m.Value
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// Int returns the integer that a member's value is.
func (m Member) Int() (int64, bool) {
	n, err := strconv.ParseInt(string(m.Value), 10, 64)
	return n, err == nil
}

// Texts returns the strings of a member whose value is an array of strings.
func (m Member) Texts() ([]string, bool) {
	if len(m.Value) == 0 || m.Value[0] != '[' {
		return nil, false
	}
	d := jsontext.NewDecoder(bytes.NewReader(m.Value))
	if _, err := d.ReadToken(); err != nil {
		return nil, false
	}
	all := []string{}
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		all = append(all, t.String())
	}
	return all, d.PeekKind() == ']'
}
