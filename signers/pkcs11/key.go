package pkcs11

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

// A Key is one key pair of a token. It implements signers.Doubter and
// signers.Attester.
type Key struct {
	backend  *Backend
	attested []string
	id       signers.KeyID
	alg      signers.Algorithm
	mech     mechanism
	public   crypto.PublicKey
	place    atomic.Pointer[place] // of the private key; the same in all our sessions; nil: find it
	use      *use
}

// Public returns the public half, as it was read when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign has the token sign message.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if err := k.usable(ctx); err != nil {
		return nil, err
	}
	input, err := k.mech.input(k.alg, message)
	if err != nil {
		return nil, err
	}
	r := &request{ctx: ctx, key: k, input: input, begun: k.backend.cfg.Now()}
	sig, err := k.backend.pool.sign(r) //nolint:contextcheck // it is in the request
	if err != nil {
		return nil, fmt.Errorf("pkcs11: sign with %q: %w", k.id, err)
	}
	return sig, nil
}

// Attestation is what the token said of the private key when it was opened.
func (k *Key) Attestation() []string { return slices.Clone(k.attested) }

// Doubt has the key found again before it signs the next time. It implements
// signers.Doubter.
func (k *Key) Doubt() { k.place.Store(nil) }

// usable says whether the key may still sign for this caller.
func (k *Key) usable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case k.backend.closed.Load():
		return fmt.Errorf("pkcs11: %w", signers.ErrClosed)
	case k.use.gone.Load():
		return fmt.Errorf("pkcs11: key %q: %w", k.id, signers.ErrNotFound)
	}
	return nil
}

func equalKeys(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}
