package policy

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// reserved are the claims that the daemon writes itself, from the request's
// own fields. They are matched in any case: some verifiers do not look at it.
var reserved = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "cnf"}

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) })
}

// claims checks which names may be given and makes the fixed ones ready.
func (c *compiler) claims(p Profile) []member {
	var taken []string
	for i, name := range p.AllowedClaims {
		c.claimName(fmt.Sprintf("allowed_claims[%d]", i), name, taken)
		taken = append(taken, name)
	}
	var fixed []member
	for name, raw := range p.FixedClaims {
		at := "fixed_claims." + name
		others := slices.DeleteFunc(slices.Clone(taken), func(t string) bool { return t == name })
		c.claimName(at, name, others)
		value, err := canonicalValue(raw)
		if err != nil {
			c.bad(at, "write one JSON value", "%v", err)
		}
		fixed = append(fixed, member{name, value})
		taken = append(others, name)
	}
	slices.SortFunc(fixed, byName)
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
	j.merged = merge(given, j.profile.fixed)
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
		if _, there := find(given, f.name); !there {
			return deny("write the claim as the profile fixes it", "claim %s of profile %s is missing", quote(f.name), quote(j.profile.Name))
		}
	}
	j.merged = j.Claims
	return nil
}

// parseClaims returns the claims that the caller gave, each of them allowed.
func (j *judgement) parseClaims() ([]member, *Denial) {
	if len(j.Claims) == 0 {
		return nil, nil
	}
	given, err := parseObject(j.Claims)
	if err != nil {
		return nil, deny("send one strict JSON object: no name twice, valid UTF-8, integers below 2^53", "claims: %v", err)
	}
	for i := range given {
		if d := j.judgeClaim(&given[i]); d != nil {
			return nil, d
		}
	}
	return given, nil
}

func (j *judgement) judgeClaim(m *member) *Denial {
	if f, fixed := find(j.profile.fixed, m.name); fixed {
		if !bytes.Equal(f.value, m.value) {
			return deny("leave it out: the daemon writes it", "claim %s is fixed by profile %s to another value", quote(m.name), quote(j.profile.Name))
		}
		return nil
	}
	if j.profile.claims.has(m.name) {
		return nil
	}
	if isReserved(m.name) {
		return deny("use the request's own field", "claim %s is reserved", quote(m.name))
	}
	return deny("allowed: "+list(j.profile.AllowedClaims), "claim %s is not allowed by profile %s", quote(m.name), quote(j.profile.Name))
}

func (j *judgement) tellClaims() string {
	if len(j.Claims) == 0 && len(j.profile.fixed) == 0 {
		return "none given, none fixed"
	}
	given, _ := j.parseClaims()
	return "given: " + list(namesOf(given)) + "; fixed: " + list(namesOf(j.profile.fixed))
}

// isThumbprint reports whether s is a SHA-256 in base64url, the one way to
// write it: trailing bits that mean nothing are refused.
func isThumbprint(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == 32 && !strings.ContainsAny(s, "\r\n")
}
