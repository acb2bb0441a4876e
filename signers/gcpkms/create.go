package gcpkms

import (
	"context"
	"errors"
	"fmt"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/signetd/signet/signers"
)

// Create makes a key. Its name can be taken once, which makes a repeated
// request harmless: whoever makes the CryptoKey makes its first version with it.
// A name that was used before gets another version.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	a, err := b.begin(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	b.making.Lock()
	defer b.making.Unlock()
	ctx, cancel := b.within(ctx, b.cfg.Generation)
	defer cancel()
	key, err := b.create(ctx, id, alg, a)
	if err != nil {
		return nil, fmt.Errorf("gcpkms: create %q: %w", id, err)
	}
	return key, nil
}

func (b *Backend) create(ctx context.Context, id signers.KeyID, alg signers.Algorithm, a algorithm) (signers.Key, error) {
	switch {
	case b.cfg.Protection == "EXTERNAL":
		return nil, fmt.Errorf("a key of protection EXTERNAL is made in the external key manager: %w\nhint: make it there and its version here, then: signet key adopt", signers.ErrUnsupported)
	case b.cfg.Protection == "EXTERNAL_VPC" && b.cfg.Connection == "":
		return nil, fmt.Errorf("a key of protection EXTERNAL_VPC is made through an EKM connection: %w\nhint: gcpkms.connection names it; without one: signet key adopt", signers.ErrUnsupported)
	}
	_, err := b.kms.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{
		Parent: b.cfg.KeyRing, CryptoKeyId: string(id),
		CryptoKey: &kmspb.CryptoKey{
			Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN, Labels: map[string]string{label: string(id)}, CryptoKeyBackend: b.cfg.Connection,
			VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: a, ProtectionLevel: b.protection()},
		},
	})
	switch err := meaning(err); {
	case errors.Is(err, signers.ErrExists):
		if err := b.again(ctx, id, a); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	key, err := b.open(ctx, id, alg, a)
	if err != nil {
		return nil, err
	}
	key.life = b.given.New(id)
	return key, nil
}

// again makes another version of a key whose versions are all destroyed. The
// template is the old one: a name keeps its algorithm.
func (b *Backend) again(ctx context.Context, id signers.KeyID, a algorithm) error {
	live, err := b.versions(ctx, id)
	switch {
	case err != nil:
		return err
	case len(live) > 0:
		return signers.ErrExists
	}
	made, err := b.kms.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: b.name(id)})
	if err := meaning(err); err != nil {
		return err
	}
	if live, err = b.versions(ctx, id); err != nil {
		return err
	}
	// Two that did this at the same time: the older version is the key.
	if len(live) > 0 && live[0].GetName() != made.GetName() {
		return errors.Join(signers.ErrExists, b.destroyNewer(ctx, made))
	}
	if made.GetAlgorithm() != a {
		return fmt.Errorf("its name was used for a key of %s: %w\nhint: create it under another name", made.GetAlgorithm(), signers.ErrMismatch)
	}
	return nil
}

// destroyNewer takes back a version that was made beside another.
func (b *Backend) destroyNewer(ctx context.Context, v *kmspb.CryptoKeyVersion) error {
	_, err := b.kms.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: v.GetName()})
	return meaning(err)
}
