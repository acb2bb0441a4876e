package signers_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"testing"

	"github.com/signetd/signet/signers"
)

// rsaKey reads a key made for these tests and used for nothing else: to make
// one takes seconds.
func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("testdata/rsa%d.pem", bits))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keyFor returns a key that fits alg.
func keyFor(t testing.TB, alg signers.Algorithm) crypto.Signer {
	t.Helper()
	p, err := alg.Params()
	if err != nil {
		t.Fatal(err)
	}
	switch p.Kind {
	case signers.KindECDSA:
		return ecKey(t, p.Curve)
	case signers.KindRSA:
		return rsaKey(t, p.Bits)
	default:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}

// sign signs with the standard library alone, by the parts of alg.
func sign(t testing.TB, k crypto.Signer, alg signers.Algorithm, message []byte) []byte {
	t.Helper()
	p, err := alg.Params()
	if err != nil {
		t.Fatal(err)
	}
	opts := crypto.SignerOpts(p.Hash)
	if p.PSS {
		opts = &rsa.PSSOptions{SaltLength: p.Hash.Size(), Hash: p.Hash}
	}
	sig, err := crypto.SignMessage(k, rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}
