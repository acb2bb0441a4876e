package gcpkms_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/gcpkms"
)

const id = signers.KeyID("pay-v1-0011223344556677")

// project starts a fake whose versions take a while to be generated.
func project(t *testing.T) (*fakegcpkms.Server, gcpkms.Config) {
	t.Helper()
	s, err := fakegcpkms.New(time.Now, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, gcpkms.Config{KeyRing: fakegcpkms.Ring, Endpoint: s.Address, Now: time.Now}
}

func open(t *testing.T, cfg gcpkms.Config) *gcpkms.Backend {
	t.Helper()
	b, err := gcpkms.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// drill is a fake, a back-end, and a key.
func drill(t *testing.T) (*fakegcpkms.Server, *gcpkms.Backend, signers.Key) {
	t.Helper()
	s, cfg := project(t)
	b := open(t, cfg)
	key, err := b.Create(t.Context(), id, signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return s, b, key
}

// enabled counts the versions that can sign, all of keys with our label.
func enabled(s *fakegcpkms.Server) int {
	with, without := s.Labelled("signet")
	return len(with) + 100*len(without)
}

func good(key signers.Key, sig []byte) bool {
	return signers.ECDSAP256.Verify(key.Public(), []byte("pay"), sig) == nil
}

func TestThePromisesOfABackend(t *testing.T) {
	algs := []signers.Algorithm{signers.ECDSAP256, signers.ECDSAP384, signers.Ed25519, "rsa2048-pkcs1-sha256", "rsa2048-pss-sha256"}
	conformance.Run(t, signertest.Checks(algs...), func(t *testing.T) signertest.Subject {
		s, cfg := project(t)
		var faults []signertest.Fault
		for name, f := range fakegcpkms.Faults() {
			faults = append(faults, signertest.Fault{Name: name, Begin: func() func() { s.Set(f); return s.Clear }})
		}
		return signertest.Subject{
			Backend: open(t, cfg), RawMost: 64 << 10, Faults: faults,
			Reopen: func() (signers.Backend, error) { return gcpkms.Open(context.Background(), cfg) },
		}
	})
}

func TestASignatureIsOneRequest(t *testing.T) {
	s, _, key := drill(t)
	for range 20 {
		if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Fatal(err)
		}
	}
	if n := s.Count("AsymmetricSign"); n != 20 || s.Count("GetPublicKey") != 1 {
		t.Errorf("20 signatures took %d requests, and the public key %d", n, s.Count("GetPublicKey"))
	}
}

// TestAnAnswerThatIsNotWholeIsRefused: what its checksums show here, what they
// don't by whoever verifies.
func TestAnAnswerThatIsNotWholeIsRefused(t *testing.T) {
	s, _, key := drill(t)
	for _, a := range []fakegcpkms.Action{fakegcpkms.Corrupt, fakegcpkms.OtherName, fakegcpkms.Unverified} {
		s.Set(fakegcpkms.Fault{Method: "AsymmetricSign", Action: a, Times: 1})
		if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "not whole") {
			t.Errorf("action %d: got %v", a, err)
		}
	}
	s.Set(fakegcpkms.Fault{Method: "AsymmetricSign", Action: fakegcpkms.Forge, Times: 1})
	if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || good(key, sig) {
		t.Errorf("a forged signature: the fault was not met (%v)", err)
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	s, _, key := drill(t)
	for _, f := range []fakegcpkms.Fault{
		{Code: codes.Unavailable}, {Code: codes.ResourceExhausted}, {Code: codes.Internal}, {Action: fakegcpkms.Lose},
	} {
		f.Method, f.Times = "AsymmetricSign", 2
		s.Set(f)
		if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Errorf("%+v: got %v, want a signature", f, err)
		}
	}
	s.Set(fakegcpkms.Fault{Method: "AsymmetricSign", Action: fakegcpkms.BlackHole})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := key.Sign(ctx, []byte("pay")); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > time.Second {
		t.Errorf("a black hole: got %v after %v, want the deadline", err, time.Since(begun))
	}
}

func TestEachErrorHasItsMeaning(t *testing.T) {
	s, _, key := drill(t)
	for code, want := range map[codes.Code]error{
		codes.PermissionDenied: signers.ErrDenied, codes.Unauthenticated: signers.ErrUnavailable, codes.NotFound: signers.ErrNotFound,
		codes.FailedPrecondition: signers.ErrUnavailable, codes.InvalidArgument: signers.ErrUnsupported,
	} {
		before := s.Count("AsymmetricSign")
		s.Set(fakegcpkms.Fault{Method: "AsymmetricSign", Code: code})
		if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", code, err, want)
		}
		if n := s.Count("AsymmetricSign") - before; n != 1 {
			t.Errorf("%s: %d requests, want one", code, n)
		}
	}
}

// TestALostAnswerMakesNoSecondKey, wherever it is lost, also when the name was
// used before.
func TestALostAnswerMakesNoSecondKey(t *testing.T) {
	for _, method := range []string{"CreateCryptoKey", "CreateCryptoKeyVersion", "ListCryptoKeyVersions", "GetPublicKey"} {
		for _, used := range []bool{false, true} {
			s, b, _ := drill(t)
			if err := b.Destroy(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			name := id
			if !used {
				name = "pay-v2-0011223344556677"
			}
			s.Set(fakegcpkms.Fault{Method: method, Action: fakegcpkms.Lose, Times: 1})
			_, err := b.Create(t.Context(), name, signers.ECDSAP256)
			if err != nil { // as the keyring does
				_, err = b.Create(t.Context(), name, signers.ECDSAP256)
			}
			if err != nil && !errors.Is(err, signers.ErrExists) {
				t.Errorf("%s, used before %t: %v", method, used, err)
			}
			if _, err := b.Open(t.Context(), name, signers.ECDSAP256); err != nil {
				t.Errorf("%s, used before %t: Open: %v", method, used, err)
			}
			if n := enabled(s); n != 1 {
				t.Errorf("%s, used before %t: %d versions can sign, want one", method, used, n)
			}
		}
	}
}

func TestManyThatCreateOneIDMakeOneKey(t *testing.T) {
	s, cfg := project(t)
	var all sync.WaitGroup
	for range 4 { // daemons of their own: none waits for another
		b := open(t, cfg)
		all.Go(func() {
			if _, err := b.Create(t.Context(), id, signers.ECDSAP256); err != nil && !errors.Is(err, signers.ErrExists) {
				t.Errorf("Create: %v", err)
			}
		})
	}
	all.Wait()
	if n := enabled(s); n != 1 {
		t.Errorf("%d versions can sign, want one", n)
	}
}

func TestAKeyThatIsNotAsOursIsRefused(t *testing.T) {
	s, cfg := project(t)
	b := open(t, cfg)
	if _, err := b.Create(t.Context(), id, signers.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), id, signers.Ed25519); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("as another algorithm: got %v, want ErrMismatch", err)
	}
	soft := cfg
	soft.Protection = "SOFTWARE"
	if _, err := open(t, soft).Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("with another protection level: got %v, want ErrMismatch", err)
	}
	s.Disable()
	if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("disabled: got %v, want ErrUnavailable and a hint", err)
	}
}

func TestAConfigurationThatCanNotBeIsRefused(t *testing.T) {
	_, cfg := project(t)
	for name, harm := range map[string]func(*gcpkms.Config){
		"an endpoint off loopback": func(c *gcpkms.Config) { c.Endpoint = "192.0.2.1:443" },
		"no ring":                  func(c *gcpkms.Config) { c.KeyRing = "" },
		"a protection level":       func(c *gcpkms.Config) { c.Protection = "NONE" },
	} {
		bad := cfg
		harm(&bad)
		if _, err := gcpkms.Open(t.Context(), bad); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}
