package paseto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	library "aidanwoods.dev/go-paseto"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
	"github.com/signetd/signet/signers"
)

// ErrNotGood says that a token must not be accepted. The text around it says
// why.
var ErrNotGood = errors.New("token is not good")

// VerifyOptions say what a relying party accepts. Audience and Now are
// required.
type VerifyOptions struct {
	Audience  string
	Issuer    string // "" accepts any
	Type      string // typ of the footer; "" accepts any
	Assertion []byte // the implicit assertion, which the token does not carry
	Now       time.Time
	Leeway    time.Duration
}

// Verified is what a good token says.
type Verified struct {
	plugins.Grant

	Kid     string
	Version string // v4.public or v3.public
	Payload []byte // the claims as they stand in the token
}

// Verify verifies a token against PASERK public keys (k4.public, k3.public), as
// a relying party would: with go-paseto, which did not make it. A key verifies
// the one version that it is for, and the footer's kid only picks among keys.
func Verify(token string, paserk []string, o VerifyOptions) (Verified, error) {
	if len(token) > plugins.MaxToken {
		return Verified{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNotGood, len(token), plugins.MaxToken)
	}
	p, err := unpack([]byte(token))
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrNotGood, err)
	}
	kid, typ, err := readFooter(p.footer)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrNotGood, err)
	}
	key, err := keyFor(paserk, kid)
	if err != nil {
		return Verified{}, err
	}
	if err := verified(token, key, o.Assertion); err != nil {
		return Verified{}, err
	}
	g, err := readClaims(p.message, typ)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrNotGood, err)
	}
	g.Assertion = o.Assertion
	v := Verified{Grant: g, Kid: kid, Version: strings.TrimSuffix(p.header, "."), Payload: p.message}
	return v, o.accept(v)
}

// keyFor is the key whose id the token names.
func keyFor(paserk []string, kid string) (plugins.VerifyingKey, error) {
	for _, text := range paserk {
		k, err := ParsePASERK(text)
		if err != nil {
			return k, fmt.Errorf("%w\nhint: `signet paserk` prints keys, one a line", err)
		}
		if k.ID == kid {
			return k, nil
		}
	}
	return plugins.VerifyingKey{}, fmt.Errorf("%w: no key given has the kid %q\nhint: fetch the keys again; the key may be new, or revoked", ErrNotGood, kid)
}

// verified has the library verify the signature. The key says for which
// version: a token of another is refused, whatever its header says.
func verified(token string, k plugins.VerifyingKey, assertion []byte) error {
	parser := library.NewParserWithoutExpiryCheck() // times are ours to check, by the clock we were given
	var err error
	switch pub := k.Public.(type) {
	case ed25519.PublicKey:
		key, bad := library.NewV4AsymmetricPublicKeyFromEd25519(pub)
		if bad != nil {
			return fmt.Errorf("paseto: key %q: %w", k.ID, bad)
		}
		_, err = parser.ParseV4Public(key, token, assertion)
	case *ecdsa.PublicKey:
		key, bad := library.NewV3AsymmetricPublicKeyFromEcdsa(*pub)
		if bad != nil {
			return fmt.Errorf("paseto: key %q: %w", k.ID, bad)
		}
		_, err = parser.ParseV3Public(key, token, assertion)
	default:
		err = signers.ErrUnsupported
	}
	if err != nil {
		return fmt.Errorf("%w: the signature of kid %q does not verify: %w\nhint: an implicit assertion must be given as it was signed", ErrNotGood, k.ID, err)
	}
	return nil
}

// accept holds a token with a good signature against what is wanted.
func (o VerifyOptions) accept(v Verified) error {
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{v.Audience[0] == o.Audience, fmt.Sprintf("it is for %q, not for %q", v.Audience[0], o.Audience)},
		{o.Issuer == "" || v.Issuer == o.Issuer, fmt.Sprintf("its issuer is %q, not %q", v.Issuer, o.Issuer)},
		{o.Type == "" || v.Type == o.Type, fmt.Sprintf("its type is %q, not %q", v.Type, o.Type)},
		{o.Now.Before(v.Expires.Add(o.Leeway)), "it expired at " + v.Expires.Format(time.RFC3339)},
		{!o.Now.Add(o.Leeway).Before(v.NotBefore), "it is not valid before " + v.NotBefore.Format(time.RFC3339)},
	} {
		if !c.ok {
			return fmt.Errorf("%w: %s", ErrNotGood, c.what)
		}
	}
	return nil
}

// Is reports whether a token says that it is one of this package's, good or not.
func Is(token string) bool {
	return strings.HasPrefix(token, headerV4) || strings.HasPrefix(token, headerV3)
}

// Said is what a token says, verified or not.
type Said struct {
	Version   string          `json:"version"`
	Footer    json.RawMessage `json:"footer,omitempty"`
	Claims    json.RawMessage `json:"claims"`
	Signature int             `json:"signature_bytes"`
}

// Describe reads a token for a person, without verifying anything.
func Describe(token string) (Said, error) {
	if len(token) > plugins.MaxToken {
		return Said{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNotGood, len(token), plugins.MaxToken)
	}
	p, err := unpack([]byte(token))
	if err != nil {
		return Said{}, fmt.Errorf("%w: %w\nhint: give the token alone, without \"Bearer\"", ErrNotGood, err)
	}
	said := Said{Version: strings.TrimSuffix(p.header, "."), Claims: p.message, Signature: len(p.signature)}
	if len(p.footer) > 0 {
		said.Footer = p.footer
	}
	for name, part := range map[string]*json.RawMessage{"claims": &said.Claims, "footer": &said.Footer} {
		if *part == nil {
			continue
		}
		if _, err := strictjson.Object(*part, strictjson.Limits{}); err != nil {
			return Said{}, fmt.Errorf("%w: the %s: %w", ErrNotGood, name, err)
		}
		*part = bytes.TrimSpace(*part)
	}
	return said, nil
}
