// Package jwt is the JWT format: JWS compact serialisation (RFC 7515, 7519) by
// the rules of RFC 8725 and, for typ at+jwt, RFC 9068.
//
// [New] is the issuer, which runs in a process of its own; [NewInspector] runs
// in the daemon and reads back what is about to be signed. The two share no
// more than the names of things, so that a fault in one is seen by the other.
package jwt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// Format is what this package's format is called.
const Format = "jwt"

// registered are the claims that a Grant has fields for; no further claim may
// have one of these names (RFC 7519 section 4.1, RFC 8693, RFC 7800).
var registered = []string{"aud", "cnf", "exp", "iat", "iss", "jti", "nbf", "scope", "sub"}

// b64 is base64url without padding, strict: one text for each value.
var b64 = base64.RawURLEncoding.Strict()

// decode reads base64url. The library passes over line ends, strict or not:
// two texts for one value.
func decode(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return nil, errLineEnd
	}
	return b64.AppendDecode(nil, text)
}

var errLineEnd = errors.New("a line end in base64url")

// AlgorithmName is the JWS name of an algorithm (RFC 7518 section 3.1, RFC
// 8037 section 3.1), or ErrRefused for one that JWS has no name for.
func AlgorithmName(a signers.Algorithm) (string, error) {
	p, err := a.Params()
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, plugins.ErrRefused)
	}
	switch p.Kind {
	case signers.KindEd25519:
		return "EdDSA", nil
	case signers.KindECDSA:
		// 521 bits go with SHA-512: ES512.
		return "ES" + hashBits(p), nil
	case signers.KindRSA:
		if p.PSS {
			return "PS" + hashBits(p), nil
		}
		return "RS" + hashBits(p), nil
	}
	return "", fmt.Errorf("algorithm %q has no JWS name: %w", a, plugins.ErrRefused)
}

func hashBits(p signers.Params) string { return fmt.Sprint(p.Hash.Size() * 8) }

// algorithms are those that JWS has a name for, sorted.
func algorithms() []signers.Algorithm {
	return slices.DeleteFunc(signers.Algorithms(), func(a signers.Algorithm) bool {
		_, err := AlgorithmName(a)
		return err != nil
	})
}

// thumbprint reports whether s is a SHA-256 in base64url: 43 characters.
func thumbprint(s string) bool {
	raw, err := decode([]byte(s))
	return err == nil && len(raw) == 32
}

// scopeToken reports whether s can stand in scope (RFC 6749 section 3.3).
func scopeToken(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// holders are the ways to bind a token that a JWT can carry (RFC 9449 section
// 6.1, RFC 8705 section 3.1).
var holders = []string{"jkt", "x5t#S256"}
