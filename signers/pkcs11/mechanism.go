package pkcs11

import (
	"crypto"
	"encoding/asn1"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// Edwards curves came with PKCS #11 v3.0; the library lacks their names.
const (
	ckmEdwardsKeyPairGen = 0x1055 // CKM_EC_EDWARDS_KEY_PAIR_GEN
	ckmEdDSA             = 0x1057 // CKM_EDDSA
	ckkEdwards           = 0x40   // CKK_EC_EDWARDS
)

// A mechanism is how a token makes signatures of one algorithm: a hash that we
// made, signed. CKM_*_SHA* are not portable, and an HSM's hash is no safer.
type mechanism struct {
	id       uint // to sign
	generate uint // to make a key
	keyType  uint
	params   []byte // CKA_EC_PARAMS
	bits     int    // RSA

	hash, mgf, salt uint   // CK_RSA_PKCS_PSS_PARAMS
	prefix          []byte // of a DigestInfo (RFC 8017 section 9.2)
	inputLength     int    // bytes that C_Sign gets; 0 is any number
}

var curves = map[signers.Algorithm]asn1.ObjectIdentifier{
	signers.ECDSAP256: {1, 2, 840, 10045, 3, 1, 7},
	signers.ECDSAP384: {1, 3, 132, 0, 34},
	signers.ECDSAP521: {1, 3, 132, 0, 35},
	// RFC 8410. "curve25519" would make an X25519 key, and only C_Sign fails.
	signers.Ed25519: {1, 3, 101, 112},
}

// A hashing is what PKCS #11 and RFC 8017 call a hash.
type hashing struct {
	id, mgf uint
	prefix  []byte
}

var hashings = map[crypto.Hash]hashing{
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, digestInfo(1, 32)},
	crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, digestInfo(2, 48)},
	crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, digestInfo(3, 64)},
}

// digestInfo is the DER head of a DigestInfo for SHA-2 number n.
func digestInfo(n, length byte) []byte {
	return []byte{0x30, 0x11 + length, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, n, 0x05, 0x00, 0x04, length}
}

// mechanismOf translates an algorithm.
func mechanismOf(a signers.Algorithm, q Quirks) (mechanism, error) {
	p, err := a.Params()
	if err != nil {
		return mechanism{}, err
	}
	if p.Kind == signers.KindRSA {
		return rsaMechanism(p), nil
	}
	params, err := asn1.Marshal(curves[a])
	if err != nil {
		return mechanism{}, fmt.Errorf("pkcs11: %s: %w", a, err)
	}
	if p.Kind == signers.KindEd25519 {
		return q.edwards(mechanism{id: ckmEdDSA, generate: ckmEdwardsKeyPairGen, keyType: ckkEdwards, params: params})
	}
	return mechanism{
		id: pkcs11.CKM_ECDSA, generate: pkcs11.CKM_EC_KEY_PAIR_GEN, keyType: pkcs11.CKK_EC,
		params: params, inputLength: p.Hash.Size(),
	}, nil
}

func rsaMechanism(p signers.Params) mechanism {
	h := hashings[p.Hash]
	m := mechanism{id: pkcs11.CKM_RSA_PKCS, generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, keyType: pkcs11.CKK_RSA, bits: p.Bits}
	if p.PSS {
		m.id, m.inputLength = pkcs11.CKM_RSA_PKCS_PSS, p.Hash.Size()
		m.hash, m.mgf, m.salt = h.id, h.mgf, uint(p.Hash.Size())
		return m
	}
	m.prefix, m.inputLength = h.prefix, len(h.prefix)+p.Hash.Size()
	return m
}

// input is what C_Sign gets for a message. No module checks a digest's length
// (4,000 bytes into P-256 are signed, cut), so it is checked here.
func (m mechanism) input(a signers.Algorithm, message []byte) ([]byte, error) {
	digest, err := a.Digest(message)
	if err != nil {
		return nil, err
	}
	if len(m.prefix) > 0 {
		digest = append(append(make([]byte, 0, m.inputLength), m.prefix...), digest...)
	}
	if m.inputLength != 0 && len(digest) != m.inputLength {
		return nil, fmt.Errorf("pkcs11: %s: %d bytes to sign, not %d: %w", a, len(digest), m.inputLength, signers.ErrMismatch)
	}
	return digest, nil
}

// output turns C_Sign's answer into the form that Algorithm.Verify accepts.
func (m mechanism) output(a signers.Algorithm, sig []byte) ([]byte, error) {
	if m.id == pkcs11.CKM_ECDSA {
		return a.DERFromRaw(sig)
	}
	return sig, nil
}
