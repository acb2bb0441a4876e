package jwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
)

// ErrNotGood says that a token must not be accepted. The text around it says
// why.
var ErrNotGood = errors.New("token is not good")

// VerifyOptions say what a relying party accepts. Audience and Now are
// required.
type VerifyOptions struct {
	Audience string
	Issuer   string // "" accepts any
	Type     string // "" accepts any
	Now      time.Time
	Leeway   time.Duration
}

// Verified is what a good token says.
type Verified struct {
	plugins.Grant

	Kid       string
	Algorithm string
	Payload   []byte // the claims as they stand in the token
}

// Verify verifies a token against a JWK Set, as a relying party would: with
// go-jose, which did not make it, and the algorithms that the set names.
func Verify(token string, jwks []byte, o VerifyOptions) (Verified, error) {
	if len(token) > plugins.MaxToken {
		return Verified{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNotGood, len(token), plugins.MaxToken)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return Verified{}, fmt.Errorf("jwt: JWK Set: %w\nhint: `signet jwks` prints one", err)
	}
	jws, err := jose.ParseSignedCompact(token, accepted(set))
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w\nhint: it must be a JWS with an algorithm that the JWK Set names", ErrNotGood, err)
	}
	header := jws.Signatures[0].Protected
	payload, err := jws.Verify(keyFor(set, header))
	if err != nil {
		return Verified{}, fmt.Errorf("%w: the signature of kid %q does not verify: %w\nhint: fetch the JWK Set again; the key may be new, or revoked", ErrNotGood, header.KeyID, err)
	}
	typ, _ := header.ExtraHeaders[jose.HeaderType].(string)
	g, err := readClaims(payload, typ)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrNotGood, err)
	}
	v := Verified{Grant: g, Kid: header.KeyID, Algorithm: header.Algorithm, Payload: payload}
	return v, o.accept(v)
}

// accepted are the algorithms of the set, never what the token asks for.
func accepted(set jose.JSONWebKeySet) []jose.SignatureAlgorithm {
	var algs []jose.SignatureAlgorithm
	for _, k := range set.Keys {
		if a := jose.SignatureAlgorithm(k.Algorithm); a != "" && !slices.Contains(algs, a) {
			algs = append(algs, a)
		}
	}
	return algs
}

// keyFor is the one key with the token's kid and algorithm. Without one it is
// a key that verifies nothing.
func keyFor(set jose.JSONWebKeySet, h jose.Header) any {
	for _, k := range set.Key(h.KeyID) {
		if k.Algorithm == h.Algorithm {
			return k.Key
		}
	}
	return errNoKey
}

var errNoKey = errors.New("no key in the set has this kid and algorithm")

// accept holds a token with a good signature against what is wanted.
func (o VerifyOptions) accept(v Verified) error {
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{slices.Contains(v.Audience, o.Audience), fmt.Sprintf("it is for %q, not for %q", v.Audience, o.Audience)},
		{o.Issuer == "" || v.Issuer == o.Issuer, fmt.Sprintf("its issuer is %q, not %q", v.Issuer, o.Issuer)},
		{o.Type == "" || strings.EqualFold(v.Type, o.Type), fmt.Sprintf("its type is %q, not %q", v.Type, o.Type)},
		{o.Now.Before(v.Expires.Add(o.Leeway)), "it expired at " + v.Expires.Format(time.RFC3339)},
		{!o.Now.Add(o.Leeway).Before(v.NotBefore), "it is not valid before " + v.NotBefore.Format(time.RFC3339)},
	} {
		if !c.ok {
			return fmt.Errorf("%w: %s", ErrNotGood, c.what)
		}
	}
	return nil
}

// Said is what a token says, verified or not.
type Said struct {
	Header    json.RawMessage `json:"header"`
	Claims    json.RawMessage `json:"claims"`
	Signature int             `json:"signature_bytes"`
}

// Describe reads a token for a person, without verifying anything.
func Describe(token string) (Said, error) {
	if len(token) > plugins.MaxToken {
		return Said{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNotGood, len(token), plugins.MaxToken)
	}
	split := strings.Split(token, ".")
	if len(split) != 3 {
		return Said{}, fmt.Errorf("%w: it has %d parts, a JWS has 3\nhint: give the token alone, without \"Bearer\"", ErrNotGood, len(split))
	}
	var raw [3][]byte
	for i, name := range []string{"header", "claims", "signature"} {
		var err error
		if raw[i], err = decode([]byte(split[i])); err != nil {
			return Said{}, fmt.Errorf("%w: the %s is not base64url without padding", ErrNotGood, name)
		}
	}
	for i, name := range []string{"header", "claims"} {
		if _, err := strictjson.Object(raw[i], strictjson.Limits{}); err != nil {
			return Said{}, fmt.Errorf("%w: the %s: %w", ErrNotGood, name, err)
		}
		raw[i] = bytes.TrimSpace(raw[i])
	}
	return Said{raw[0], raw[1], len(raw[2])}, nil
}
