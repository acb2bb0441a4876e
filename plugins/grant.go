package plugins

import (
	"bytes"
	"maps"
	"slices"
)

// Equal reports whether two grants say the same; Profile, which no token
// carries, is left out. Nil and empty are the same.
func (g Grant) Equal(h Grant) bool { return g.Diff(h) == "" }

// Diff names the first field in which two grants differ, "" if none does.
func (g Grant) Diff(h Grant) string {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"type", g.Type == h.Type},
		{"issuer", g.Issuer == h.Issuer},
		{"token id", g.TokenID == h.TokenID},
		{"subject", g.Subject == h.Subject},
		{"audience", slices.Equal(g.Audience, h.Audience)},
		{"scope", slices.Equal(g.Scope, h.Scope)},
		{"issued at", g.IssuedAt.Equal(h.IssuedAt)},
		{"not before", g.NotBefore.Equal(h.NotBefore)},
		{"expires", g.Expires.Equal(h.Expires)},
		{"holder", g.Holder == h.Holder},
		{"claims", bytes.Equal(g.Claims, h.Claims)},
		{"assertion", bytes.Equal(g.Assertion, h.Assertion)},
		{"serial", g.Serial == h.Serial},
		{"principals", slices.Equal(g.Principals, h.Principals)},
		{"options", maps.Equal(g.Options, h.Options)},
		{"extensions", maps.Equal(g.Extensions, h.Extensions)},
	} {
		if !f.same {
			return f.name
		}
	}
	return ""
}
