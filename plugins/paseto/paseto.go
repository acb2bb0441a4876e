// Package paseto is the PASETO format: v4.public for Ed25519 keys and v3.public
// for ECDSA P-384 keys, by the PASETO specification of paseto-standard, with a
// footer that names the key by its PASERK id (k4.pid, k3.pid).
//
// [New] is the issuer, which runs in a process of its own; [NewInspector] runs
// in the daemon and reads back what is about to be signed. What is signed is
// the pre-authentication encoding (PAE) of header, message, footer and implicit
// assertion; v3 puts the compressed public key before them. The two halves
// share how PAE is written; it is read by code of its own.
package paseto

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// Format is what this package's format is called.
const Format = "paseto"

// The headers of the two protocols that sign. Of the others, v1 and v2 are
// superseded and local tokens are encrypted with a shared key.
const (
	headerV3 = "v3.public."
	headerV4 = "v4.public."
)

// maxBody bounds what is signed, in bytes: message, footer and assertion.
const maxBody = 48 << 10

// registered are the claims that a Grant has fields for: PASETO's own, and
// scope and cnf as JWT has them (RFC 8693, RFC 7800).
var registered = []string{"aud", "cnf", "exp", "iat", "iss", "jti", "nbf", "scope", "sub"}

// reserved are the names that no further claim may have: the registered ones,
// and those that stand in the footer alone, where a verifier looks for the key.
var reserved = append([]string{"kid", "typ", "wpk"}, registered...)

// holders are the ways to bind a token, as a JWT does (RFC 9449 section 6.1,
// RFC 8705 section 3.1).
var holders = []string{"jkt", "x5t#S256"}

// timeForm is the one text that a time has: ISO 8601, UTC, whole seconds.
const timeForm = "2006-01-02T15:04:05Z"

// lastSecond is the last one that timeForm can write, since 1970.
const lastSecond = 253402300799

// header is the protocol that an algorithm signs: one for each kind of key, so
// that no key serves two (PASETO's algorithm lucidity).
func header(a signers.Algorithm) (string, error) {
	switch a {
	case signers.Ed25519:
		return headerV4, nil
	case signers.ECDSAP384:
		return headerV3, nil
	default:
		return "", refuse("algorithm %q signs neither v4.public nor v3.public\nhint: use %s or %s", a, signers.Ed25519, signers.ECDSAP384)
	}
}

// algorithms are those that PASETO signs with, sorted.
func algorithms() []signers.Algorithm {
	return []signers.Algorithm{signers.ECDSAP384, signers.Ed25519}
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("paseto: "+format+": %w", append(args, plugins.ErrRefused)...)
}

// pae is the pre-authentication encoding: the number of pieces, then each with
// its length before it, all 64-bit little-endian. No length comes near the top
// bit, which PASETO wants clear.
func pae(pieces ...[]byte) []byte {
	size := 8
	for _, p := range pieces {
		size += 8 + len(p)
	}
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, size), uint64(len(pieces)))
	for _, p := range pieces {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

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
