package keyring

import (
	"cmp"
	"crypto"
	"encoding/base64"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Thumbprint is the kid of a public key: its JWK thumbprint with SHA-256 (RFC
// 7638; RFC 8037 appendix A.3 for Ed25519), base64url without padding.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: pub}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("keyring: thumbprint: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// kid is what a format calls a public key: its thumbprint, unless the format
// has a name of its own for keys.
func (r *Ring) kid(format string, pub crypto.PublicKey, thumbprint string) (string, error) {
	if r.opts.Kid == nil {
		return thumbprint, nil
	}
	kid, err := r.opts.Kid(format, pub)
	return cmp.Or(kid, thumbprint), err
}
