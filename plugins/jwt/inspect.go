package jwt

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
	"github.com/signetd/signet/signers"
)

// Limits of a token body that is read, in bytes and members.
const (
	maxBody   = 48 << 10
	maxHeader = 4 << 10
)

// An inspector reads token bodies, in the daemon. It has no state.
type inspector struct{}

// NewInspector returns the JWT inspector.
func NewInspector() plugins.Inspector { return inspector{} }

func refuse(format string, args ...any) error {
	return fmt.Errorf("jwt: "+format+": %w", append(args, plugins.ErrRefused)...)
}

// parts splits header.claims, which both must be there.
func parts(tbs []byte) (header, claims []byte, err error) {
	if len(tbs) > maxBody {
		return nil, nil, refuse("the token body has %d bytes, the limit is %d", len(tbs), maxBody)
	}
	h, c, ok := bytes.Cut(tbs, []byte{'.'})
	if !ok || len(h) == 0 || len(c) == 0 || bytes.IndexByte(c, '.') >= 0 {
		return nil, nil, refuse("the token body is not header.claims")
	}
	if header, err = decode(h); err != nil {
		return nil, nil, refuse("the header is not base64url without padding")
	}
	if claims, err = decode(c); err != nil {
		return nil, nil, refuse("the claims are not base64url without padding")
	}
	return header, claims, nil
}

// A heading is a JOSE header: it has these members and no other. What changes
// how a token is read (crit, b64, zip) or where its key is found (jku, jwk,
// x5u, x5c) is not among them (RFC 8725 sections 3.1 and 3.10).
type heading struct{ alg, kid, typ string }

func readHeading(raw []byte) (heading, error) {
	var h heading
	members, err := strictjson.Object(raw, strictjson.Limits{Bytes: maxHeader, Depth: 1, Members: 8})
	if err != nil {
		return h, refuse("header: %w", err)
	}
	fields := map[string]*string{"alg": &h.alg, "kid": &h.kid, "typ": &h.typ}
	for _, m := range members {
		to, ok := fields[m.Name]
		if !ok {
			return h, refuse("header: a member other than alg, kid and typ (RFC 8725 section 3.10)")
		}
		if *to, ok = m.Text(); !ok || *to == "" {
			return h, refuse("header: %s is not a string with something in it", m.Name)
		}
	}
	if h.alg == "" || h.kid == "" || h.typ == "" {
		return h, refuse("header: alg, kid and typ are all needed (RFC 8725 section 3.11)")
	}
	return h, nil
}

// KeyID returns the kid that the header names.
func (inspector) KeyID(tbs []byte) (string, error) {
	encoded, _, _ := bytes.Cut(tbs, []byte{'.'})
	if len(encoded) > maxHeader {
		return "", refuse("the header has %d bytes, the limit is %d", len(encoded), maxHeader)
	}
	raw, err := decode(encoded)
	if err != nil {
		return "", refuse("the header is not base64url without padding")
	}
	h, err := readHeading(raw)
	return h.kid, err
}

// Inspect returns everything that a token body says, or ErrRefused.
func (inspector) Inspect(tbs []byte, k plugins.VerifyingKey) (plugins.Grant, error) {
	rawHeader, rawClaims, err := parts(tbs)
	if err != nil {
		return plugins.Grant{}, err
	}
	h, err := readHeading(rawHeader)
	if err != nil {
		return plugins.Grant{}, err
	}
	alg, err := AlgorithmName(k.Algorithm)
	if err != nil {
		return plugins.Grant{}, err
	}
	if h.alg != alg {
		return plugins.Grant{}, refuse("header: alg is not %s, the key's own (RFC 8725 section 3.1)", alg)
	}
	if h.kid != k.ID {
		return plugins.Grant{}, refuse("header: kid is not the key's own (RFC 8725 section 3.10)")
	}
	if err := typed(h); err != nil {
		return plugins.Grant{}, err
	}
	return readClaims(rawClaims, h.typ)
}

// typed refuses a typ that is another text for a known one, and an algorithm
// that those who expect the typ do not take: JWT and JOSE are a JWT-SVID's
// (SPIFFE JWT-SVID section 2), or a Kubernetes service account token's.
func typed(h heading) error {
	if len(h.typ) > 12 && strings.EqualFold(h.typ[:12], "application/") {
		return refuse("header: typ begins with application/, which is left out (RFC 7515 section 4.1.9)")
	}
	if h.alg == "EdDSA" && (strings.EqualFold(h.typ, "JWT") || strings.EqualFold(h.typ, "JOSE")) {
		return refuse("header: typ %s does not go with EdDSA\nhint: a typ of your own does (RFC 8725 section 3.11)", h.typ)
	}
	return nil
}

// readClaims reads a payload: every claim that a Grant has a field for, and
// the rest as further claims.
func readClaims(raw []byte, typ string) (plugins.Grant, error) {
	g := plugins.Grant{Type: typ}
	members, err := strictjson.Object(raw, strictjson.Limits{Bytes: maxBody, Reserved: registered})
	if err != nil {
		return g, refuse("claims: %w", err)
	}
	var more []strictjson.Member
	for _, m := range members {
		if !slices.Contains(registered, m.Name) {
			more = append(more, m)
		} else if err := readClaim(&g, m); err != nil {
			return g, err
		}
	}
	if len(more) > 0 {
		g.Claims = strictjson.Join(more)
	}
	if err := complete(g); err != nil {
		return g, err
	}
	return g, access(g.Type, more)
}

// access wants of an access token what RFC 9068 section 2.2 does, beside what
// every token has.
func access(typ string, more []strictjson.Member) error {
	if !strings.EqualFold(typ, "at+jwt") {
		return nil
	}
	for _, m := range more {
		if client, ok := m.Text(); m.Name == "client_id" && ok && client != "" {
			return nil
		}
	}
	return refuse("claims: client_id is missing, or no text\nhint: an access token, typ at+jwt, names its client (RFC 9068 section 2.2)")
}

// complete wants what no token goes without (B5).
func complete(g plugins.Grant) error {
	for _, f := range []struct {
		ok   bool
		name string
	}{
		{g.Issuer != "", "iss"}, {g.Subject != "", "sub"}, {g.TokenID != "", "jti"},
		{len(g.Audience) > 0, "aud"}, {!g.Expires.IsZero(), "exp"}, {!g.IssuedAt.IsZero(), "iat"},
	} {
		if !f.ok {
			return refuse("claims: %s is missing\nhint: every token has iss, sub, aud, exp, iat and jti", f.name)
		}
	}
	return nil
}

// readClaim reads one registered claim.
func readClaim(g *plugins.Grant, m strictjson.Member) error {
	ok := false
	switch m.Name {
	case "iss":
		g.Issuer, ok = m.Text()
	case "sub":
		g.Subject, ok = m.Text()
	case "jti":
		g.TokenID, ok = m.Text()
	case "exp":
		g.Expires, ok = instant(m)
	case "iat":
		g.IssuedAt, ok = instant(m)
	case "nbf":
		g.NotBefore, ok = instant(m)
	case "aud":
		g.Audience, ok = readAudience(m)
	case "scope":
		g.Scope, ok = readScope(m)
	case "cnf":
		g.Holder, ok = readHolder(m)
	}
	if !ok {
		return refuse("claims: %s has the wrong form", m.Name)
	}
	return nil
}

// instant is a NumericDate in whole seconds after 1970 and before 10000.
func instant(m strictjson.Member) (time.Time, bool) {
	n, ok := m.Int()
	return time.Unix(n, 0).UTC(), ok && n > 0 && n < 253402300800
}

func readAudience(m strictjson.Member) ([]string, bool) {
	if one, ok := m.Text(); ok {
		return []string{one}, one != ""
	}
	all, ok := m.Texts()
	return all, ok && len(all) > 0 && !slices.Contains(all, "")
}

func readScope(m strictjson.Member) ([]string, bool) {
	s, ok := m.Text()
	all := strings.Split(s, " ")
	return all, ok && !slices.ContainsFunc(all, func(s string) bool { return !scopeToken(s) })
}

// readHolder reads cnf, which has one way to confirm and no other member.
func readHolder(m strictjson.Member) (plugins.Holder, bool) {
	members, err := strictjson.Object(m.Value, strictjson.Limits{Members: 1})
	if err != nil || len(members) != 1 || !slices.Contains(holders, members[0].Name) {
		return plugins.Holder{}, false
	}
	value, ok := members[0].Text()
	return plugins.Holder{Kind: members[0].Name, Value: value}, ok && thumbprint(value)
}

// Frame computes the frame that belongs to a token body.
func (inspector) Frame(tbs []byte) (plugins.Frame, error) {
	if len(tbs) > maxBody || bytes.Count(tbs, []byte{'.'}) != 1 {
		return plugins.Frame{}, refuse("the token body is not header.claims")
	}
	return frame(tbs), nil
}

// Parse takes a finished token apart at its last dot.
func (inspector) Parse(t plugins.Token, k plugins.VerifyingKey, _ []byte) (tbs, sig []byte, err error) {
	i := bytes.LastIndexByte(t, '.')
	if i < 0 || bytes.Count(t, []byte{'.'}) != 2 {
		return nil, nil, refuse("the token is not header.claims.signature")
	}
	sig, err = decode(t[i+1:])
	if err != nil {
		return nil, nil, refuse("the signature is not base64url without padding")
	}
	p, err := k.Algorithm.Params()
	if err != nil {
		return nil, nil, err
	}
	if p.Kind == signers.KindECDSA {
		if sig, err = k.Algorithm.DERFromRaw(sig); err != nil {
			return nil, nil, err
		}
	}
	return t[:i], sig, nil
}
