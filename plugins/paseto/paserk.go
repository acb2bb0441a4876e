package paseto

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/blake2b"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// ErrNotKey says that a text is no PASERK of a public key, or that a key has
// none.
var ErrNotKey = errors.New("not a PASERK public key")

// The sizes of keys and ids, in bytes.
const (
	pointSize = 49 // a P-384 point, compressed (SEC 1 section 2.3.3)
	pidSize   = 33 // 264 bits: base64url without padding or spare bits
)

// PublicPASERK writes a public key as PASERK's type public: k4.public.… for
// Ed25519, k3.public.… for ECDSA P-384, ErrNotKey for any other.
func PublicPASERK(pub crypto.PublicKey) (string, error) {
	kind, raw, err := material(pub)
	if err != nil {
		return "", err
	}
	return kind + ".public." + b64.EncodeToString(raw), nil
}

// Kid names a public key by PASERK's type pid: k4.pid.… or k3.pid.…, a hash of
// its PublicPASERK.
func Kid(pub crypto.PublicKey) (string, error) {
	kind, raw, err := material(pub)
	if err != nil {
		return "", err
	}
	return pid(kind, raw)
}

// pid hashes a key of one kind, as PASERK's operation ID says: BLAKE2b-264 for
// k4, SHA-384 cut to 264 bits for k3. What comes before the hash keeps ids of
// other types and versions apart.
func pid(kind string, raw []byte) (string, error) {
	head := kind + ".pid."
	text := head + kind + ".public." + b64.EncodeToString(raw)
	if kind == "k3" {
		sum := sha512.Sum384([]byte(text))
		return head + b64.EncodeToString(sum[:pidSize]), nil
	}
	h, err := blake2b.New(pidSize, nil)
	if err != nil {
		return "", fmt.Errorf("paseto: BLAKE2b: %w", err)
	}
	h.Write([]byte(text))
	return head + b64.EncodeToString(h.Sum(nil)), nil
}

// material is the kind of a key and its bytes, as PASERK has them.
func material(pub crypto.PublicKey) (kind string, raw []byte, err error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return "k4", k, nil
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			raw, err = compressed(k)
			return "k3", raw, err
		}
	}
	return "", nil, fmt.Errorf("paseto: %T: %w\nhint: PASETO signs with Ed25519 or ECDSA P-384", pub, ErrNotKey)
}

// compressed is a P-384 point in 49 bytes: whether y is odd, and x.
func compressed(k *ecdsa.PublicKey) ([]byte, error) {
	point, err := k.Bytes()
	if err != nil {
		return nil, fmt.Errorf("paseto: %w: %w", ErrNotKey, err)
	}
	c := make([]byte, 0, pointSize)
	c = append(c, 2|point[len(point)-1]&1)
	return append(c, point[1:pointSize]...), nil
}

// ParsePASERK reads what PublicPASERK writes, and nothing else: one text for
// each key. The key's ID is its Kid.
func ParsePASERK(text string) (plugins.VerifyingKey, error) {
	kind, encoded, ok := strings.Cut(text, ".public.")
	raw, err := decode([]byte(encoded))
	if !ok || err != nil {
		return plugins.VerifyingKey{}, notKey("it is not k4.public.… or k3.public.…, in base64url")
	}
	k := plugins.VerifyingKey{}
	switch {
	case kind == "k4" && len(raw) == ed25519.PublicKeySize:
		k.Algorithm, k.Public = signers.Ed25519, ed25519.PublicKey(raw)
	case kind == "k3" && len(raw) == pointSize:
		k.Algorithm = signers.ECDSAP384
		if k.Public, err = point(raw); err != nil {
			return plugins.VerifyingKey{}, err
		}
	default:
		return plugins.VerifyingKey{}, notKey("its length is not that of its version's keys")
	}
	k.ID, err = pid(kind, raw)
	return k, err
}

// point reads a compressed point, which must be on the curve.
func point(raw []byte) (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P384(), raw)
	if x == nil {
		return nil, notKey("it is not a point of P-384")
	}
	whole := make([]byte, 1+2*(pointSize-1))
	whole[0] = 4 // uncompressed
	x.FillBytes(whole[1:pointSize])
	y.FillBytes(whole[pointSize:])
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), whole)
	if err != nil {
		return nil, fmt.Errorf("paseto: %w: %w", ErrNotKey, err)
	}
	return k, nil
}

func notKey(why string) error { return fmt.Errorf("paseto: %w: %s", ErrNotKey, why) }
