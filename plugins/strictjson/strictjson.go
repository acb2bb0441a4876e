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
	"io"
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
// text.
func Object(data []byte, l Limits) ([]Member, error) {
	r, err := newReader(data, l)
	if err != nil {
		return nil, err
	}
	if r.dec.PeekKind() != '{' {
		return nil, fmt.Errorf("%w: not an object\nhint: send one JSON object: {…}", ErrRefused)
	}
	members, err := r.object(1)
	if err != nil {
		return nil, err
	}
	return members, r.end()
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

// A reader walks one text within its limits.
type reader struct {
	dec     *jsontext.Decoder
	limits  Limits
	members int
}

func newReader(data []byte, l Limits) (*reader, error) {
	l = l.orDefaults()
	if len(data) > l.Bytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrRefused, len(data), l.Bytes)
	}
	// Depth is bounded here, before the decoder, which recurses by itself.
	if err := shallow(data, l.Depth); err != nil {
		return nil, err
	}
	// The decoder refuses duplicate names and invalid UTF-8 by default.
	return &reader{dec: jsontext.NewDecoder(bytes.NewBuffer(data)), limits: l}, nil
}

// shallow counts open brackets outside strings.
func shallow(data []byte, limit int) error {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return fmt.Errorf("%w: nested more than %d deep at byte %d", ErrRefused, limit, i)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func (r *reader) refuse(format string, args ...any) error {
	place := string(r.dec.StackPointer())
	if len(place) > 100 {
		place = place[:100] + "…"
	}
	return fmt.Errorf("%w: at %q: "+format, append([]any{ErrRefused, place}, args...)...)
}

// syntax is what the decoder found wrong, without its echo of the text.
func (r *reader) syntax(err error) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return r.refuse("a name stands twice\nhint: keep one")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return r.refuse("the text ends too early")
	}
	return r.refuse("malformed at byte %d: invalid UTF-8, a lone surrogate or wrong syntax", r.dec.InputOffset())
}

// end holds that nothing follows.
func (r *reader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: bytes follow the object at byte %d", ErrRefused, r.dec.InputOffset())
	}
	return nil
}

// object reads an object whose members are canonical values.
func (r *reader) object(depth int) ([]Member, error) {
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, r.syntax(err)
	}
	members := make([]Member, 0, 8)
	for r.dec.PeekKind() != '}' {
		t, err := r.dec.ReadToken()
		if err != nil {
			return nil, r.syntax(err)
		}
		m := Member{Name: t.String()}
		if err := r.name(m.Name, members, depth); err != nil {
			return nil, err
		}
		if m.Value, err = r.value(depth); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, r.syntax(err)
	}
	return members, nil
}

// name refuses names that two readers could take for the same, or not.
func (r *reader) name(name string, seen []Member, depth int) error {
	if err := r.count(); err != nil {
		return err
	}
	if len(name) > r.limits.String {
		return r.refuse("a name has %d bytes, the limit is %d", len(name), r.limits.String)
	}
	for _, c := range name {
		if c < 0x20 || c == 0x7f {
			return r.refuse("a name has a control character")
		}
	}
	for _, m := range seen {
		if strings.EqualFold(m.Name, name) {
			return r.refuse("two names differ only in case\nhint: keep one")
		}
	}
	if depth > 1 {
		return nil
	}
	for _, reserved := range r.limits.Reserved {
		if name != reserved && strings.EqualFold(name, reserved) {
			return r.refuse("the name is %q in another case\nhint: write it as %q or choose another", reserved, reserved)
		}
	}
	return nil
}

// count counts a member or an element.
func (r *reader) count() error {
	if r.members++; r.members > r.limits.Members {
		return r.refuse("more than %d members and elements in all", r.limits.Members)
	}
	return nil
}

// value reads one value and returns it in canonical form.
func (r *reader) value(depth int) ([]byte, error) {
	switch kind := r.dec.PeekKind(); kind {
	case '{':
		members, err := r.object(depth + 1)
		if err != nil {
			return nil, err
		}
		return Join(members), nil
	case '[':
		return r.array(depth + 1)
	default:
		t, err := r.dec.ReadToken()
		if err != nil {
			return nil, r.syntax(err)
		}
		return r.scalar(kind, t)
	}
}

func (r *reader) array(depth int) ([]byte, error) {
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, r.syntax(err)
	}
	b := []byte{'['}
	for r.dec.PeekKind() != ']' {
		if err := r.count(); err != nil {
			return nil, err
		}
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	_, err := r.dec.ReadToken()
	if err != nil {
		return nil, r.syntax(err)
	}
	return append(b, ']'), nil
}

func (r *reader) scalar(kind jsontext.Kind, t jsontext.Token) ([]byte, error) {
	switch kind {
	case '"':
		s := t.String()
		if len(s) > r.limits.String {
			return nil, r.refuse("a string has %d bytes, the limit is %d", len(s), r.limits.String)
		}
		return Quote(make([]byte, 0, len(s)+2), s), nil
	case '0':
		return r.number(t.String())
	case 't', 'f':
		return []byte(t.String()), nil
	case 'n':
		return nil, r.refuse("null is refused: absent and null read differently\nhint: leave the member out")
	default:
		return nil, r.refuse("not a value")
	}
}

// number accepts what every reader reads as the same integer.
func (r *reader) number(text string) ([]byte, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > maxInteger || n < -maxInteger || text == "-0" {
		return nil, r.refuse("not an integer within 2^53-1\nhint: send it as a string")
	}
	return []byte(text), nil
}
