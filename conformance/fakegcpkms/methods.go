package fakegcpkms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// destroyAfter is how long a version waits for its end: the service's default.
const destroyAfter = 30 * 24 * time.Hour

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

// generate makes a key for an algorithm.
func generate(alg kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) (crypto.Signer, error) {
	name := alg.String()
	switch {
	case name == "EC_SIGN_P256_SHA256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case name == "EC_SIGN_P384_SHA384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case name == "EC_SIGN_ED25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	case strings.HasPrefix(name, "RSA_SIGN_P"):
		var scheme string
		var bits, hash int
		if _, err := fmt.Sscanf(strings.NewReplacer("_", " ", "SHA", "").Replace(strings.TrimPrefix(name, "RSA_SIGN_")), "%s %d %d", &scheme, &bits, &hash); err != nil {
			return nil, status.Error(codes.InvalidArgument, name)
		}
		return rsa.GenerateKey(rand.Reader, bits)
	}
	return nil, status.Errorf(codes.InvalidArgument, "algorithm %s", name)
}

// CreateCryptoKey makes a key, and its first version unless told otherwise. Its
// name is taken for ever.
func (s *Server) CreateCryptoKey(_ context.Context, in *kmspb.CreateCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := in.GetParent() + "/cryptoKeys/" + in.GetCryptoKeyId()
	switch {
	case in.GetParent() != Ring:
		return nil, status.Errorf(codes.NotFound, "KeyRing %s not found.", in.GetParent())
	case s.keys[name] != nil:
		return nil, status.Errorf(codes.AlreadyExists, "CryptoKey %s already exists.", name)
	case in.GetCryptoKey().GetPurpose() != kmspb.CryptoKey_ASYMMETRIC_SIGN:
		return nil, status.Error(codes.InvalidArgument, "purpose")
	}
	p := proto.CloneOf(in.GetCryptoKey())
	p.Name, p.CreateTime = name, timestamppb.New(s.now())
	k := &key{proto: p}
	if !in.GetSkipInitialVersionCreation() {
		if _, err := s.addVersion(k, nil); err != nil {
			return nil, err
		}
	}
	s.keys[name] = k
	return proto.CloneOf(p), nil
}

// addVersion makes a version. One in an external key manager has its URI there;
// one behind an EKM connection is made through it.
func (s *Server) addVersion(k *key, external *kmspb.ExternalProtectionLevelOptions) (*version, error) {
	t := k.proto.GetVersionTemplate()
	switch t.GetProtectionLevel() { //nolint:exhaustive // the others need nothing
	case kmspb.ProtectionLevel_EXTERNAL:
		if external.GetExternalKeyUri() == "" {
			return nil, status.Error(codes.InvalidArgument, "external_protection_level_options.external_key_uri is required.")
		}
	case kmspb.ProtectionLevel_EXTERNAL_VPC:
		if k.proto.GetCryptoKeyBackend() == "" {
			return nil, status.Error(codes.InvalidArgument, "crypto_key_backend is required.")
		}
	}
	private, err := generate(t.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	v := &version{private: private, ready: s.now().Add(s.pending), proto: &kmspb.CryptoKeyVersion{
		Name:      fmt.Sprintf("%s/cryptoKeyVersions/%d", k.proto.GetName(), len(k.versions)+1),
		State:     kmspb.CryptoKeyVersion_PENDING_GENERATION,
		Algorithm: t.GetAlgorithm(), ProtectionLevel: t.GetProtectionLevel(), CreateTime: timestamppb.New(s.now()),
		ExternalProtectionLevelOptions: external,
	}}
	if t.GetProtectionLevel() == kmspb.ProtectionLevel_HSM {
		v.proto.Attestation = attest(v.proto.GetName())
	}
	k.versions = append(k.versions, v)
	return v, nil
}

// CreateCryptoKeyVersion makes a key's next version.
func (s *Server) CreateCryptoKeyVersion(_ context.Context, in *kmspb.CreateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[in.GetParent()]
	if k == nil {
		return nil, status.Errorf(codes.NotFound, "CryptoKey %s not found.", in.GetParent())
	}
	v, err := s.addVersion(k, in.GetCryptoKeyVersion().GetExternalProtectionLevelOptions())
	if err != nil {
		return nil, err
	}
	return s.seen(v), nil
}

// attest is what an HSM says of a key: nothing that anybody could check here.
func attest(name string) *kmspb.KeyOperationAttestation {
	return &kmspb.KeyOperationAttestation{
		Format: kmspb.KeyOperationAttestation_CAVIUM_V2_COMPRESSED, Content: []byte("attested: " + name),
		CertChains: &kmspb.KeyOperationAttestation_CertificateChains{CaviumCerts: []string{"-----BEGIN CERTIFICATE-----\n"}},
	}
}

// seen is a version as it is now.
func (s *Server) seen(v *version) *kmspb.CryptoKeyVersion { return proto.CloneOf(s.seenInPlace(v)) }

func (s *Server) seenInPlace(v *version) *kmspb.CryptoKeyVersion {
	if v.proto.GetState() == kmspb.CryptoKeyVersion_PENDING_GENERATION && !s.now().Before(v.ready) {
		v.proto.State = kmspb.CryptoKeyVersion_ENABLED
	}
	if v.proto.GetState() == kmspb.CryptoKeyVersion_DESTROY_SCHEDULED && !s.now().Before(v.proto.GetDestroyTime().AsTime()) {
		v.proto.State = kmspb.CryptoKeyVersion_DESTROYED
	}
	return v.proto
}

// ListCryptoKeyVersions lists a key's versions, oldest first.
func (s *Server) ListCryptoKeyVersions(_ context.Context, in *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[in.GetParent()]
	if k == nil {
		return nil, status.Errorf(codes.NotFound, "CryptoKey %s not found.", in.GetParent())
	}
	out := &kmspb.ListCryptoKeyVersionsResponse{}
	for _, v := range k.versions {
		seen := s.seen(v)
		if in.GetView() != kmspb.CryptoKeyVersion_FULL {
			seen.Attestation = nil
		}
		out.CryptoKeyVersions = append(out.CryptoKeyVersions, seen)
	}
	return out, nil
}

// ListCryptoKeys lists the ring's keys, three in a page.
func (s *Server) ListCryptoKeys(_ context.Context, in *kmspb.ListCryptoKeysRequest) (*kmspb.ListCryptoKeysResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.keys))
	at, _ := slices.BinarySearch(names, in.GetPageToken())
	out := &kmspb.ListCryptoKeysResponse{}
	for i, name := range names[at:] {
		if i == 3 {
			out.NextPageToken = name
			break
		}
		out.CryptoKeys = append(out.CryptoKeys, proto.CloneOf(s.keys[name].proto))
	}
	return out, nil
}

// find is a version by its name.
func (s *Server) find(name string) (*version, error) {
	parent, _, _ := strings.Cut(name, "/cryptoKeyVersions/")
	if k := s.keys[parent]; k != nil {
		for _, v := range k.versions {
			if v.proto.GetName() == name {
				return v, nil
			}
		}
	}
	return nil, status.Errorf(codes.NotFound, "CryptoKeyVersion %s not found.", name)
}

// usable is a version that can be used now.
func (s *Server) usable(name string) (*version, error) {
	v, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if state := s.seen(v).GetState(); state != kmspb.CryptoKeyVersion_ENABLED && !s.now().Before(v.until) {
		return nil, status.Errorf(codes.FailedPrecondition, "%s is not enabled, current state is: %s.", name, state)
	}
	return v, nil
}

// GetPublicKey is a version's public half in PEM, with its checksum.
func (s *Server) GetPublicKey(_ context.Context, in *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.usable(in.GetName())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(v.private.Public())
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return &kmspb.PublicKey{
		Name: in.GetName(), Pem: string(text), PemCrc32C: checksum(text), Algorithm: v.proto.GetAlgorithm(), ProtectionLevel: v.proto.GetProtectionLevel(),
	}, nil
}

// AsymmetricSign signs a digest, or for Ed25519 data.
func (s *Server) AsymmetricSign(_ context.Context, in *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	s.mu.Lock()
	v, err := s.usable(in.GetName())
	latency := s.latency
	s.mu.Unlock()
	time.Sleep(latency)
	if err != nil {
		return nil, err
	}
	out := &kmspb.AsymmetricSignResponse{Name: in.GetName(), ProtectionLevel: v.proto.GetProtectionLevel()}
	name := v.proto.GetAlgorithm().String()
	input, hash := in.GetData(), crypto.Hash(0)
	sum := in.GetDataCrc32C()
	if len(input) > 64<<10 {
		return nil, status.Error(codes.InvalidArgument, "The data is longer than 65536 bytes.")
	}
	if name != "EC_SIGN_ED25519" {
		switch {
		case strings.HasSuffix(name, "SHA256"):
			input, hash = in.GetDigest().GetSha256(), crypto.SHA256
		case strings.HasSuffix(name, "SHA384"):
			input, hash = in.GetDigest().GetSha384(), crypto.SHA384
		default:
			input, hash = in.GetDigest().GetSha512(), crypto.SHA512
		}
		if len(input) != hash.Size() {
			return nil, status.Error(codes.InvalidArgument, "The digest is not of the algorithm's length.")
		}
		sum = in.GetDigestCrc32C()
	}
	if sum != nil && sum.GetValue() != checksum(input).GetValue() {
		return nil, status.Error(codes.InvalidArgument, "The checksum in field digest_crc32c did not match the data in field digest.")
	}
	var opts crypto.SignerOpts = hash
	if strings.HasPrefix(name, "RSA_SIGN_PSS") {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	if out.Signature, err = v.private.Sign(rand.Reader, input, opts); err != nil {
		return nil, err
	}
	out.SignatureCrc32C = checksum(out.GetSignature())
	out.VerifiedDigestCrc32C, out.VerifiedDataCrc32C = hash != 0 && sum != nil, hash == 0 && sum != nil
	return out, nil
}

// DestroyCryptoKeyVersion schedules a version's destruction.
func (s *Server) DestroyCryptoKeyVersion(_ context.Context, in *kmspb.DestroyCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.find(in.GetName())
	if err != nil {
		return nil, err
	}
	switch s.seen(v).GetState() {
	case kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED:
	default:
		return nil, status.Errorf(codes.FailedPrecondition, "%s can't be destroyed, current state is: %s.", in.GetName(), v.proto.GetState())
	}
	s.leave(v)
	v.proto.State, v.proto.DestroyTime = kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, timestamppb.New(s.now().Add(destroyAfter))
	return s.seen(v), nil
}

// leave has a version that could sign go on for as long as the lag is.
func (s *Server) leave(v *version) {
	if v.proto.GetState() == kmspb.CryptoKeyVersion_ENABLED {
		v.until = s.now().Add(s.lag)
	}
}

// RestoreCryptoKeyVersion saves a version from its destruction; it is disabled.
func (s *Server) RestoreCryptoKeyVersion(_ context.Context, in *kmspb.RestoreCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.find(in.GetName())
	if err != nil {
		return nil, err
	}
	if state := s.seen(v).GetState(); state != kmspb.CryptoKeyVersion_DESTROY_SCHEDULED {
		return nil, status.Errorf(codes.FailedPrecondition, "%s can't be restored, current state is: %s.", in.GetName(), state)
	}
	v.proto.State, v.proto.DestroyTime = kmspb.CryptoKeyVersion_DISABLED, nil
	return s.seen(v), nil
}

// UpdateCryptoKeyVersion enables or disables a version.
func (s *Server) UpdateCryptoKeyVersion(_ context.Context, in *kmspb.UpdateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.find(in.GetCryptoKeyVersion().GetName())
	if err != nil {
		return nil, err
	}
	from, to := s.seen(v).GetState(), in.GetCryptoKeyVersion().GetState()
	switch {
	case !slices.Contains(in.GetUpdateMask().GetPaths(), "state"):
		return nil, status.Error(codes.InvalidArgument, "only the state can be changed here")
	case from != kmspb.CryptoKeyVersion_ENABLED && from != kmspb.CryptoKeyVersion_DISABLED,
		to != kmspb.CryptoKeyVersion_ENABLED && to != kmspb.CryptoKeyVersion_DISABLED:
		return nil, status.Errorf(codes.FailedPrecondition, "%s can't go from %s to %s.", v.proto.GetName(), from, to)
	}
	s.leave(v)
	v.proto.State = to
	return s.seen(v), nil
}
