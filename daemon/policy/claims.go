package policy

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/signetd/signet/plugins/strictjson"
)

// reserved are the claims that the daemon writes itself, from the request's
// own fields. They are matched in any case: some verifiers do not look at it.
var reserved = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "cnf"}

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) })
}

// claims checks which names may be given and makes the fixed ones ready, in
// order of name. Everything that can be checked here is not checked again for
// each request.
func (c *compiler) claims(p Profile) []strictjson.Member {
	var taken []string
	for i, name := range p.AllowedClaims {
		c.claimName(fmt.Sprintf("claims.allowed[%d]", i), name, taken)
		taken = append(taken, name)
	}
	for i, name := range p.RequiredClaims {
		c.claimName(fmt.Sprintf("claims.required[%d]", i), name, slices.Concat(taken, slices.Collect(maps.Keys(p.FixedClaims))))
		taken = append(taken, name)
	}
	var fixed []strictjson.Member
	for _, name := range slices.Sorted(maps.Keys(p.FixedClaims)) {
		at := "claims.fixed." + name
		// A claim may be both: then callers may repeat it, as it is.
		others := slices.DeleteFunc(slices.Clone(taken), func(t string) bool { return t == name })
		c.claimName(at, name, others)
		value, err := canonicalValue(p.FixedClaims[name])
		if err != nil {
			problem, _, _ := strings.Cut(err.Error(), "\n")
			c.bad(at, "write one JSON value, its numbers whole and below 2^53", "%s", problem)
		}
		fixed = append(fixed, strictjson.Member{Name: name, Value: value})
		taken = append(others, name)
	}
	return fixed
}

// claimName refuses what a verifier could take for something else.
func (c *compiler) claimName(at, name string, taken []string) {
	switch {
	case isReserved(name):
		c.bad(at, "the daemon writes "+strings.Join(reserved, ", ")+" itself", "%s is reserved", quote(name))
	case !isClaimName(name):
		c.bad(at, "use printable ASCII without quotes and backslashes", "%s is not a claim's name", quote(name))
	}
	for _, t := range taken {
		if strings.EqualFold(t, name) {
			c.bad(at, "keep one of them", "%s and %s differ in case only, or not at all", quote(name), quote(t))
		}
	}
}

// isClaimName keeps to names that read the same in every language, escaped or
// not; RFC 7519 itself allows any string.
func isClaimName(s string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	return s != "" && len(s) <= maxTokenID && !strings.ContainsFunc(s, odd)
}

// judgeClaims looks at each claim that the caller gives, and merges in the
// fixed ones.
func (j *judgement) judgeClaims() *Denial {
	given, d := j.parseClaims()
	if d != nil {
		return d
	}
	if d := j.requiredClaims(given); d != nil {
		return d
	}
	j.given, j.merged = given, merge(given, j.profile.fixed)
	return nil
}

// requiredClaims wants what only the caller can know.
func (j *judgement) requiredClaims(given []strictjson.Member) *Denial {
	for _, name := range j.profile.required {
		if _, there := find(given, name); !there {
			return deny("required: "+list(j.profile.required), "claim %s is missing; profile %s requires it", quote(name), quote(j.profile.Name))
		}
	}
	return nil
}

// judgeWrittenClaims requires the fixed ones to be there: nothing can be added
// to what the caller wrote.
func (j *judgement) judgeWrittenClaims() *Denial {
	given, d := j.parseClaims()
	if d != nil {
		return d
	}
	for _, f := range j.profile.fixed {
		if _, there := find(given, f.Name); !there {
			return deny("write the claim as the profile fixes it", "claim %s of profile %s is missing", quote(f.Name), quote(j.profile.Name))
		}
	}
	if d := j.requiredClaims(given); d != nil {
		return d
	}
	j.given, j.merged = given, j.Claims
	return nil
}

// parseClaims returns the claims that the caller gave, each of them allowed. It
// reads with the decoder that the inspector and every verifier of ours use, so
// that what is judged here is what they will see.
func (j *judgement) parseClaims() ([]strictjson.Member, *Denial) {
	if len(j.Claims) == 0 {
		return nil, nil
	}
	if j.profile.ssh() {
		return nil, j.none("claims", len(j.Claims), "extensions and options say what a certificate is good for")
	}
	given, err := strictjson.Object(j.Claims, strictjson.Limits{Reserved: reserved})
	if err != nil {
		return nil, denyClaims(err)
	}
	for i := range given {
		if d := j.judgeClaim(&given[i]); d != nil {
			return nil, d
		}
	}
	return given, nil
}

// denyClaims takes over the decoder's text, which has places and no values.
func denyClaims(err error) *Denial {
	text, hint, hinted := strings.Cut(err.Error(), "\nhint: ")
	if !hinted {
		hint = "send one JSON object: no name twice, valid UTF-8, whole numbers below 2^53, not too large and not too deep"
	}
	return deny(hint, "claims: %s", text)
}

// judgeClaim looks at one. A fixed claim may be repeated, since a caller may
// not know what is fixed, but never contradicted.
func (j *judgement) judgeClaim(m *strictjson.Member) *Denial {
	if f, fixed := find(j.profile.fixed, m.Name); fixed {
		if !bytes.Equal(f.Value, m.Value) {
			return deny("leave it out: the daemon writes it", "claim %s is fixed by profile %s to another value", quote(m.Name), quote(j.profile.Name))
		}
		return nil
	}
	if j.profile.claims.has(m.Name) {
		return nil
	}
	if isReserved(m.Name) {
		return deny("use the request's own field", "claim %s is reserved", quote(m.Name))
	}
	return deny("allowed: "+list(slices.Concat(j.profile.AllowedClaims, j.profile.required)), "claim %s is not allowed by profile %s", quote(m.Name), quote(j.profile.Name))
}

// tellClaims names claims and leaves out their values, as denials do.
func (j *judgement) tellClaims() string {
	if len(j.Claims) == 0 && len(j.profile.fixed) == 0 {
		return "none given, none fixed"
	}
	given, _ := j.parseClaims()
	return "given: " + list(namesOf(given)) + "; fixed: " + list(namesOf(j.profile.fixed))
}

func byName(a, b strictjson.Member) int { return strings.Compare(a.Name, b.Name) }

func find(in []strictjson.Member, name string) (strictjson.Member, bool) {
	for i := range in {
		if in[i].Name == name {
			return in[i], true
		}
	}
	return strictjson.Member{}, false
}

func namesOf(in []strictjson.Member) []string {
	var names []string
	for _, m := range in {
		names = append(names, m.Name)
	}
	return names
}

// canonicalValue reads one strict JSON value, by way of an object that has it:
// the strict decoder reads objects only. More than one member means that raw
// was not one value.
func canonicalValue(raw []byte) ([]byte, error) {
	members, err := strictjson.Object(slices.Concat([]byte(`{"v":`), raw, []byte(`}`)), strictjson.Limits{})
	if err != nil {
		return nil, err
	}
	if len(members) != 1 {
		return nil, fmt.Errorf("%w: more than one value", strictjson.ErrRefused)
	}
	return members[0].Value, nil
}

// merge writes the claims of a grant in canonical form, nil if there are none:
// two sorted lists, zipped. A fixed claim that was given too was found equal,
// and is written once.
func merge(given, fixed []strictjson.Member) []byte {
	slices.SortFunc(given, byName)
	size := 2
	for _, list := range [][]strictjson.Member{given, fixed} {
		for i := range list {
			size += len(list[i].Name) + len(list[i].Value) + len(`"":,`)
		}
	}
	out := make([]byte, 1, size)
	out[0] = '{'
	for len(given)+len(fixed) > 0 {
		m := next(&given, &fixed)
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(strictjson.Quote(out, m.Name), ':')
		out = append(out, m.Value...)
	}
	if len(out) == 1 {
		return nil
	}
	return append(out, '}')
}

// next takes the first name off two sorted lists, off both if both have it.
func next(a, b *[]strictjson.Member) strictjson.Member {
	take := func(list *[]strictjson.Member) strictjson.Member {
		m := (*list)[0]
		*list = (*list)[1:]
		return m
	}
	switch {
	case len(*a) == 0:
		return take(b)
	case len(*b) == 0:
		return take(a)
	}
	switch c := byName((*a)[0], (*b)[0]); {
	case c < 0:
		return take(a)
	case c == 0:
		take(a)
	}
	return take(b)
}

// isThumbprint reports whether s is a SHA-256 in base64url, the one way to
// write it: trailing bits that mean nothing are refused.
func isThumbprint(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == 32 && !strings.ContainsAny(s, "\r\n")
}
