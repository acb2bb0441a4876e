package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"path"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
)

// Survey describes the versions of the keys with our label. Of several that can
// sign, which Open refuses, the newer are strays.
func (b *Backend) Survey(ctx context.Context) ([]signers.Holding, error) {
	ids, err := b.List(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := b.within(ctx, b.cfg.Generation)
	defer cancel()
	var all []signers.Holding
	for _, id := range ids {
		live, err := b.versions(ctx, id)
		if err != nil && !errors.Is(err, signers.ErrNotFound) {
			return nil, fmt.Errorf("gcpkms: survey: %q: %w", id, err)
		}
		for i, v := range live {
			all = append(all, holding(id, v, i > 0))
		}
	}
	return all, nil
}

func holding(id signers.KeyID, v *kmspb.CryptoKeyVersion, stray bool) signers.Holding {
	h := signers.Holding{
		ID: id, Ref: v.GetName(), Stray: stray, State: v.GetState().String(),
		AsAdopted:  signers.KeyID(signers.AdoptedPrefix + string(id) + "-" + path.Base(v.GetName())),
		MonthlyUSD: cost.GCP(v.GetProtectionLevel().String(), v.GetAlgorithm().String()).Month,
	}
	if v.GetCreateTime() != nil {
		h.Created = v.GetCreateTime().AsTime()
	}
	return h
}

// Discard schedules the version whose key's id and whose name are both given
// for destruction.
func (b *Backend) Discard(ctx context.Context, id signers.KeyID, ref string) error {
	all, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	h, err := signers.PickHolding(all, id, ref)
	if err == nil {
		err = b.discard(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("gcpkms: discard: %w", err)
	}
	return nil
}

// discard destroys the one version: another may have come since.
func (b *Backend) discard(ctx context.Context, h signers.Holding) error {
	b.making.Lock()
	defer b.making.Unlock()
	ctx, cancel := b.within(ctx, b.cfg.Generation)
	defer cancel()
	if !h.Stray {
		b.given.End(h.ID)
	}
	_, err := b.kms.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: h.Ref})
	return meaning(err)
}
