package paseto

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
	"github.com/signetd/signet/signers"
)

// maxFooter bounds the footer, in bytes: it is read before the key is known.
const maxFooter = 4 << 10

// An inspector reads token bodies, in the daemon. It has no state.
type inspector struct{}

// NewInspector returns the PASETO inspector. What it calls toBeSigned is the
// PAE, whole.
func NewInspector() plugins.Inspector { return inspector{} }

// A body is the pieces of what is signed.
type body struct {
	point                              []byte // v3 only
	header, message, footer, assertion []byte
}

// split takes a PAE apart into the pieces of one protocol.
func split(tbs []byte) (body, error) {
	all, err := pieces(tbs)
	if err != nil {
		return body{}, err
	}
	b, want := body{}, headerV4
	if len(all) == 5 {
		b.point, all, want = all[0], all[1:], headerV3
	}
	b.header, b.message, b.footer, b.assertion = all[0], all[1], all[2], all[3]
	if string(b.header) != want {
		return body{}, refuse("the header is not %s, which goes with the number of pieces", want)
	}
	return b, nil
}

// pieces reads a PAE of four or five pieces, up to its last byte.
func pieces(tbs []byte) ([][]byte, error) {
	if len(tbs) > maxBody {
		return nil, refuse("the token body has %d bytes, the limit is %d", len(tbs), maxBody)
	}
	count, rest, err := number(tbs)
	if err != nil {
		return nil, err
	}
	if count != 4 && count != 5 {
		return nil, refuse("the token body is not PAE of 4 pieces (v4) or 5 (v3)")
	}
	all := make([][]byte, 0, 5)
	for range count {
		var n uint64
		if n, rest, err = number(rest); err != nil {
			return nil, err
		}
		if n > uint64(len(rest)) {
			return nil, refuse("a piece of the token body is longer than what is left of it")
		}
		all, rest = append(all, rest[:n:n]), rest[n:]
	}
	if len(rest) > 0 {
		return nil, refuse("%d bytes follow the last piece of the token body", len(rest))
	}
	return all, nil
}

// number reads one number of a PAE. Languages without unsigned integers read
// one with the top bit set as negative, so PASETO has it clear.
func number(b []byte) (uint64, []byte, error) {
	if len(b) < 8 {
		return 0, nil, refuse("the token body ends within a length")
	}
	n := binary.LittleEndian.Uint64(b)
	if n>>63 != 0 {
		return 0, nil, refuse("a length in the token body has its top bit set")
	}
	return n, b[8:], nil
}

// readFooter reads kid and typ, which both must be there, and nothing else.
func readFooter(raw []byte) (kid, typ string, err error) {
	members, err := strictjson.Object(raw, strictjson.Limits{Bytes: maxFooter, Depth: 1, Members: 2})
	if err != nil {
		return "", "", refuse("footer: %w", err)
	}
	for _, m := range members {
		value, ok := m.Text()
		if !ok || value == "" {
			return "", "", refuse("footer: a member is not a string with something in it")
		}
		switch m.Name {
		case "kid":
			kid = value
		case "typ":
			typ = value
		default:
			return "", "", refuse("footer: a member other than kid and typ")
		}
	}
	if kid == "" || typ == "" {
		return "", "", refuse("footer: kid and typ are both needed")
	}
	return kid, typ, nil
}

// KeyID returns the kid that the footer names.
func (inspector) KeyID(tbs []byte) (string, error) {
	b, err := split(tbs)
	if err != nil {
		return "", err
	}
	kid, _, err := readFooter(b.footer)
	return kid, err
}

// Inspect returns everything that a token body says, or ErrRefused.
func (inspector) Inspect(tbs []byte, k plugins.VerifyingKey) (plugins.Grant, error) {
	b, err := split(tbs)
	if err != nil {
		return plugins.Grant{}, err
	}
	want, err := header(k.Algorithm)
	if err != nil {
		return plugins.Grant{}, err
	}
	if string(b.header) != want {
		return plugins.Grant{}, refuse("the header is not %s, the key's own", want)
	}
	if want == headerV3 && !ownPoint(b.point, k.Public) {
		return plugins.Grant{}, refuse("the public key in the token body is not the key's own, compressed")
	}
	kid, typ, err := readFooter(b.footer)
	if err != nil {
		return plugins.Grant{}, err
	}
	if kid != k.ID {
		return plugins.Grant{}, refuse("footer: kid is not the key's own")
	}
	g, err := readClaims(b.message, typ)
	if len(b.assertion) > 0 {
		g.Assertion = b.assertion
	}
	return g, err
}

// ownPoint holds a compressed point against a public key,
// without writing them again: 2 or 3 for an even or odd y, and x.
func ownPoint(point []byte, pub crypto.PublicKey) bool {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok || len(point) != pointSize {
		return false
	}
	whole, err := k.Bytes()
	if err != nil || len(whole) != 97 {
		return false
	}
	odd := whole[96]&1 == 1
	return (point[0] == 3) == odd && (point[0] == 2) == !odd && bytes.Equal(point[1:], whole[1:pointSize])
}

// readClaims reads a message: every claim that a Grant has a field for, and
// the rest as further claims.
func readClaims(raw []byte, typ string) (plugins.Grant, error) {
	g := plugins.Grant{Type: typ}
	members, err := strictjson.Object(raw, strictjson.Limits{Bytes: maxBody, Reserved: reserved})
	if err != nil {
		return g, refuse("claims: %w", err)
	}
	var more []strictjson.Member
	for _, m := range members {
		switch {
		case slices.Contains(registered, m.Name):
			err = readClaim(&g, m)
		case slices.Contains(reserved, m.Name):
			err = refuse("claims: %s stands in the footer alone", m.Name)
		default:
			more = append(more, m)
		}
		if err != nil {
			return g, err
		}
	}
	if len(more) > 0 {
		g.Claims = strictjson.Join(more)
	}
	return g, complete(g)
}

// complete wants what no token goes without (B5).
func complete(g plugins.Grant) error {
	for _, f := range []struct {
		ok   bool
		name string
	}{
		{g.Issuer != "", "iss"}, {g.Subject != "", "sub"}, {g.TokenID != "", "jti"},
		{len(g.Audience) == 1, "aud"}, {!g.Expires.IsZero(), "exp"}, {!g.IssuedAt.IsZero(), "iat"},
	} {
		if !f.ok {
			return refuse("claims: %s is missing\nhint: every token has iss, sub, aud, exp, iat and jti", f.name)
		}
	}
	if !g.Expires.After(g.NotBefore) {
		return refuse("claims: exp is not after nbf")
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
		g.Expires, ok = readTime(m)
	case "iat":
		g.IssuedAt, ok = readTime(m)
	case "nbf":
		g.NotBefore, ok = readTime(m)
	case "aud":
		var one string
		one, ok = m.Text()
		g.Audience, ok = []string{one}, ok && one != ""
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

// readTime accepts a time in one text only: of ISO 8601's many for the same
// second, some are read differently, or not at all, by some.
func readTime(m strictjson.Member) (time.Time, bool) {
	s, ok := m.Text()
	if !ok {
		return time.Time{}, false
	}
	// Parse alone would take a fraction too.
	t, err := time.Parse(timeForm, s)
	return t, err == nil && t.Format(timeForm) == s && t.Unix() > 0
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
	b, err := split(tbs)
	if err != nil {
		return plugins.Frame{}, err
	}
	return frame(string(b.header), b.message, b.footer), nil
}

// Parse takes a finished token apart and encodes what was signed once more,
// with the assertion that the token does not carry.
func (inspector) Parse(t plugins.Token, k plugins.VerifyingKey, assertion []byte) (tbs, sig []byte, err error) {
	want, err := header(k.Algorithm)
	if err != nil {
		return nil, nil, err
	}
	p, err := unpack(t)
	if err != nil {
		return nil, nil, err
	}
	if p.header != want {
		return nil, nil, refuse("the token is not %s, which the key signs", want)
	}
	if p.header == headerV4 {
		return pae([]byte(p.header), p.message, p.footer, assertion), p.signature, nil
	}
	_, own, err := material(k.Public)
	if err != nil {
		return nil, nil, refuse("%w", err)
	}
	if sig, err = signers.ECDSAP384.DERFromRaw(p.signature); err != nil {
		return nil, nil, err
	}
	return pae(own, []byte(p.header), p.message, p.footer, assertion), sig, nil
}

// An unpacked is a finished token, decoded and otherwise unchecked.
type unpacked struct {
	header                     string
	message, footer, signature []byte
}

// unpack decodes header.payload or header.payload.footer, a payload being the
// message with the signature at its end.
func unpack(t []byte) (unpacked, error) {
	p, size := unpacked{}, 96
	switch {
	case bytes.HasPrefix(t, []byte(headerV4)):
		p.header, size = headerV4, 64
	case bytes.HasPrefix(t, []byte(headerV3)):
		p.header = headerV3
	default:
		return p, refuse("the token is neither v4.public nor v3.public")
	}
	encoded, footer, more := bytes.Cut(t[len(p.header):], []byte{'.'})
	if more && (len(footer) == 0 || bytes.IndexByte(footer, '.') >= 0) {
		return p, refuse("the token is not version.public.payload.footer")
	}
	payload, err := decode(encoded)
	if err != nil {
		return p, refuse("the payload is not base64url without padding")
	}
	if p.footer, err = decode(footer); err != nil {
		return p, refuse("the footer is not base64url without padding")
	}
	if len(payload) <= size {
		return p, refuse("the payload has no message before its signature")
	}
	at := len(payload) - size
	p.message, p.signature = payload[:at:at], payload[at:]
	return p, nil
}
