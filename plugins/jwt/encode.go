package jwt

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
)

// An issuer writes JWTs. It has no state.
type issuer struct{}

// New returns the JWT issuer.
func New() plugins.Issuer { return issuer{} }

// Describe names the format and the algorithms that JWS has names for.
func (issuer) Describe(context.Context) (plugins.Description, error) {
	return plugins.Description{Format: Format, Algorithms: algorithms()}, nil
}

// Prepare writes header and claims. The header has alg, kid and typ, the
// claims are sorted by name, and aud is a string if it is one audience.
func (issuer) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	alg, err := AlgorithmName(k.Algorithm)
	if err != nil {
		return plugins.Draft{}, err
	}
	if err := carries(g, k); err != nil {
		return plugins.Draft{}, err
	}
	if vague := []string{"jwt", "jose"}; alg == "EdDSA" && slices.Contains(vague, strings.ToLower(g.Type)) {
		return plugins.Draft{}, fmt.Errorf("jwt: typ %s does not go with EdDSA: %w", g.Type, plugins.ErrRefused)
	}
	claims, err := claims(g)
	if err != nil {
		return plugins.Draft{}, err
	}
	header := strictjson.Join([]strictjson.Member{text("alg", alg), text("kid", k.ID), text("typ", g.Type)})
	tbs := make([]byte, 0, b64.EncodedLen(len(header))+1+b64.EncodedLen(len(claims))+1)
	tbs = append(b64.AppendEncode(tbs, header), '.')
	tbs = b64.AppendEncode(tbs, claims)
	return plugins.Draft{ToBeSigned: tbs, Frame: frame(tbs)}, nil
}

// frame is that of a JWS: what was signed, a dot, and the signature.
func frame(tbs []byte) plugins.Frame {
	prefix := append(append(make([]byte, 0, len(tbs)+1), tbs...), '.')
	return plugins.Frame{Prefix: prefix, Form: plugins.Raw, Encoding: plugins.Base64URL}
}

// carries refuses a grant that a JWT can't carry whole.
func carries(g plugins.Grant, k plugins.VerifyingKey) error {
	for _, f := range []struct {
		ok   bool
		what string
	}{
		{k.ID != "", "kid is missing"},
		{g.Type != "" && !strings.HasPrefix(strings.ToLower(g.Type), "application/"), "typ is missing, or begins with application/"},
		{g.Issuer != "", "iss is missing"},
		{g.Subject != "", "sub is missing"},
		{g.TokenID != "", "jti is missing"},
		{len(g.Audience) > 0 && !slices.Contains(g.Audience, ""), "aud is missing"},
		{!g.IssuedAt.IsZero() && !g.NotBefore.IsZero() && !g.Expires.IsZero(), "iat, nbf or exp is missing"},
		{g.Expires.After(g.NotBefore), "exp is not after nbf"},
		{wholeSeconds(g.IssuedAt, g.NotBefore, g.Expires), "a time is not in whole seconds"},
		{!slices.ContainsFunc(g.Scope, func(s string) bool { return !scopeToken(s) }), "scope has a value with a space, a quote or a backslash"},
		{len(g.Assertion) == 0, "a JWT has no assertion that is not in it"},
		{g.Serial == 0 && len(g.Principals) == 0 && len(g.Options) == 0 && len(g.Extensions) == 0, "a JWT has no serial, principals, options or extensions"},
		{g.Holder == plugins.Holder{} || slices.Contains(holders, g.Holder.Kind) && thumbprint(g.Holder.Value), "the holder is not a jkt or x5t#S256 thumbprint"},
	} {
		if !f.ok {
			return fmt.Errorf("jwt: %s: %w", f.what, plugins.ErrRefused)
		}
	}
	return nil
}

func wholeSeconds(times ...time.Time) bool {
	return !slices.ContainsFunc(times, func(t time.Time) bool { return t.Nanosecond() != 0 || t.Unix() <= 0 })
}

// claims writes the payload.
func claims(g plugins.Grant) ([]byte, error) {
	members := make([]strictjson.Member, 0, 16)
	members = append(members, audience(g.Audience), number("exp", g.Expires), number("iat", g.IssuedAt),
		text("iss", g.Issuer), text("jti", g.TokenID), number("nbf", g.NotBefore), text("sub", g.Subject))
	if len(g.Scope) > 0 {
		members = append(members, text("scope", strings.Join(g.Scope, " ")))
	}
	if g.Holder.Kind != "" {
		cnf := strictjson.Join([]strictjson.Member{text(g.Holder.Kind, g.Holder.Value)})
		members = append(members, strictjson.Member{Name: "cnf", Value: cnf})
	}
	if len(g.Claims) == 0 {
		return strictjson.Join(members), needsClient(g.Type, nil)
	}
	more, err := strictjson.Object(g.Claims, strictjson.Limits{Reserved: registered})
	if err != nil {
		return nil, fmt.Errorf("jwt: claims: %w: %w", err, plugins.ErrRefused)
	}
	for _, m := range more {
		if slices.Contains(registered, m.Name) {
			return nil, fmt.Errorf("jwt: claim %q is not a further claim: %w", m.Name, plugins.ErrRefused)
		}
	}
	return strictjson.Join(append(members, more...)), needsClient(g.Type, more)
}

// needsClient refuses an access token that names no client (RFC 9068 section 2.2).
func needsClient(typ string, more []strictjson.Member) error {
	i := slices.IndexFunc(more, func(m strictjson.Member) bool { return m.Name == "client_id" })
	if strings.EqualFold(typ, "at+jwt") && (i < 0 || string(more[i].Value) == `""` || more[i].Value[0] != '"') {
		return fmt.Errorf("jwt: an access token needs client_id, a text: %w", plugins.ErrRefused)
	}
	return nil
}

func text(name, value string) strictjson.Member {
	return strictjson.Member{Name: name, Value: strictjson.Quote(nil, value)}
}

func number(name string, t time.Time) strictjson.Member {
	return strictjson.Member{Name: name, Value: strconv.AppendInt(nil, t.Unix(), 10)}
}

// audience is aud: a string for one, an array for more (RFC 7519 section 4.1.3).
func audience(all []string) strictjson.Member {
	if len(all) == 1 {
		return text("aud", all[0])
	}
	b := []byte{'['}
	for i, a := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = strictjson.Quote(b, a)
	}
	return strictjson.Member{Name: "aud", Value: append(b, ']')}
}
