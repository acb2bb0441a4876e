package gcpkms

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
	"github.com/signetd/signet/signers/handles"
)

type algorithm = kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm

// algorithmOf is what the service calls an algorithm. It has no P-521, no
// SHA-384 for RSA, and SHA-512 at 4096 bits alone.
func algorithmOf(alg signers.Algorithm) (algorithm, error) {
	p, err := alg.Params()
	if err != nil {
		return 0, err
	}
	hash := strings.ReplaceAll(p.Hash.String(), "-", "")
	var name string
	switch p.Kind {
	case signers.KindECDSA:
		name = fmt.Sprintf("EC_SIGN_P%d_%s", p.Curve.Params().BitSize, hash)
	case signers.KindEd25519:
		name = "EC_SIGN_ED25519"
	case signers.KindRSA:
		scheme := "PKCS1"
		if p.PSS {
			scheme = "PSS"
		}
		name = fmt.Sprintf("RSA_SIGN_%s_%d_%s", scheme, p.Bits, hash)
	}
	n, ok := kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[name]
	if !ok {
		return 0, fmt.Errorf("gcpkms: the service does not have %s: %w", alg, signers.ErrUnsupported)
	}
	return algorithm(n), nil
}

func (b *Backend) protection() kmspb.ProtectionLevel {
	return kmspb.ProtectionLevel(kmspb.ProtectionLevel_value[b.cfg.Protection])
}

// admit refuses a version that is not as we make them.
func (b *Backend) admit(v *kmspb.CryptoKeyVersion, a algorithm) error {
	switch {
	case v.GetState() != kmspb.CryptoKeyVersion_ENABLED:
		return fmt.Errorf("its state is %s: %w\nhint: enable it, if nobody disabled it for a reason: gcloud kms keys versions enable %s", v.GetState(), signers.ErrUnavailable, flags(v))
	case strings.HasPrefix(v.GetAlgorithm().String(), "PQ_SIGN_"):
		return fmt.Errorf("it is a key of %s, and no token format of signet has post-quantum signatures: %w", v.GetAlgorithm(), signers.ErrMismatch)
	case v.GetAlgorithm() != a:
		return fmt.Errorf("it is a key of %s: %w", v.GetAlgorithm(), signers.ErrMismatch)
	case v.GetProtectionLevel() != b.protection():
		return fmt.Errorf("its protection level is %s, and %s is wanted: %w\nhint: protection says what keys must have; a key keeps its own for life", v.GetProtectionLevel(), b.cfg.Protection, signers.ErrMismatch)
	case v.GetImportJob() != "":
		return fmt.Errorf("it was imported: it has been elsewhere: %w", signers.ErrMismatch)
	}
	return nil
}

// A Key is one version.
type Key struct {
	backend  *Backend
	id       signers.KeyID
	alg      signers.Algorithm
	version  string // its name
	public   crypto.PublicKey
	price    float64 // of a request, USD
	attested []string
	life     *handles.Life
}

// errIntegrity says that an answer was changed on its way, or is another's.
var errIntegrity = errors.New("the answer is not whole")

func checksum(b []byte) int64 {
	return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// fits reports whether a checksum is there and that of b.
func fits(b []byte, sum *wrapperspb.Int64Value) bool {
	return sum != nil && sum.GetValue() == checksum(b)
}

// handle reads a version's public half, once, and makes a Key.
func (b *Backend) handle(ctx context.Context, id signers.KeyID, alg signers.Algorithm, v *kmspb.CryptoKeyVersion) (*Key, error) {
	price := cost.GCP(v.GetProtectionLevel().String(), v.GetAlgorithm().String()).Request
	got, err := b.kms.GetPublicKey(cost.Priced(ctx, price), &kmspb.GetPublicKeyRequest{Name: v.GetName()})
	if err != nil {
		return nil, meaning(err)
	}
	if got.GetName() != v.GetName() || got.GetAlgorithm() != v.GetAlgorithm() || !fits([]byte(got.GetPem()), got.GetPemCrc32C()) {
		return nil, fmt.Errorf("its public key: %w: %w", errIntegrity, signers.ErrUnavailable)
	}
	block, _ := pem.Decode([]byte(got.GetPem()))
	if block == nil {
		return nil, fmt.Errorf("its public key is no PEM: %w", signers.ErrMismatch)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its public key: %w: %w", signers.ErrMismatch, err)
	}
	if err := alg.Fits(public); err != nil {
		return nil, err
	}
	attested := []string{"ProtectionLevel=" + v.GetProtectionLevel().String(), "Algorithm=" + v.GetAlgorithm().String(), "Name=" + v.GetName()}
	if a := v.GetAttestation(); len(a.GetContent()) > 0 {
		attested = append(attested, fmt.Sprintf("Attestation=%s,sha256:%x", a.GetFormat(), sha256.Sum256(a.GetContent())))
	}
	return &Key{backend: b, id: id, alg: alg, version: v.GetName(), public: public, price: price, attested: attested, life: b.given.Of(id)}, nil
}

// Public returns the public half, as it was read when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Attestation is what the service said of the key when it was opened.
func (k *Key) Attestation() []string { return slices.Clone(k.attested) }

// mostData is how much the service takes of what it hashes itself.
const mostData = 64 << 10

// Sign has the service sign message: one request.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	leave, err := k.life.Enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("gcpkms: key %q: %w", k.id, err)
	}
	defer leave()
	in, err := k.request(message)
	if err != nil {
		return nil, err
	}
	ctx, cancel := k.backend.within(ctx, k.backend.cfg.Timeout)
	defer cancel()
	out, err := k.backend.kms.AsymmetricSign(cost.Priced(ctx, k.price), in)
	if err == nil {
		err = k.whole(in, out)
	}
	if err != nil && k.life.Ended() {
		err = signers.ErrNotFound // the service says it in words of its own
	}
	if err != nil {
		return nil, fmt.Errorf("gcpkms: sign with %q: %w", k.id, meaning(err))
	}
	return out.GetSignature(), nil
}

// request is a digest with its checksum; for Ed25519 the message itself.
func (k *Key) request(message []byte) (*kmspb.AsymmetricSignRequest, error) {
	input, err := k.alg.Digest(message)
	if err != nil {
		return nil, err
	}
	in, sum := &kmspb.AsymmetricSignRequest{Name: k.version}, wrapperspb.Int64(checksum(input))
	p, err := k.alg.Params()
	if err != nil {
		return nil, err
	}
	switch p.Hash {
	case 0:
		if len(input) == 0 || len(input) > mostData {
			return nil, fmt.Errorf("gcpkms: sign with %q: %d bytes, and the service takes 1 to %d for %s: %w\nhint: use an ECDSA key, which is given a digest", k.id, len(input), mostData, k.alg, signers.ErrUnsupported)
		}
		in.Data, in.DataCrc32C = input, sum
	case crypto.SHA256:
		in.Digest, in.DigestCrc32C = &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: input}}, sum
	case crypto.SHA384:
		in.Digest, in.DigestCrc32C = &kmspb.Digest{Digest: &kmspb.Digest_Sha384{Sha384: input}}, sum
	default:
		in.Digest, in.DigestCrc32C = &kmspb.Digest{Digest: &kmspb.Digest_Sha512{Sha512: input}}, sum
	}
	return in, nil
}

// whole holds an answer against what was asked: the service looked at our
// checksum, its own fits, and the version is the one that was meant.
func (k *Key) whole(in *kmspb.AsymmetricSignRequest, out *kmspb.AsymmetricSignResponse) error {
	looked := out.GetVerifiedDigestCrc32C() || in.GetData() != nil && out.GetVerifiedDataCrc32C()
	switch {
	case !looked:
		return fmt.Errorf("%w: our checksum was not looked at: %w", errIntegrity, signers.ErrUnavailable)
	case out.GetName() != k.version:
		return fmt.Errorf("%w: %s signed: %w", errIntegrity, out.GetName(), signers.ErrUnavailable)
	case out.GetProtectionLevel() != k.backend.protection():
		return fmt.Errorf("%w: signed at protection level %s: %w", errIntegrity, out.GetProtectionLevel(), signers.ErrUnavailable)
	case !fits(out.GetSignature(), out.GetSignatureCrc32C()):
		return fmt.Errorf("%w: the signature's checksum does not fit: %w", errIntegrity, signers.ErrUnavailable)
	}
	return nil
}
