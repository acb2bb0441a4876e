// Package signers says what a place that holds private keys must be able to
// do, and nothing about what the keys are called or when they rotate.
//
// A back-end implements [Backend] and [Key], proves itself with the checks in
// conformance/signertest, and is registered by one line in daemon/backends.go.
// The careful work (verifying each signature, retrying, naming, rotation) is
// done once, above this seam, in package keyring.
package signers

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"
)

// A Backend holds private keys and never gives them up. It knows nothing of
// key names, versions or rotation. All methods may be called at the same time.
type Backend interface {
	// Create makes a non-exportable key pair called id. If id is taken it
	// returns ErrExists and changes nothing, so a caller that crashed
	// half-way may call Create again and fall back to Open. An algorithm
	// that the back-end does not have is ErrUnsupported.
	Create(ctx context.Context, id KeyID, alg Algorithm) (Key, error)

	// Open finds the key called id and fixes it to one algorithm. It
	// returns ErrNotFound, or ErrMismatch if the key is of another kind or
	// its attributes are not those of a key that Create makes.
	Open(ctx context.Context, id KeyID, alg Algorithm) (Key, error)

	// Destroy makes the key unusable for good, handles opened earlier
	// included; an absent key is not an error.
	Destroy(ctx context.Context, id KeyID) error

	// Close releases sessions and connections, after signatures under way
	// have ended. Keys opened earlier then return ErrClosed. A second Close
	// does nothing.
	Close() error
}

// A Key is one key pair fixed to one algorithm. Its methods may be called at
// the same time.
type Key interface {
	// Public returns the public half without touching the network. It is an
	// *ecdsa.PublicKey, an *rsa.PublicKey or an ed25519.PublicKey.
	Public() crypto.PublicKey

	// Sign signs message, which is not yet hashed. The signature is in the
	// form Algorithm.Verify accepts: DER for ECDSA, raw for the rest. After
	// Destroy it returns ErrNotFound, after Close ErrClosed.
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// A Lister can list the keys it holds; it finds orphans. Optional.
type Lister interface {
	// List returns the ids of all keys that Create made, in no set order.
	List(ctx context.Context) ([]KeyID, error)
}

// A Doubter is a [Key] whose back-end may have lost track of which key it is:
// a handle that names another key signs, and the signature is wrong. Optional.
type Doubter interface {
	// Doubt has the key looked up again before it signs the next time.
	Doubt()
}

// An Adopter can take over keys that Create did not make. Optional.
type Adopter interface {
	// Adopt finds a key by what the back-end calls it (PKCS#11: CKA_ID in
	// hex), whose SubjectPublicKeyInfo must have the SHA-256 fingerprint (hex).
	Adopt(ctx context.Context, ref, fingerprint string, alg Algorithm) (Adopted, error)
}

// AdoptedPrefix begins the id of every adopted key, and no other: what follows
// is not "vN-", as it is for a key that is called "ad".
const AdoptedPrefix = "ad-"

// Adopted is a key that was made by somebody else.
type Adopted struct {
	ID         KeyID // to Open it by, AdoptedPrefix first
	Key        Key
	Unattested []string // promises of a key of ours that the back-end does not make for it
}

// An Attester is a [Key] of which the back-end says how it is kept. Optional.
type Attester interface {
	// Attestation is what the back-end said when the key was opened, such as
	// "CKA_SENSITIVE=true", in a fixed order.
	Attestation() []string
}

// A Prover is a [Backend] that can get the statement of a key's HSM about it,
// to be checked by whoever trusts the HSM's maker. Optional.
type Prover interface {
	// Proof returns the statement about the key called id, ErrNotFound
	// without a key, ErrNoProof if there is no statement.
	Proof(ctx context.Context, id KeyID) (Proof, error)
}

// A Proof is what an HSM's maker says of a key.
type Proof struct {
	Format  string              // as the back-end calls it
	Content []byte              // as the HSM made and signed it
	Chains  map[string][]string // certificates to check it under, in PEM, by who vouches
}

// A Reporter is a [Backend] that can say how it fares. Optional.
type Reporter interface {
	Report() Report
}

// A Report is how a back-end fares. It is made without asking the back-end.
type Report struct {
	Where    string // "in-process", or "process 1234"
	State    string // "ready", "recovering", "refusing", "refused" (a PIN), "stuck", "down"
	Why      string // if it is not ready
	Sessions int    // to sign with; 0 if there is no such thing
	Busy     int    // of those
	Waiting  int    // signatures
	Refused  int64  // signatures past its limits

	Checked     time.Time // the last health check, zero for none yet
	CheckFailed string    // why, if it did

	Recoveries map[string]int64 // by rung of the recovery ladder
}

// The errors that callers of a back-end branch on. Back-ends wrap them with
// words of their own: fmt.Errorf("pkcs11: open %q: %w", id, ErrNotFound).
var (
	ErrNotFound    = errors.New("key not found")
	ErrExists      = errors.New("key already exists")
	ErrMismatch    = errors.New("key does not fit the algorithm")
	ErrUnsupported = errors.New("algorithm not supported")
	ErrDenied      = errors.New("back-end refused")     // wrong PIN, missing IAM right
	ErrUnavailable = errors.New("back-end unavailable") // the caller may retry
	ErrBusy        = errors.New("back-end busy")        // over its limits; retry later
	ErrBudget      = errors.New("budget of key creations is used up")
	ErrClosed      = errors.New("back-end closed")
	ErrNoProof     = errors.New("no statement about the key")
)

// A KeyID is what a back-end calls a key: 1 to 63 of a-z 0-9 '-'. Ids are
// chosen by the keyring, never by the back-end.
type KeyID string

// Check returns an error unless id has the form that every back-end can carry
// (a CKA_LABEL, an AWS alias, a GCP CryptoKey id).
func (id KeyID) Check() error {
	if len(id) == 0 || len(id) > 63 {
		return fmt.Errorf("signers: key id %q has %d characters, not 1 to 63", string(id), len(id))
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("signers: key id %q has a character other than a-z, 0-9 and '-'", string(id))
		}
	}
	return nil
}
