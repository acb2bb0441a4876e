package strictjson

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A reader walks one text within its limits, once and without recursion past
// Limits.Depth. It is on the way of every token: a library's decoder takes four
// times as long, and agrees, which the tests hold.
type reader struct {
	data    []byte
	at      int
	limits  Limits
	members int
	path    []string // names on the way to where it is
}

// peek passes over white space and returns the next byte, 0 at the end.
func (r *reader) peek() byte {
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// refuse names the place as a JSON pointer (RFC 6901).
func (r *reader) refuse(format string, args ...any) error {
	place := strings.Join(append([]string{""}, r.path...), "/")
	if len(place) > 100 {
		place = place[:100] + "…"
	}
	return fmt.Errorf("%w: at %q: "+format, append([]any{ErrRefused, place}, args...)...)
}

// malformed is what is wrong at the place where the reader is.
func (r *reader) malformed(what string) error {
	if r.at >= len(r.data) {
		return r.refuse("the text ends too early")
	}
	return r.refuse("malformed at byte %d: %s", r.at, what)
}

// next passes over one byte that must be there.
func (r *reader) next(c byte) error {
	if r.peek() != c {
		return r.malformed(fmt.Sprintf("not %q", c))
	}
	r.at++
	return nil
}

// object reads an object whose members are canonical values.
func (r *reader) object(depth int) ([]Member, error) {
	if depth > r.limits.Depth {
		return nil, r.refuse("nested more than %d deep at byte %d", r.limits.Depth, r.at)
	}
	r.at++ // the bracket, which peek saw
	members := make([]Member, 0, 8)
	for r.peek() != '}' {
		if len(members) > 0 {
			if err := r.next(','); err != nil {
				return nil, err
			}
		}
		m, err := r.member(members, depth)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	r.at++
	return members, nil
}

// member reads a name and its value.
func (r *reader) member(seen []Member, depth int) (Member, error) {
	if r.peek() != '"' {
		return Member{}, r.malformed("not a name")
	}
	raw, plain, err := r.text()
	if err != nil {
		return Member{}, err
	}
	m := Member{Name: unquote(raw, plain)}
	r.path = append(r.path, m.Name)
	if err := r.name(m.Name, seen, depth); err != nil {
		return Member{}, err
	}
	if err := r.next(':'); err != nil {
		return Member{}, err
	}
	m.Value, err = r.value(depth)
	if err != nil {
		return Member{}, err
	}
	r.path = r.path[:len(r.path)-1]
	return m, nil
}

// name refuses names that two readers could take for the same, or not.
func (r *reader) name(name string, seen []Member, depth int) error {
	if err := r.count(); err != nil {
		return err
	}
	for _, c := range []byte(name) {
		if c < 0x20 || c == 0x7f {
			return r.refuse("a name has a control character")
		}
	}
	for _, m := range seen {
		switch {
		case m.Name == name:
			return r.refuse("a name stands twice\nhint: keep one")
		case strings.EqualFold(m.Name, name):
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
	switch c := r.peek(); {
	case c == '{':
		members, err := r.object(depth + 1)
		if err != nil {
			return nil, err
		}
		return Join(members), nil
	case c == '[':
		return r.array(depth + 1)
	case c == '"':
		raw, plain, err := r.text()
		if err != nil || plain {
			return raw, err
		}
		return Quote(make([]byte, 0, len(raw)), unquote(raw, plain)), nil
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	for _, word := range []string{"true", "false"} {
		if bytes.HasPrefix(r.data[r.at:], []byte(word)) {
			r.at += len(word)
			return []byte(word), nil
		}
	}
	if bytes.HasPrefix(r.data[r.at:], []byte("null")) {
		return nil, r.refuse("null is refused: absent and null read differently\nhint: leave the member out")
	}
	return nil, r.malformed("not a value")
}

func (r *reader) array(depth int) ([]byte, error) {
	if depth > r.limits.Depth {
		return nil, r.refuse("nested more than %d deep at byte %d", r.limits.Depth, r.at)
	}
	r.at++ // the bracket, which peek saw
	b := []byte{'['}
	for r.peek() != ']' {
		if len(b) > 1 {
			if err := r.next(','); err != nil {
				return nil, err
			}
			b = append(b, ',')
		}
		if err := r.count(); err != nil {
			return nil, err
		}
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		b = append(b, v...)
	}
	r.at++
	return append(b, ']'), nil
}

// text reads a string and returns it with its quotes, and whether it stands
// for itself: valid UTF-8 without an escape.
func (r *reader) text() (raw []byte, plain bool, err error) {
	start, plain := r.at, true
	for r.at++; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; {
		case c == '"':
			r.at++
			return r.checked(r.data[start:r.at], plain)
		case c == '\\':
			plain = false
			r.at++ // what is escaped, a quote perhaps
		case c < 0x20:
			return nil, false, r.malformed("a control character in a string")
		}
	}
	return nil, false, r.malformed("")
}

// checked holds a string's bytes against what JSON and UTF-8 allow, and its
// length against the limit.
func (r *reader) checked(raw []byte, plain bool) ([]byte, bool, error) {
	if !utf8.Valid(raw) {
		return nil, false, r.refuse("a string before byte %d is not valid UTF-8", r.at)
	}
	length := len(raw) - 2
	if !plain {
		// Escapes are rare, and the library knows all that can be wrong.
		decoded, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return nil, false, r.refuse("a string before byte %d has a wrong escape or a lone surrogate", r.at)
		}
		length = len(decoded)
	}
	if length > r.limits.String {
		return nil, false, r.refuse("a string has %d bytes, the limit is %d", length, r.limits.String)
	}
	return raw, plain, nil
}

// unquote is what a checked string says.
func unquote(raw []byte, plain bool) string {
	if plain {
		return string(raw[1 : len(raw)-1])
	}
	decoded, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "" // checked has refused it
	}
	return string(decoded)
}

// number accepts what every reader reads as the same integer.
func (r *reader) number() ([]byte, error) {
	start := r.at
	for r.at < len(r.data) && bytes.IndexByte([]byte("+-.eE0123456789"), r.data[r.at]) >= 0 {
		r.at++
	}
	raw := r.data[start:r.at]
	n, err := strconv.ParseInt(string(raw), 10, 64)
	digits := bytes.TrimPrefix(raw, []byte("-"))
	if err != nil || n > maxInteger || n < -maxInteger || digits[0] == '0' && (len(digits) > 1 || len(raw) > 1) {
		return nil, r.refuse("not an integer within 2^53-1, in its shortest form\nhint: send it as a string")
	}
	return raw, nil
}
