// The tests are a process of their own: openCryptoki reaches into libraries
// that crash where many others are loaded, as in the drills of signers/pkcs11.
package opencryptoki_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/opencryptoki"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// ock is the one token of openCryptoki, made when the first test asks for it.
var ock = sync.OnceValues(opencryptoki.Make)

// second is a configuration for openCryptoki. Without it, the test is skipped
// on a laptop and fails where it is required.
func second(t *testing.T) pkcs11.Config {
	t.Helper()
	token, err := ock()
	if err != nil && os.Getenv("REQUIRE_OPENCRYPTOKI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return pkcs11.Config{
		Module: token.Module, TokenLabel: token.Label, Now: time.Now,
		PIN: func(context.Context) ([]byte, error) { return []byte(token.PIN), nil },
	}
}

func open(t *testing.T, cfg pkcs11.Config) *pkcs11.Backend {
	t.Helper()
	b, err := pkcs11.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestThePromisesOfABackendOnOpenCryptoki(t *testing.T) {
	cfg := second(t)
	checks := signertest.Checks("rsa2048-pkcs1-sha256", "rsa2048-pss-sha256", "rsa2048-pss-sha512")
	conformance.Run(t, checks, func(t *testing.T) signertest.Subject {
		return signertest.Subject{
			Backend: open(t, cfg),
			Reopen:  func() (signers.Backend, error) { return pkcs11.Open(context.Background(), cfg) },
		}
	})
}

// TestOpenCryptokiHasRSAOnly and says so, before anything is made.
func TestOpenCryptokiHasRSAOnly(t *testing.T) {
	b := open(t, second(t))
	for _, alg := range []signers.Algorithm{signers.ECDSAP256, signers.ECDSAP384, signers.ECDSAP521, signers.Ed25519} {
		if _, err := b.Create(t.Context(), signers.KeyID("none-"+strings.ToLower(rand.Text())), alg); !errors.Is(err, signers.ErrUnsupported) {
			t.Errorf("%s: got %v, want ErrUnsupported", alg, err)
		}
	}
}

// TestAWrongPINIsTriedOnceOnATokenThatLocks: the third locks it for good.
func TestAWrongPINIsTriedOnceOnATokenThatLocks(t *testing.T) {
	right := second(t)
	tries := 0
	wrong := right
	wrong.PIN = func(context.Context) ([]byte, error) { tries++; return []byte("0000"), nil }
	for range 4 { // more often than the token bears without a good login in between
		if _, err := pkcs11.Open(t.Context(), wrong); !errors.Is(err, signers.ErrDenied) {
			t.Errorf("Open with a wrong PIN: got %v, want ErrDenied", err)
		}
		b, err := pkcs11.Open(t.Context(), right)
		if err != nil {
			t.Fatalf("Open with the PIN: got %v, and the token may be locked", err)
		}
		_ = b.Close()
	}
	if tries != 4 {
		t.Errorf("four Opens read the wrong PIN %d times, want four", tries)
	}
}
