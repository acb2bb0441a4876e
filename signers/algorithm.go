package signers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // Digest: registers SHA-256
	_ "crypto/sha512" // Digest: registers SHA-384 and SHA-512
	"errors"
	"fmt"
	"slices"
)

// An Algorithm joins key kind, hash and scheme, so that a key can only ever
// be used one way: "ecdsa-p256-sha256", "ed25519", "rsa2048-pss-sha256".
type Algorithm string

// The algorithms without a size in their name. RSA has eighteen more:
// rsa{2048,3072,4096}-{pkcs1,pss}-sha{256,384,512}; [Algorithms] lists all.
const (
	ECDSAP256 Algorithm = "ecdsa-p256-sha256"
	ECDSAP384 Algorithm = "ecdsa-p384-sha384"
	ECDSAP521 Algorithm = "ecdsa-p521-sha512"
	Ed25519   Algorithm = "ed25519"
)

// A Kind is a family of keys.
type Kind string

// The kinds of key that signet knows.
const (
	KindECDSA   Kind = "ecdsa"
	KindEd25519 Kind = "ed25519"
	KindRSA     Kind = "rsa"
)

// ErrBadSignature is returned by [Algorithm.Verify] for a signature that does
// not belong to the message and the key.
var ErrBadSignature = errors.New("signature does not verify")

// Params are the parts of an Algorithm.
type Params struct {
	Kind  Kind
	Hash  crypto.Hash    // 0 for Ed25519, which hashes inside
	Curve elliptic.Curve // ECDSA only
	Bits  int            // RSA only: size of the modulus
	PSS   bool           // RSA only: PSS with a salt as long as the hash; otherwise PKCS #1 v1.5
}

var (
	table = makeTable()
	names = makeNames()
)

// makeTable lists every algorithm once; whatever is not in it is unknown.
func makeTable() map[Algorithm]Params {
	t := map[Algorithm]Params{
		ECDSAP256: {Kind: KindECDSA, Hash: crypto.SHA256, Curve: elliptic.P256()},
		ECDSAP384: {Kind: KindECDSA, Hash: crypto.SHA384, Curve: elliptic.P384()},
		ECDSAP521: {Kind: KindECDSA, Hash: crypto.SHA512, Curve: elliptic.P521()},
		Ed25519:   {Kind: KindEd25519},
	}
	hashes := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
	for _, bits := range []int{2048, 3072, 4096} {
		for name, h := range hashes {
			t[Algorithm(fmt.Sprintf("rsa%d-pkcs1-%s", bits, name))] = Params{Kind: KindRSA, Hash: h, Bits: bits}
			t[Algorithm(fmt.Sprintf("rsa%d-pss-%s", bits, name))] = Params{Kind: KindRSA, Hash: h, Bits: bits, PSS: true}
		}
	}
	return t
}

func makeNames() []Algorithm {
	var all []Algorithm
	for a := range table {
		all = append(all, a)
	}
	slices.Sort(all)
	return all
}

// Algorithms returns every algorithm, sorted by name.
func Algorithms() []Algorithm { return slices.Clone(names) }

// PostQuantum returns the algorithms (FIPS 204, FIPS 205) that some back-ends
// have and no token format of signet: they are refused by name.
func PostQuantum() []Algorithm {
	return []Algorithm{"ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "slh-dsa-sha2-128s"}
}

// Params takes a apart. For an unknown name it returns ErrUnsupported.
func (a Algorithm) Params() (Params, error) {
	p, ok := table[a]
	if !ok && slices.Contains(PostQuantum(), a) {
		return Params{}, fmt.Errorf("signers: algorithm %q: no token format of signet has post-quantum signatures: %w", string(a), ErrUnsupported)
	}
	if !ok {
		return Params{}, fmt.Errorf("signers: algorithm %q: %w", string(a), ErrUnsupported)
	}
	return p, nil
}

// Digest returns what a back-end that takes digests must sign for message:
// the hash, or message itself for Ed25519. Its length is checked by nobody
// behind us (PKCS#11 modules sign a digest of any length), so use only this.
func (a Algorithm) Digest(message []byte) ([]byte, error) {
	p, err := a.Params()
	if err != nil {
		return nil, err
	}
	if p.Hash == 0 {
		return message, nil
	}
	h := p.Hash.New()
	h.Write(message)
	return h.Sum(nil), nil
}

// Fits returns ErrMismatch unless pub is a key of the kind, curve and size
// that a names.
func (a Algorithm) Fits(pub crypto.PublicKey) error {
	p, err := a.Params()
	if err != nil {
		return err
	}
	ok := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		ok = p.Kind == KindECDSA && k != nil && k.Curve == p.Curve
	case *rsa.PublicKey:
		ok = p.Kind == KindRSA && k != nil && k.N != nil && k.N.BitLen() == p.Bits
	case ed25519.PublicKey:
		ok = p.Kind == KindEd25519 && len(k) == ed25519.PublicKeySize
	}
	if !ok {
		return fmt.Errorf("signers: a %T does not fit %q: %w", pub, string(a), ErrMismatch)
	}
	return nil
}

// Verify checks sig over message under pub: DER for ECDSA, raw for the rest.
// It returns ErrBadSignature, or ErrMismatch for a key of another kind.
func (a Algorithm) Verify(pub crypto.PublicKey, message, sig []byte) error {
	if err := a.Fits(pub); err != nil {
		return err
	}
	digest, err := a.Digest(message)
	if err != nil {
		return err
	}
	p := table[a]
	ok := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest, sig)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, message, sig)
	case *rsa.PublicKey:
		ok = verifyRSA(k, p, digest, sig) == nil
	}
	if !ok {
		return fmt.Errorf("signers: %s: %w", a, ErrBadSignature)
	}
	return nil
}

func verifyRSA(k *rsa.PublicKey, p Params, digest, sig []byte) error {
	if !p.PSS {
		return rsa.VerifyPKCS1v15(k, p.Hash, digest, sig)
	}
	// RFC 7518 section 3.5: the salt is as long as the hash, nothing else.
	return rsa.VerifyPSS(k, p.Hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: p.Hash})
}
