package awskms

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
	"github.com/signetd/signet/signers/handles"
)

// A spec is what the service calls an algorithm.
type spec struct {
	key     types.KeySpec
	signing types.SigningAlgorithmSpec
	message types.MessageType
}

// mostRaw is how long a message may be that the service hashes itself.
const mostRaw = 4096

func specOf(alg signers.Algorithm) (spec, error) {
	p, err := alg.Params()
	if err != nil {
		return spec{}, err
	}
	hash := map[crypto.Hash]string{crypto.SHA256: "256", crypto.SHA384: "384", crypto.SHA512: "512"}[p.Hash]
	s := spec{message: types.MessageTypeDigest}
	switch p.Kind {
	case signers.KindECDSA:
		s.key = types.KeySpec(fmt.Sprintf("ECC_NIST_P%d", p.Curve.Params().BitSize))
		s.signing = types.SigningAlgorithmSpec("ECDSA_SHA_" + hash)
	case signers.KindEd25519:
		s = spec{types.KeySpecEccNistEdwards25519, types.SigningAlgorithmSpecEd25519Sha512, types.MessageTypeRaw}
	case signers.KindRSA:
		scheme := "PKCS1_V1_5"
		if p.PSS {
			scheme = "PSS"
		}
		s.key = types.KeySpec(fmt.Sprintf("RSA_%d", p.Bits))
		s.signing = types.SigningAlgorithmSpec("RSASSA_" + scheme + "_SHA_" + hash)
	}
	if !slices.Contains(s.key.Values(), s.key) || !slices.Contains(s.signing.Values(), s.signing) {
		return spec{}, fmt.Errorf("awskms: the service does not have %s: %w", alg, signers.ErrUnsupported)
	}
	return s, nil
}

// admit refuses a key that is not as we make them, and returns what the service
// says of it. A key that was imported has been elsewhere.
func admit(m *types.KeyMetadata, s spec) ([]string, error) {
	switch m.KeyState {
	case types.KeyStateEnabled:
	case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
		return nil, fmt.Errorf("it is scheduled for deletion%s: %w\nhint: until then this saves it: aws kms cancel-key-deletion --key-id %s, then aws kms enable-key", on(m), signers.ErrNotFound, aws.ToString(m.KeyId))
	default:
		return nil, fmt.Errorf("its state is %s: %w\nhint: enable it, if nobody disabled it for a reason: aws kms enable-key", m.KeyState, signers.ErrUnavailable)
	}
	switch {
	case strings.HasPrefix(string(m.KeySpec), "ML_DSA_"):
		return nil, fmt.Errorf("it is a key of %s, and no token format of signet has post-quantum signatures: %w", m.KeySpec, signers.ErrMismatch)
	case m.KeySpec != s.key || m.KeyUsage != types.KeyUsageTypeSignVerify:
		return nil, fmt.Errorf("it is a key of %s for %s: %w", m.KeySpec, m.KeyUsage, signers.ErrMismatch)
	case m.Origin != types.OriginTypeAwsKms && m.Origin != types.OriginTypeAwsCloudhsm:
		return nil, fmt.Errorf("its origin is %s: it was not made in the service: %w", m.Origin, signers.ErrMismatch)
	case m.KeyManager != types.KeyManagerTypeCustomer:
		return nil, fmt.Errorf("it belongs to %s: %w", m.KeyManager, signers.ErrMismatch)
	}
	return []string{
		"Origin=" + string(m.Origin), "KeySpec=" + string(m.KeySpec), "KeyUsage=" + string(m.KeyUsage),
		"MultiRegion=" + multiRegion(m), "Arn=" + aws.ToString(m.Arn),
	}, nil
}

// on says when a key goes, if that is known: not while it has replicas.
func on(m *types.KeyMetadata) string {
	if m.DeletionDate == nil {
		return ", when its replicas are gone"
	}
	return " on " + m.DeletionDate.UTC().Format("2006-01-02")
}

// multiRegion is "false", or which of its kind a multi-region key is and where
// it is as well: whoever may use it there signs as we do.
func multiRegion(m *types.KeyMetadata) string {
	if !aws.ToBool(m.MultiRegion) {
		return "false"
	}
	kind := types.MultiRegionKeyType("true")
	if m.MultiRegionConfiguration != nil {
		kind = m.MultiRegionConfiguration.MultiRegionKeyType
	}
	return strings.Join(append([]string{string(kind)}, elsewhere(m)...), ",")
}

// elsewhere is where a multi-region key is beside the region that was asked.
func elsewhere(m *types.KeyMetadata) (regions []string) {
	if m.MultiRegionConfiguration == nil {
		return nil
	}
	all := m.MultiRegionConfiguration.ReplicaKeys
	if p := m.MultiRegionConfiguration.PrimaryKey; p != nil {
		all = append([]types.MultiRegionKey{*p}, all...)
	}
	for _, k := range all {
		if aws.ToString(k.Arn) != aws.ToString(m.Arn) {
			regions = append(regions, aws.ToString(k.Region))
		}
	}
	return regions
}

// A Key is one KMS key, addressed by its ARN: an alias can be moved.
type Key struct {
	backend  *Backend
	id       signers.KeyID
	alg      signers.Algorithm
	spec     spec
	arn      string
	public   crypto.PublicKey
	price    float64 // of a request, USD
	attested []string
	life     *handles.Life
}

// handle reads a key's public half, once, and makes a Key.
func (b *Backend) handle(ctx context.Context, id signers.KeyID, alg signers.Algorithm, s spec, arn string, attested []string) (*Key, error) {
	ctx = cost.Priced(ctx, cost.AWS(string(s.key)).Request)
	got, err := b.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(arn)})
	if err != nil {
		return nil, meaning(err)
	}
	if other := aws.ToString(got.KeyId); other != arn {
		return nil, fmt.Errorf("the service answered for key %s: %w", other, signers.ErrMismatch)
	}
	public, err := x509.ParsePKIXPublicKey(got.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("its public key: %w: %w", signers.ErrMismatch, err)
	}
	if err := alg.Fits(public); err != nil {
		return nil, err
	}
	return &Key{backend: b, id: id, alg: alg, spec: s, arn: arn, public: public, price: cost.AWS(string(s.key)).Request, attested: attested, life: b.given.Of(id)}, nil
}

// Public returns the public half, as it was read when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Attestation is what the service said of the key when it was opened.
func (k *Key) Attestation() []string { return slices.Clone(k.attested) }

// Sign has the service sign message: one request.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	leave, err := k.life.Enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("awskms: key %q: %w", k.id, err)
	}
	defer leave()
	input, err := k.alg.Digest(message)
	if err != nil {
		return nil, err
	}
	if len(input) == 0 || len(input) > mostRaw {
		return nil, fmt.Errorf("awskms: sign with %q: %d bytes, and the service takes 1 to %d for %s: %w\nhint: use an ECDSA key, which is given a digest", k.id, len(input), mostRaw, k.alg, signers.ErrUnsupported)
	}
	ctx, cancel := k.backend.within(ctx)
	defer cancel()
	got, err := k.backend.kms.Sign(cost.Priced(ctx, k.price), &kms.SignInput{
		KeyId: aws.String(k.arn), Message: input, MessageType: k.spec.message, SigningAlgorithm: k.spec.signing,
	})
	if err == nil && aws.ToString(got.KeyId) != k.arn {
		err = fmt.Errorf("the service answered for key %s: %w", aws.ToString(got.KeyId), signers.ErrUnavailable)
	}
	if err != nil && k.life.Ended() {
		err = signers.ErrNotFound // the service says it in words of its own
	}
	if err != nil {
		return nil, fmt.Errorf("awskms: sign with %q: %w", k.id, meaning(err))
	}
	return got.Signature, nil
}
