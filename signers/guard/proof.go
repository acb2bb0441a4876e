package guard

import (
	"context"
	"fmt"

	"github.com/signetd/signet/signers"
)

// Proof gets an HSM's statement about a key, if the back-end can.
func (b *Backend) Proof(ctx context.Context, id signers.KeyID) (signers.Proof, error) {
	inner, err := b.opened()
	if err != nil {
		return signers.Proof{}, err
	}
	if p, ok := inner.(signers.Prover); ok {
		return p.Proof(ctx, id)
	}
	return signers.Proof{}, fmt.Errorf("back-end %q has no statements of its keys: %w", b.cfg.Name, signers.ErrNoProof)
}
