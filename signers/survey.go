package signers

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"
)

// HealthPrefix begins the id of a key that only proves that its back-end signs;
// its algorithm follows. CheckPrefix begins that of a key which the suite made.
const (
	HealthPrefix = "signet-health-"
	CheckPrefix  = "check-"
)

// A Surveyor can say more of the keys it holds than their ids, and destroy
// exactly one of them. Optional.
type Surveyor interface {
	// Survey returns every key that Create made, the half-made too, but none
	// that is destroyed or waits for it.
	Survey(ctx context.Context) ([]Holding, error)

	// Discard makes the one key that is both id and ref unusable for good. If
	// there is none it returns ErrNotFound; if ref is another key's, or Open
	// would find another by id than ref, ErrMismatch, and changes nothing.
	Discard(ctx context.Context, id KeyID, ref string) error
}

// A Holding is a key as its back-end describes it.
type Holding struct {
	ID  KeyID
	Ref string // of this key and no other, ever: an ARN, a version's name, a fingerprint; "" if it can't be read

	// Stray: no Open finds it by its id. It was cut off before it was named,
	// or made beside the one that is used.
	Stray bool

	// AsAdopted is the id that Adopt would give the key, "" if it adopts none: a
	// record may have the key by that.
	AsAdopted KeyID

	State      string    // in the back-end's words; "" if it has none
	Created    time.Time // zero if the back-end does not say
	MonthlyUSD float64   // what it costs to keep, by the price table of its back-end
}

// Fingerprint is the SHA-256 of a public key's SubjectPublicKeyInfo (RFC 5280
// section 4.1.2.7), in hex, as `openssl pkey -pubin -outform DER | sha256sum` has it.
func Fingerprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("signers: fingerprint: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// PickHolding finds the key that is both id and ref, for Discard.
func PickHolding(all []Holding, id KeyID, ref string) (Holding, error) {
	err := fmt.Errorf("key %q with reference %q: %w", id, ref, ErrNotFound)
	for _, h := range all {
		switch {
		case ref == "" || h.ID != id && h.Ref != ref:
		case h.ID == id && h.Ref == ref:
			return h, nil
		default:
			err = fmt.Errorf("key %q has the reference %q: %w", h.ID, h.Ref, ErrMismatch)
		}
	}
	return Holding{}, err
}
