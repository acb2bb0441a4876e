package policy

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxQuoted = 64 // bytes of a string that a message repeats
	maxListed = 6  // names that a message lists
)

// quote makes a string fit to be repeated: short, on one line, plain ASCII.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.QuoteToASCII(s)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "…"
}

// list quotes names, the first few if there are many.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	var quoted []string
	for _, n := range names[:min(len(names), maxListed)] {
		quoted = append(quoted, quote(n))
	}
	if more := len(names) - len(quoted); more > 0 {
		quoted = append(quoted, "and "+strconv.Itoa(more)+" more")
	}
	return strings.Join(quoted, ", ")
}

// sound reports whether s can be part of a token: not empty, valid UTF-8, no
// control characters, not too long.
func sound(s string, most int) bool {
	if s == "" || len(s) > most || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, unicode.IsControl)
}
