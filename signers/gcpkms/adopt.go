package gcpkms

import (
	"context"
	"crypto/sha256"
	"fmt"
	"regexp"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/signetd/signet/signers"
)

// An adopted key is a version that somebody else made. Its id names it: the
// CryptoKey's id, which must fit, and the version's number.
var (
	adoptedID = regexp.MustCompile(`^` + signers.AdoptedPrefix + `([a-z0-9-]+)-([1-9][0-9]*)$`)
	ours      = regexp.MustCompile(`^` + signers.AdoptedPrefix + `v[0-9]+-`) // of a key that is called "ad"
	reference = regexp.MustCompile(`^([a-z0-9-]+)/([1-9][0-9]*)$`)
)

// adopted takes the id of an adopted key apart. Any other is a CryptoKey's.
func adopted(id signers.KeyID) (key signers.KeyID, number string) {
	parts := adoptedID.FindStringSubmatch(string(id))
	if parts == nil || ours.MatchString(string(id)) {
		return id, ""
	}
	return signers.KeyID(parts[1]), parts[2]
}

// Adopt finds a version that somebody else made: ref is "CRYPTOKEY/VERSION", in
// the key ring. Its protection level must be the one that is configured.
func (b *Backend) Adopt(ctx context.Context, ref, fingerprint string, alg signers.Algorithm) (signers.Adopted, error) {
	parts := reference.FindStringSubmatch(ref)
	if parts == nil || len(fingerprint) != 2*sha256.Size {
		return signers.Adopted{}, fmt.Errorf("gcpkms: adopt %q: %w\nhint: CRYPTOKEY/VERSION, whose id has only a-z, 0-9 and '-', and the whole SHA-256 of the public key in hex", ref, signers.ErrMismatch)
	}
	id := signers.KeyID(signers.AdoptedPrefix + parts[1] + "-" + parts[2])
	if _, number := adopted(id); number == "" || id.Check() != nil {
		return signers.Adopted{}, fmt.Errorf("gcpkms: adopt %q: the CryptoKey's id can't be carried: %w\nhint: it is too long, or looks like one of signet's own", ref, signers.ErrMismatch)
	}
	key, err := b.Open(ctx, id, alg)
	if err != nil {
		return signers.Adopted{}, err
	}
	got, err := signers.Fingerprint(key.Public())
	if err != nil {
		return signers.Adopted{}, err
	}
	if got != fingerprint {
		return signers.Adopted{}, fmt.Errorf("gcpkms: adopt: %s has fingerprint %s: %w", ref, got, signers.ErrMismatch)
	}
	return signers.Adopted{ID: id, Key: key, Unattested: b.unattested()}, nil
}

// unattested is what the service does not vouch for: where an external key is.
func (b *Backend) unattested() []string {
	if b.protection() == kmspb.ProtectionLevel_EXTERNAL || b.protection() == kmspb.ProtectionLevel_EXTERNAL_VPC {
		return []string{"ProtectionLevel"}
	}
	return nil
}

// Proof is the HSM's own statement about a key, with the chains of certificates
// to check it under: https://cloud.google.com/kms/docs/attest-key.
func (b *Backend) Proof(ctx context.Context, id signers.KeyID) (signers.Proof, error) {
	if err := b.alive(); err != nil {
		return signers.Proof{}, err
	}
	ctx, cancel := b.within(ctx, b.cfg.Timeout)
	defer cancel()
	v, err := b.find(ctx, id)
	if err != nil {
		return signers.Proof{}, fmt.Errorf("gcpkms: attestation of %q: %w", id, err)
	}
	a := v.GetAttestation()
	if len(a.GetContent()) == 0 {
		return signers.Proof{}, fmt.Errorf("gcpkms: attestation of %q: there is none at protection level %s: %w", id, v.GetProtectionLevel(), signers.ErrNoProof)
	}
	chains := a.GetCertChains()
	return signers.Proof{
		Format: a.GetFormat().String(), Content: a.GetContent(),
		Chains: map[string][]string{"cavium": chains.GetCaviumCerts(), "google-card": chains.GetGoogleCardCerts(), "google-partition": chains.GetGooglePartitionCerts()},
	}, nil
}
