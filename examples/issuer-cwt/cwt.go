// Package cwt makes CBOR Web Tokens (RFC 8392), signed as COSE_Sign1 (RFC 9052
// section 4.2). It is an example of an issuer that signet does not come with: it
// drafts, and it reads back what it drafted.
package cwt

import (
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// Format is the name by which keys and profiles know these tokens.
const Format = "cwt"

// The claims' keys: RFC 8392 section 4, and RFC 9200 section 5.8.1 for scope.
const (
	claimIss   = 1
	claimSub   = 2
	claimAud   = 3
	claimExp   = 4
	claimNbf   = 5
	claimIat   = 6
	claimCti   = 7
	claimScope = 9
)

// coseAlgorithms are COSE's numbers (RFC 9053 section 2, RFC 8230, RFC 8812).
var coseAlgorithms = map[signers.Algorithm]int64{
	signers.ECDSAP256: -7, signers.ECDSAP384: -35, signers.ECDSAP521: -36, signers.Ed25519: -8,
	"rsa2048-pss-sha256": -37, "rsa3072-pss-sha256": -37, "rsa4096-pss-sha256": -37,
	"rsa2048-pss-sha384": -38, "rsa3072-pss-sha384": -38, "rsa4096-pss-sha384": -38,
	"rsa2048-pss-sha512": -39, "rsa3072-pss-sha512": -39, "rsa4096-pss-sha512": -39,
	"rsa2048-pkcs1-sha256": -257, "rsa3072-pkcs1-sha256": -257, "rsa4096-pkcs1-sha256": -257,
	"rsa2048-pkcs1-sha384": -258, "rsa3072-pkcs1-sha384": -258, "rsa4096-pkcs1-sha384": -258,
	"rsa2048-pkcs1-sha512": -259, "rsa3072-pkcs1-sha512": -259, "rsa4096-pkcs1-sha512": -259,
}

// names that the daemon gives and no further claim may have: a reader that looks
// by text would take it for the one with a number.
var registered = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "cti", "jti", "scope", "cnf"}

type issuer struct{}

// New returns the issuer, which reads back as well.
func New() interface {
	plugins.Issuer
	plugins.ForeignInspector
} {
	return issuer{}
}
