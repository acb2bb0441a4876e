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

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// An adopted key is one that somebody else made. Its objects keep the CKA_ID
// and the label that they have; our id for it says which CKA_ID that is and
// how its public key begins, so that nothing else is ever opened or destroyed
// in its place.
var adoptedID = regexp.MustCompile(`^ad-((?:[0-9a-f]{2}){1,21})-([0-9a-f]{16})$`)

// adopted takes the id of an adopted key apart.
func adopted(id signers.KeyID) (ckaID []byte, fingerprint string, ok bool) {
	parts := adoptedID.FindStringSubmatch(string(id))
	if parts == nil {
		return nil, "", false
	}
	ckaID, err := hex.DecodeString(parts[1])
	return ckaID, parts[2], err == nil
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
	id := signers.KeyID("ad-" + strings.ToLower(ref) + "-" + fingerprint[:min(16, len(fingerprint))])
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
	missing, err := b.unattested(ctx, id)
	return signers.Adopted{ID: id, Key: key, Unattested: missing}, err
}

// unattested lists the promises that the token does not make for a key.
func (b *Backend) unattested(ctx context.Context, id signers.KeyID) (missing []string, err error) {
	err = b.with(ctx, func(s *session) error {
		missing = nil
		p, err := b.locate(s.handle, id)
		if err != nil {
			return err
		}
		for _, promise := range promises {
			kept, err := b.keeps(s.handle, p, promise)
			if err != nil || !kept {
				missing = append(missing, promise.name)
			}
		}
		return nil
	})
	return missing, err
}

// attestAdopted holds an adopted key to what no key goes without.
func (b *Backend) attestAdopted(s pkcs11.SessionHandle, p pair) error {
	for _, promise := range promises {
		if slices.Contains(excusable, promise.name) || promise.name == "CKA_DECRYPT" {
			continue
		}
		kept, err := b.keeps(s, p, promise)
		if err != nil {
			return err
		}
		if !kept {
			return fmt.Errorf("the token says that %s is %t: %w\nhint: such a key can't be adopted; make a new one and rotate to it", promise.name, !promise.want, signers.ErrMismatch)
		}
	}
	return nil
}
