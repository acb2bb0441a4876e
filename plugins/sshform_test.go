package plugins_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// TestSSHReadsTheSignaturesItIsWritten holds the SSH form against a library
// that did not write it: 64 signatures each, so that short and long numbers of
// ECDSA are among them.
func TestSSHReadsTheSignaturesItIsWritten(t *testing.T) {
	for _, alg := range signers.Algorithms() {
		p, err := alg.Params()
		if err != nil {
			t.Fatal(err)
		}
		if p.Bits > 2048 {
			continue // the size changes nothing for the form
		}
		if _, err := plugins.SSHAlgorithm(alg); errors.Is(err, plugins.ErrRefused) {
			if _, err := plugins.SSH.Write(alg, make([]byte, 256)); !errors.Is(err, plugins.ErrRefused) {
				t.Errorf("%s: got %v, want ErrRefused: SSH has no name for it", alg, err)
			}
			if err := (plugins.Frame{Form: plugins.SSH, Encoding: plugins.Base64}).Check(alg); !errors.Is(err, plugins.ErrRefused) {
				t.Errorf("%s: Check: got %v, want ErrRefused before a key is used", alg, err)
			}
			continue
		}
		pub, sign := keyPair(t, p, alg)
		for range 64 {
			written, err := plugins.SSH.Write(alg, sign([]byte("pay")))
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			var outer struct{ Inner []byte }
			var sig ssh.Signature
			if err := errors.Join(ssh.Unmarshal(written, &outer), ssh.Unmarshal(outer.Inner, &sig), pub.Verify([]byte("pay"), &sig)); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
			if err := pub.Verify([]byte("pax"), &sig); err == nil {
				t.Errorf("%s: verifies for another message", alg)
			}
		}
	}
}

func keyPair(t *testing.T, p signers.Params, alg signers.Algorithm) (ssh.PublicKey, func([]byte) []byte) {
	t.Helper()
	digest := func(m []byte) []byte {
		d, err := alg.Digest(m)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var pub any
	var sign func([]byte) ([]byte, error)
	switch p.Kind {
	case signers.KindEd25519:
		public, private, _ := ed25519.GenerateKey(rand.Reader)
		pub, sign = public, func(m []byte) ([]byte, error) { return private.Sign(rand.Reader, m, crypto.Hash(0)) }
	case signers.KindECDSA:
		private := ecdsaKey(t, p.Curve)
		pub, sign = private.Public(), func(m []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, private, digest(m)) }
	case signers.KindRSA:
		private, err := rsa.GenerateKey(rand.Reader, p.Bits)
		if err != nil {
			t.Fatal(err)
		}
		pub, sign = private.Public(), func(m []byte) ([]byte, error) { return rsa.SignPKCS1v15(rand.Reader, private, p.Hash, digest(m)) }
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key, func(m []byte) []byte {
		sig, err := sign(m)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

func ecdsaKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
