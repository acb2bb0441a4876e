package keyring

import (
	"context"
	"fmt"

	"github.com/signetd/signet/signers"
)

// Proof is what the HSM itself says of a version's key: signers.ErrNoProof
// where the back-end has no such thing. 0 is the version that signs.
func (r *Ring) Proof(ctx context.Context, name string, number int) (signers.Proof, int, error) {
	at, err := r.look(name)
	if err != nil {
		return signers.Proof{}, 0, err
	}
	if number == 0 {
		if at.signing == nil {
			return signers.Proof{}, 0, fmt.Errorf("key %q: %w", name, ErrNoSigner)
		}
		number = at.signing.number
	}
	v, err := at.entry.version(number)
	if err != nil {
		return signers.Proof{}, 0, err
	}
	backend, err := r.backend(name, at.entry.Backend)
	if err != nil {
		return signers.Proof{}, 0, err
	}
	prover, ok := backend.(signers.Prover)
	if !ok {
		return signers.Proof{}, 0, fmt.Errorf("key %q: back-end %q has no statements of its keys: %w", name, at.entry.Backend, signers.ErrNoProof)
	}
	p, err := prover.Proof(ctx, v.ID)
	if err != nil {
		return signers.Proof{}, 0, fmt.Errorf("key %q version %d: %w", name, number, err)
	}
	return p, number, nil
}
