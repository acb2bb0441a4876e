package paseto

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
)

// An issuer writes PASETOs. It has no state.
type issuer struct{}

// New returns the PASETO issuer.
func New() plugins.Issuer { return issuer{} }

// Describe names the format and the two algorithms that it signs with.
func (issuer) Describe(context.Context) (plugins.Description, error) {
	return plugins.Description{Format: Format, Algorithms: algorithms()}, nil
}

// Prepare writes message and footer, both with sorted names. The footer has
// kid and typ: it is signed, and a verifier needs kid before it can check more.
func (issuer) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	head, err := header(k.Algorithm)
	if err != nil {
		return plugins.Draft{}, err
	}
	if err := carries(g, k); err != nil {
		return plugins.Draft{}, err
	}
	message, err := message(g)
	if err != nil {
		return plugins.Draft{}, err
	}
	footer := strictjson.Join([]strictjson.Member{text("kid", k.ID), text("typ", g.Type)})
	pieces := [][]byte{[]byte(head), message, footer, g.Assertion}
	if head == headerV3 {
		_, own, err := material(k.Public)
		if err != nil {
			return plugins.Draft{}, refuse("%w", err)
		}
		pieces = slices.Insert(pieces, 0, own)
	}
	tbs := pae(pieces...)
	if len(tbs) > maxBody {
		return plugins.Draft{}, refuse("the token body has %d bytes, the limit is %d", len(tbs), maxBody)
	}
	return plugins.Draft{ToBeSigned: tbs, Frame: frame(head, message, footer)}, nil
}

// frame joins message and signature under one base64url, between the header
// and the footer. An empty footer has no dot.
func frame(head string, message, footer []byte) plugins.Frame {
	f := plugins.Frame{Prefix: []byte(head), Head: message, Form: plugins.Raw, Encoding: plugins.Base64URL}
	if len(footer) > 0 {
		f.Suffix = b64.AppendEncode([]byte{'.'}, footer)
	}
	return f
}

// carries refuses a grant that a PASETO can't carry whole.
func carries(g plugins.Grant, k plugins.VerifyingKey) error {
	for _, f := range []struct {
		ok   bool
		what string
	}{
		{k.Algorithm.Fits(k.Public) == nil, "the key is not of its algorithm"},
		{k.ID != "", "kid is missing"},
		{g.Type != "", "typ is missing"},
		{g.Issuer != "", "iss is missing"},
		{g.Subject != "", "sub is missing"},
		{g.TokenID != "", "jti is missing"},
		{len(g.Audience) > 0 && g.Audience[0] != "", "aud is missing"},
		{len(g.Audience) <= 1, "aud is one string in a PASETO, and there is more than one audience\nhint: ask for a token for each audience"},
		{writable(g.IssuedAt) && writable(g.Expires), "iat or exp is missing, or not in whole seconds of the years 1970 to 9999"},
		{g.NotBefore.IsZero() || writable(g.NotBefore), "nbf is not in whole seconds of the years 1970 to 9999"},
		{g.Expires.After(g.NotBefore), "exp is not after nbf"},
		{!slices.ContainsFunc(g.Scope, func(s string) bool { return !scopeToken(s) }), "scope has a value with a space, a quote or a backslash"},
		{g.Serial == 0 && len(g.Principals) == 0 && len(g.Options) == 0 && len(g.Extensions) == 0, "a PASETO has no serial, principals, options or extensions"},
		{g.Holder == plugins.Holder{} || slices.Contains(holders, g.Holder.Kind) && thumbprint(g.Holder.Value), "the holder is not a jkt or x5t#S256 thumbprint"},
	} {
		if !f.ok {
			return refuse("%s", f.what)
		}
	}
	return nil
}

// writable reports whether timeForm writes t without loss.
func writable(t time.Time) bool {
	return t.Nanosecond() == 0 && t.Unix() > 0 && t.Unix() <= lastSecond
}

// message writes the claims.
func message(g plugins.Grant) ([]byte, error) {
	members := make([]strictjson.Member, 0, 16)
	members = append(members, text("aud", g.Audience[0]), instant("exp", g.Expires), instant("iat", g.IssuedAt),
		text("iss", g.Issuer), text("jti", g.TokenID), text("sub", g.Subject))
	if !g.NotBefore.IsZero() {
		members = append(members, instant("nbf", g.NotBefore))
	}
	if len(g.Scope) > 0 {
		members = append(members, text("scope", strings.Join(g.Scope, " ")))
	}
	if g.Holder.Kind != "" {
		cnf := strictjson.Join([]strictjson.Member{text(g.Holder.Kind, g.Holder.Value)})
		members = append(members, strictjson.Member{Name: "cnf", Value: cnf})
	}
	if len(g.Claims) == 0 {
		return strictjson.Join(members), nil
	}
	more, err := strictjson.Object(g.Claims, strictjson.Limits{Reserved: reserved})
	if err != nil {
		return nil, refuse("claims: %w", err)
	}
	for _, m := range more {
		if slices.Contains(reserved, m.Name) {
			return nil, refuse("claim %q is not a further claim", m.Name)
		}
	}
	return strictjson.Join(append(members, more...)), nil
}

func text(name, value string) strictjson.Member {
	return strictjson.Member{Name: name, Value: strictjson.Quote(nil, value)}
}

func instant(name string, t time.Time) strictjson.Member {
	return text(name, t.UTC().Format(timeForm))
}
