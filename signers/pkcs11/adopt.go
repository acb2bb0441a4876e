package pkcs11

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/signetd/signet/signers"
)

// An adopted key is one that somebody else made. Its objects keep the CKA_ID
// and the label that they have; our id for it says which CKA_ID that is and
// how its public key begins, so that nothing else is ever opened or destroyed
// in its place.
var adoptedID = regexp.MustCompile(`^` + signers.AdoptedPrefix + `((?:[0-9a-f]{2}){1,21})-([0-9a-f]{16})$`)

// adopted takes the id of an adopted key apart.
func adopted(id signers.KeyID) (ckaID []byte, fingerprint string, ok bool) {
	parts := adoptedID.FindStringSubmatch(string(id))
	if parts == nil {
		return nil, "", false
	}
	ckaID, err := hex.DecodeString(parts[1])
	return ckaID, parts[2], err == nil
}

// idOfAdopted puts an id together, of CKA_ID in hex and a fingerprint.
func idOfAdopted(ckaID, fingerprint string) signers.KeyID {
	return signers.KeyID(signers.AdoptedPrefix + strings.ToLower(ckaID) + "-" + fingerprint[:min(16, len(fingerprint))])
}

// Fingerprint is the SHA-256 of a public key's SubjectPublicKeyInfo (RFC 5280
// section 4.1.2.7), in hex, as `openssl pkey -pubin -outform DER | sha256sum` has it.
func Fingerprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("pkcs11: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Adopt takes over a key that Create did not make, found by its CKA_ID in hex;
// its public key must have the fingerprint that is given. It returns the id to
// open it by, and which of the promises of a key of ours the token does not
// make for it. A key that may leave the token now, or can't sign, is
// ErrMismatch.
func (b *Backend) Adopt(ctx context.Context, ref, fingerprint string, alg signers.Algorithm) (signers.Adopted, error) {
	id := idOfAdopted(ref, fingerprint)
	if _, _, ok := adopted(id); !ok || len(fingerprint) != 64 {
		return signers.Adopted{}, fmt.Errorf("pkcs11: adopt: CKA_ID %q and fingerprint %q: %w\nhint: the id in hex, at most 21 bytes, and the whole SHA-256 of the public key in hex", ref, fingerprint, signers.ErrMismatch)
	}
	key, err := b.Open(ctx, id, alg)
	if err != nil {
		return signers.Adopted{}, err
	}
	got, err := Fingerprint(key.Public())
	if err != nil {
		return signers.Adopted{}, err
	}
	if got != fingerprint {
		return signers.Adopted{}, fmt.Errorf("pkcs11: adopt: the key with CKA_ID %s has fingerprint %s: %w", ref, got, signers.ErrMismatch)
	}
	return signers.Adopted{ID: id, Key: key, Unattested: unattested(key)}, nil
}

// unattested lists the promises that the token does not make for a key.
func unattested(k signers.Key) (missing []string) {
	said := k.(*Key).attested //nolint:forcetypeassert // Open made it
	for _, promise := range promises {
		if !slices.Contains(said, fmt.Sprintf("%s=%t", promise.name, promise.want)) {
			missing = append(missing, promise.name)
		}
	}
	return missing
}

// adoptable reports whether an adopted key may go without a promise. None goes
// without those that keep it in the token now.
func adoptable(p promise) bool {
	return slices.Contains(excusable, p.name) || p.name == "CKA_DECRYPT"
}
