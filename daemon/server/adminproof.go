package server

import (
	"context"
	"maps"
	"slices"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

// Attestation gets what the HSM itself says of a version, for whoever checks it
// elsewhere: its SHA-256 is in the ledger since the key was published.
func (a *Admin) Attestation(ctx context.Context, r *signetv1.AttestationRequest) (*signetv1.AttestationReply, error) {
	if err := a.view(ctx, RightView, "key.attestation"); err != nil {
		return nil, err
	}
	p, number, err := a.Pipeline.Ring.Proof(ctx, r.GetName(), int(r.GetVersion()))
	if err != nil {
		return nil, a.Pipeline.onTheWire(err)
	}
	reply := &signetv1.AttestationReply{Version: uint32(number), Format: p.Format, Content: p.Content} //nolint:gosec // counted from 1
	for _, name := range slices.Sorted(maps.Keys(p.Chains)) {
		if len(p.Chains[name]) > 0 {
			reply.Chains = append(reply.Chains, &signetv1.AttestationChain{Name: name, Certificates: p.Chains[name]})
		}
	}
	return reply, nil
}
