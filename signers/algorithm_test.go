package signers_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/signers"
)

// all is written out, so that an algorithm cannot come or go unseen.
var all = []signers.Algorithm{
	"ecdsa-p256-sha256", "ecdsa-p384-sha384", "ecdsa-p521-sha512", "ed25519",
	"rsa2048-pkcs1-sha256", "rsa2048-pkcs1-sha384", "rsa2048-pkcs1-sha512",
	"rsa2048-pss-sha256", "rsa2048-pss-sha384", "rsa2048-pss-sha512",
	"rsa3072-pkcs1-sha256", "rsa3072-pkcs1-sha384", "rsa3072-pkcs1-sha512",
	"rsa3072-pss-sha256", "rsa3072-pss-sha384", "rsa3072-pss-sha512",
	"rsa4096-pkcs1-sha256", "rsa4096-pkcs1-sha384", "rsa4096-pkcs1-sha512",
	"rsa4096-pss-sha256", "rsa4096-pss-sha384", "rsa4096-pss-sha512",
}

func TestAlgorithmsListsAll(t *testing.T) {
	if diff := cmp.Diff(all, signers.Algorithms()); diff != "" {
		t.Errorf("Algorithms() (-want +got):\n%s", diff)
	}
	signers.Algorithms()[0] = "spoilt by a caller"
	if got := signers.Algorithms()[0]; got != all[0] {
		t.Errorf("Algorithms()[0] after a caller changed its copy: got %q, want %q", got, all[0])
	}
}

func TestEveryAlgorithmVerifiesItsOwn(t *testing.T) {
	message := []byte("whoever holds the ring can sign")
	for _, alg := range all {
		t.Run(string(alg), func(t *testing.T) {
			k := keyFor(t, alg)
			sig := sign(t, k, alg, message)
			if err := alg.Verify(k.Public(), message, sig); err != nil {
				t.Errorf("Verify: got %v, want nil", err)
			}
			refusesOthers(t, alg, k.Public(), message, sig)
		})
	}
}

// refusesOthers spoils each part of a good signature in turn.
func refusesOthers(t *testing.T, alg signers.Algorithm, pub crypto.PublicKey, message, sig []byte) {
	flipped := bytes.Clone(sig)
	flipped[len(flipped)-1] ^= 1
	for name, bad := range map[string][]byte{
		"a changed signature": flipped, "none": nil, "an empty one": {}, "a cut one": sig[:len(sig)-1],
		"a longer one": append(bytes.Clone(sig), 0), "zeros": make([]byte, len(sig)),
	} {
		if err := alg.Verify(pub, message, bad); !errors.Is(err, signers.ErrBadSignature) {
			t.Errorf("Verify of %s: got %v, want ErrBadSignature", name, err)
		}
	}
	if err := alg.Verify(pub, append(bytes.Clone(message), '.'), sig); !errors.Is(err, signers.ErrBadSignature) {
		t.Errorf("Verify of another message: got %v, want ErrBadSignature", err)
	}
	for _, other := range all {
		err := other.Verify(pub, message, sig)
		if other != alg && !errors.Is(err, signers.ErrBadSignature) && !errors.Is(err, signers.ErrMismatch) {
			t.Errorf("Verify as %s: got %v, want ErrBadSignature or ErrMismatch", other, err)
		}
	}
}

// TestPSSTakesOneSaltLength as RFC 7518 section 3.5 has it.
func TestPSSTakesOneSaltLength(t *testing.T) {
	k, message := rsaKey(t, 2048), []byte("salted")
	alg := signers.Algorithm("rsa2048-pss-sha256")
	digest, err := alg.Digest(message)
	if err != nil {
		t.Fatal(err)
	}
	for salt, want := range map[int]error{1: signers.ErrBadSignature, 20: signers.ErrBadSignature, 32: nil, 222: signers.ErrBadSignature} {
		sig, err := rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if err := alg.Verify(k.Public(), message, sig); !errors.Is(err, want) {
			t.Errorf("salt of %d bytes: got %v, want %v", salt, err, want)
		}
	}
}

func TestDigest(t *testing.T) {
	tests := []struct {
		alg  signers.Algorithm
		want string // FIPS 180-4, "abc"; Ed25519 hashes inside
	}{
		{"ecdsa-p256-sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"rsa2048-pss-sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"ecdsa-p384-sha384", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
		{"ecdsa-p521-sha512", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{"ed25519", hex.EncodeToString([]byte("abc"))},
	}
	for _, tt := range tests {
		got, err := tt.alg.Digest([]byte("abc"))
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%s: Digest(abc): got %x, %v, want %s", tt.alg, got, err, tt.want)
		}
	}
}

func TestUnknownAlgorithmsAreRefusedEverywhere(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for _, alg := range []signers.Algorithm{"", "none", "ES256", "ED25519", "ecdsa-p256-sha512", "ecdsa-p224-sha256", "rsa1024-pss-sha256", "rsa2048-pss-sha1", "rsa2048", "ed25519 "} {
		_, errParams := alg.Params()
		_, errDigest := alg.Digest(nil)
		_, errLength := alg.RawLength()
		_, errRaw := alg.RawFromDER(nil)
		_, errDER := alg.DERFromRaw(nil)
		for i, err := range []error{errParams, errDigest, errLength, errRaw, errDER, alg.Fits(ed.Public()), alg.Verify(ed.Public(), nil, nil)} {
			if !errors.Is(err, signers.ErrUnsupported) {
				t.Errorf("%q, method %d: got %v, want ErrUnsupported", alg, i, err)
			}
		}
	}
}

func TestFits(t *testing.T) {
	ed := keyFor(t, signers.Ed25519).Public().(ed25519.PublicKey)
	tests := []struct {
		name string
		pub  crypto.PublicKey
		fits string // the beginning of every algorithm that it fits; "" = none
	}{
		{"P-256", ecKey(t, elliptic.P256()).Public(), "ecdsa-p256-"},
		{"P-384", ecKey(t, elliptic.P384()).Public(), "ecdsa-p384-"},
		{"P-521", ecKey(t, elliptic.P521()).Public(), "ecdsa-p521-"},
		{"P-224", ecKey(t, elliptic.P224()).Public(), ""},
		{"Ed25519", ed, "ed25519"},
		{"RSA 2048", rsaKey(t, 2048).Public(), "rsa2048-"},
		{"RSA 3072", rsaKey(t, 3072).Public(), "rsa3072-"},
		{"RSA 4096", rsaKey(t, 4096).Public(), "rsa4096-"},
		{"a cut Ed25519 key", ed[:31], ""},
		{"a pointer to an Ed25519 key", &ed, ""},
		{"an ECDSA key that is not a pointer", ecKey(t, elliptic.P256()).PublicKey, ""},
		{"a private key", ecKey(t, elliptic.P256()), ""},
		{"no key", nil, ""},
		{"no ECDSA key", (*ecdsa.PublicKey)(nil), ""},
		{"an empty ECDSA key", &ecdsa.PublicKey{}, ""},
		{"no RSA key", (*rsa.PublicKey)(nil), ""},
		{"an empty RSA key", &rsa.PublicKey{}, ""},
		{"raw bytes", []byte(ed), ""},
	}
	for _, tt := range tests {
		for _, alg := range all {
			want := signers.ErrMismatch
			if tt.fits != "" && strings.HasPrefix(string(alg), tt.fits) {
				want = nil
			}
			if err := alg.Fits(tt.pub); !errors.Is(err, want) {
				t.Errorf("%s.Fits(%s): got %v, want %v", alg, tt.name, err, want)
			}
			if err := alg.Verify(tt.pub, nil, nil); want != nil && !errors.Is(err, want) {
				t.Errorf("%s.Verify under %s: got %v, want %v", alg, tt.name, err, want)
			}
		}
	}
}

func TestKeyIDCheck(t *testing.T) {
	good := []signers.KeyID{"a", "0", "-", "pay-1", signers.KeyID(strings.Repeat("z", 63))}
	bad := []signers.KeyID{"", "A", "a_b", "a.b", "a/b", "..", "a b", "a\n", "\x00", "é", signers.KeyID(strings.Repeat("z", 64))}
	for _, id := range slices.Concat(good, bad) {
		if err := id.Check(); (err == nil) != slices.Contains(good, id) {
			t.Errorf("KeyID(%q).Check(): got %v", id, err)
		}
	}
}
