package pkcs11_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/conformance/softhsm"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// token is one SoftHSM token for the whole package: the module reads where it
// is when it is loaded, and then never again. A second is beside it.
var (
	token    softhsm.Token
	tokenErr error
)

// second is the label of the token beside it, which has the same PIN.
const second = "signet-second"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "signet-pkcs11-")
	if err != nil {
		panic(err)
	}
	if token, tokenErr = softhsm.Make(filepath.Join(dir, "hsm")); tokenErr == nil {
		tokenErr = errors.Join(token.Init(second), os.Setenv("SOFTHSM2_CONF", token.Conf))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// need skips on a laptop without SoftHSM, and fails where it is required.
func need(t *testing.T) {
	t.Helper()
	if tokenErr == nil {
		return
	}
	if os.Getenv("REQUIRE_SOFTHSM") != "" {
		t.Fatal(tokenErr)
	}
	t.Skip(tokenErr)
}

func pin(context.Context) ([]byte, error) { return []byte(token.PIN), nil }

func config() pkcs11.Config {
	return pkcs11.Config{Module: token.Module, TokenLabel: token.Label, PIN: pin, Sessions: 2, Now: time.Now}
}

func open(t *testing.T, cfg pkcs11.Config) *pkcs11.Backend {
	t.Helper()
	need(t)
	b, err := pkcs11.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// algorithms are those that SoftHSM has; TestLargeRSAKeysSign has larger RSA,
// since making its keys for each check would take minutes.
func algorithms() []signers.Algorithm {
	all := []signers.Algorithm{signers.ECDSAP256, signers.ECDSAP384, signers.ECDSAP521, signers.Ed25519}
	for _, a := range signers.Algorithms() {
		if p, err := a.Params(); err == nil && p.Bits == 2048 {
			all = append(all, a)
		}
	}
	return all
}

func TestThePromisesOfABackend(t *testing.T) {
	need(t)
	s, err := shim.Make(t.TempDir(), token.Module)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Module = s.Module
	var faults []signertest.Fault
	for _, d := range shim.Drills() {
		faults = append(faults, signertest.Fault{Name: d.Name, Begin: func() func() { return s.Begin(d) }})
	}
	conformance.Run(t, signertest.Checks(algorithms()...), func(t *testing.T) signertest.Subject {
		return signertest.Subject{
			Backend: open(t, cfg), Faults: faults,
			Reopen: func() (signers.Backend, error) { return pkcs11.Open(context.Background(), cfg) },
		}
	})
}

func TestAWrongPINIsTriedOnce(t *testing.T) {
	need(t)
	tries := 0
	cfg := config()
	cfg.PIN = func(context.Context) ([]byte, error) {
		tries++
		return []byte("0000"), nil
	}
	if _, err := pkcs11.Open(context.Background(), cfg); !errors.Is(err, signers.ErrDenied) {
		t.Errorf("Open with a wrong PIN: got %v, want ErrDenied", err)
	}
	if tries != 1 {
		t.Errorf("the PIN was read %d times, want once", tries)
	}
}

func TestATokenThatIsNotThereIsNamed(t *testing.T) {
	need(t)
	cfg := config()
	cfg.TokenLabel = "no-such-token"
	if _, err := pkcs11.Open(context.Background(), cfg); !errors.Is(err, signers.ErrUnavailable) {
		t.Errorf("Open: got %v, want ErrUnavailable", err)
	}
}
