// Package issuertest is the contract of plugins.Issuer and its Inspector as
// checks.
package issuertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// A Subject is one token format: who writes it and who reads it back.
type Subject struct {
	Issuer    plugins.Issuer
	Inspector plugins.Inspector
	// Grant is one that the format can carry, with every field it knows.
	Grant plugins.Grant
	// Refused are grants that the format can't carry, by what is wrong.
	Refused map[string]plugins.Grant
	// Kid is what the format calls a public key, for one that has a name of
	// its own for keys; nil for one that takes whatever it is called.
	Kid func(crypto.PublicKey) (string, error)
	// TokenID makes a token id that the format can carry, another for each n;
	// nil for a format that carries any.
	TokenID func(n int) string
}

// Checks are the promises of a format.
func Checks() []conformance.Check[Subject] {
	return []conformance.Check[Subject]{
		{Name: "describes", Why: "the host starts no issuer that does not say what it is", Run: describes},
		{Name: "pure", Why: "an issuer that reads a clock or a random number says more than it was granted", Run: pure},
		{Name: "inspectable", Why: "the daemon signs only what reads back as the grant, whole", Run: inspectable},
		{Name: "names-its-key", Why: "bytes that name another version must not be signed by this one", Run: namesItsKey},
		{Name: "frame-is-computable", Why: "the daemon trusts no frame that it did not compute", Run: frameIsComputable},
		{Name: "joins-for-each-algorithm", Why: "a finished token is taken apart again before it leaves", Run: joins},
		{Name: "refuses-what-it-can-not-carry", Why: "a claim that is left out in silence is a right that is not checked", Run: refuses},
		{Name: "flipped-bits-show", Why: "policy judges what the bytes say: other bytes must say otherwise, or nothing", Run: flippedBitsShow},
		{Name: "concurrent", Why: "many requests are prepared at the same time", Run: concurrent},
	}
}

// verifyingKey makes a key for an algorithm, called as the format calls it.
func verifyingKey(t conformance.T, s Subject, alg signers.Algorithm) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	k, sign := newKey(t, alg)
	if s.Kid != nil {
		var err error
		if k.ID, err = s.Kid(k.Public); err != nil {
			t.Fatalf("%s: the name of a key: %v", alg, err)
		}
	}
	return k, sign
}

// newKey makes a key for an algorithm. RSA keys are made small on no account:
// Fits would refuse them.
func newKey(t conformance.T, alg signers.Algorithm) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	p, err := alg.Params()
	if err != nil {
		t.Fatalf("%s: %v", alg, err)
	}
	k := plugins.VerifyingKey{ID: "kid-" + string(alg), Algorithm: alg}
	switch p.Kind {
	case signers.KindEd25519:
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatalf("%v", err)
		}
		k.Public = pub
		return k, func(m []byte) []byte { return ed25519.Sign(priv, m) }
	case signers.KindECDSA:
		return ecdsaKey(t, k, p.Curve)
	case signers.KindRSA:
		return rsaKey(t, k, p)
	}
	t.Fatalf("%s: a kind of key that this suite does not know", alg)
	return k, nil
}

func ecdsaKey(t conformance.T, k plugins.VerifyingKey, curve elliptic.Curve) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatalf("%v", err)
	}
	k.Public = &priv.PublicKey
	return k, func(m []byte) []byte {
		digest, err := k.Algorithm.Digest(m)
		if err != nil {
			t.Fatalf("%v", err)
		}
		sig, err := ecdsa.SignASN1(rand.Reader, priv, digest)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return sig
	}
}

func rsaKey(t conformance.T, k plugins.VerifyingKey, p signers.Params) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	priv, err := rsa.GenerateKey(rand.Reader, p.Bits)
	if err != nil {
		t.Fatalf("%v", err)
	}
	k.Public = &priv.PublicKey
	return k, func(m []byte) []byte {
		digest, err := k.Algorithm.Digest(m)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var sig []byte
		if p.PSS {
			sig, err = rsa.SignPSS(rand.Reader, priv, p.Hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, priv, p.Hash, digest)
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		return sig
	}
}

// algorithms are those of the format, RSA of one size only: the size changes
// nothing for a format, and large keys take long to make.
func algorithms(t conformance.T, s Subject) []signers.Algorithm {
	t.Helper()
	d, err := s.Issuer.Describe(t.Context())
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	var some []signers.Algorithm
	for _, a := range d.Algorithms {
		if p, err := a.Params(); err == nil && (p.Bits == 0 || p.Bits == 2048) {
			some = append(some, a)
		}
	}
	return some
}

func prepare(t conformance.T, s Subject, k plugins.VerifyingKey) plugins.Draft {
	t.Helper()
	d, err := s.Issuer.Prepare(t.Context(), s.Grant, k)
	if err != nil {
		t.Fatalf("Prepare with %s: %v", k.Algorithm, err)
	}
	return d
}

func describes(t conformance.T, s Subject) {
	d, err := s.Issuer.Describe(t.Context())
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	if d.Format == "" || len(d.Algorithms) == 0 {
		t.Errorf("Describe: got %+v, want a format and algorithms", d)
	}
	for _, a := range d.Algorithms {
		if _, err := a.Params(); err != nil {
			t.Errorf("Describe: %v", err)
		}
	}
}

func pure(t conformance.T, s Subject) {
	k, _ := verifyingKey(t, s, algorithms(t, s)[0])
	a, b := prepare(t, s, k), prepare(t, s, k)
	if !bytes.Equal(a.ToBeSigned, b.ToBeSigned) || !a.Frame.Equal(b.Frame) {
		t.Errorf("Prepare twice: got different drafts")
	}
}

func inspectable(t conformance.T, s Subject) {
	for _, alg := range algorithms(t, s) {
		k, _ := verifyingKey(t, s, alg)
		says, err := s.Inspector.Inspect(prepare(t, s, k).ToBeSigned, k)
		if err != nil {
			t.Errorf("%s: Inspect: %v", alg, err)
		} else if field := says.Diff(s.Grant); field != "" {
			t.Errorf("%s: the draft says another %s than was granted", alg, field)
		}
	}
}

func namesItsKey(t conformance.T, s Subject) {
	k, _ := verifyingKey(t, s, algorithms(t, s)[0])
	tbs := prepare(t, s, k).ToBeSigned
	if kid, err := s.Inspector.KeyID(tbs); err != nil || kid != k.ID {
		t.Errorf("KeyID: got %q, %v; want %q", kid, err, k.ID)
	}
	other := k
	other.ID = "another"
	if _, err := s.Inspector.Inspect(tbs, other); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("Inspect for another kid: got %v, want ErrRefused", err)
	}
	for _, alg := range algorithms(t, s) {
		if alg == k.Algorithm {
			continue
		}
		other, _ := verifyingKey(t, s, alg)
		other.ID = k.ID
		if _, err := s.Inspector.Inspect(tbs, other); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Inspect %s bytes for a %s key: got %v, want ErrRefused", k.Algorithm, alg, err)
		}
	}
}

func frameIsComputable(t conformance.T, s Subject) {
	k, _ := verifyingKey(t, s, algorithms(t, s)[0])
	d := prepare(t, s, k)
	f, err := s.Inspector.Frame(d.ToBeSigned)
	if err != nil || !f.Equal(d.Frame) {
		t.Errorf("Frame: got %+v, %v; want the issuer's", f, err)
	}
}

func joins(t conformance.T, s Subject) {
	for _, alg := range algorithms(t, s) {
		k, sign := verifyingKey(t, s, alg)
		d := prepare(t, s, k)
		sig := sign(d.ToBeSigned)
		token, err := d.Frame.Join(alg, sig)
		if err != nil {
			t.Errorf("%s: Join: %v", alg, err)
			continue
		}
		tbs, back, err := s.Inspector.Parse(token, k, s.Grant.Assertion)
		if err != nil || !bytes.Equal(tbs, d.ToBeSigned) {
			t.Errorf("%s: Parse: got other bytes than were signed, %v", alg, err)
		} else if err := alg.Verify(k.Public, tbs, back); err != nil {
			t.Errorf("%s: the signature of the finished token: %v", alg, err)
		}
	}
}

func refuses(t conformance.T, s Subject) {
	k, _ := verifyingKey(t, s, algorithms(t, s)[0])
	for what, g := range s.Refused {
		if _, err := s.Issuer.Prepare(t.Context(), g, k); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Prepare of a grant with %s: got %v, want ErrRefused", what, err)
		}
	}
	k.Algorithm = "rot13"
	if _, err := s.Issuer.Prepare(t.Context(), s.Grant, k); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("Prepare for an unknown algorithm: got %v, want ErrRefused", err)
	}
}

func flippedBitsShow(t conformance.T, s Subject) {
	k, _ := verifyingKey(t, s, algorithms(t, s)[0])
	tbs := prepare(t, s, k).ToBeSigned
	for i := range tbs {
		changed := bytes.Clone(tbs)
		changed[i] ^= 1 << (i % 8)
		says, err := s.Inspector.Inspect(changed, k)
		if err == nil && says.Equal(s.Grant) {
			t.Errorf("a flipped bit in byte %d of %d is not seen", i, len(tbs))
		}
	}
}

func (s Subject) tokenID(n int) string {
	if s.TokenID != nil {
		return s.TokenID(n)
	}
	return fmt.Sprint(s.Grant.TokenID, n)
}

func concurrent(t conformance.T, s Subject) {
	k, _ := verifyingKey(t, s, algorithms(t, s)[0])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() {
			g := s.Grant
			g.TokenID = s.tokenID(i)
			d, err := s.Issuer.Prepare(ctx, g, k)
			if err == nil {
				var says plugins.Grant
				says, err = s.Inspector.Inspect(d.ToBeSigned, k)
				if err == nil && says.TokenID != g.TokenID {
					err = errors.New("got another request's draft")
				}
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("%v", err)
	}
}
