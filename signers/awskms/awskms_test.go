package awskms_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/awskms"
)

// lag is for how long the fake does not find what was just made.
const lag = 25 * time.Millisecond

// account starts a fake, whose credentials the SDK's default chain finds.
func account(t *testing.T) (*fakekms.Server, awskms.Config) {
	t.Helper()
	s := fakekms.New(time.Now, lag)
	t.Cleanup(s.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", fakekms.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", fakekms.SecretKey)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nowhere")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
	return s, awskms.Config{Region: fakekms.Region, Endpoint: s.URL, Now: time.Now, Settle: 3 * time.Second}
}

func open(t *testing.T, cfg awskms.Config) *awskms.Backend {
	t.Helper()
	b, err := awskms.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// drill is a fake, a back-end, and a key.
func drill(t *testing.T) (*fakekms.Server, *awskms.Backend, signers.Key) {
	t.Helper()
	s, cfg := account(t)
	b := open(t, cfg)
	key, err := b.Create(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return s, b, key
}

func good(key signers.Key, sig []byte) bool {
	return signers.ECDSAP256.Verify(key.Public(), []byte("pay"), sig) == nil
}

func TestThePromisesOfABackend(t *testing.T) {
	algs := []signers.Algorithm{signers.ECDSAP256, signers.ECDSAP384, signers.ECDSAP521, signers.Ed25519}
	for _, a := range signers.Algorithms() {
		if p, err := a.Params(); err == nil && p.Bits == 2048 {
			algs = append(algs, a)
		}
	}
	conformance.Run(t, signertest.Checks(algs...), func(t *testing.T) signertest.Subject {
		s, cfg := account(t)
		var faults []signertest.Fault
		for name, f := range fakekms.Faults() {
			faults = append(faults, signertest.Fault{Name: name, Begin: func() func() { s.Set(f); return s.Clear }})
		}
		return signertest.Subject{
			Backend: open(t, cfg), RawMost: 4096, Faults: faults,
			Reopen: func() (signers.Backend, error) { return awskms.Open(context.Background(), cfg) },
		}
	})
}

func TestASignatureIsOneRequest(t *testing.T) {
	s, _, key := drill(t)
	before := len(s.Log())
	for range 20 {
		if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Fatal(err)
		}
	}
	if n := len(s.Log()) - before; n != 20 || s.Count("Sign") != 20 {
		t.Errorf("20 signatures took %d requests, %d of them to sign", n, s.Count("Sign"))
	}
}

// TestWhatTheServiceRetriesIsRetried inside the caller's deadline.
func TestWhatTheServiceRetriesIsRetried(t *testing.T) {
	s, _, key := drill(t)
	for _, f := range []fakekms.Fault{
		{Action: fakekms.Answer, Kind: "ThrottlingException"},
		{Action: fakekms.Answer, Kind: "KMSInternalException", Status: 500},
		{Action: fakekms.Answer, Kind: "DependencyTimeoutException", Status: 503},
		{Action: fakekms.Reset}, {Action: fakekms.Lose}, {Action: fakekms.Truncate},
	} {
		f.Operation, f.Times = "Sign", 1
		s.Set(f)
		if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Errorf("%+v: got %v, want a signature", f, err)
		}
	}
	s.Set(fakekms.Fault{Operation: "Sign", Action: fakekms.BlackHole})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := key.Sign(ctx, []byte("pay")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a black hole: got %v, want the deadline", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("a black hole took %v, the deadline was 200 ms", took)
	}
}

// TestEachErrorHasItsMeaning, and none is tried again for nothing.
func TestEachErrorHasItsMeaning(t *testing.T) {
	s, _, key := drill(t)
	for kind, want := range map[string]error{
		"AccessDeniedException": signers.ErrDenied, "UnrecognizedClientException": signers.ErrDenied,
		"DisabledException": signers.ErrUnavailable, "KMSInvalidStateException": signers.ErrUnavailable,
		"NotFoundException": signers.ErrNotFound, "InvalidKeyUsageException": signers.ErrMismatch, "SomethingNewException": signers.ErrUnavailable,
	} {
		before := s.Count("Sign")
		s.Set(fakekms.Fault{Operation: "Sign", Action: fakekms.Answer, Kind: kind})
		if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", kind, err, want)
		}
		if n := s.Count("Sign") - before; n != 1 {
			t.Errorf("%s: %d requests, want one", kind, n)
		}
	}
}

// TestAnotherKeysAnswerIsRefused; that of a key that does not say so is found
// by whoever verifies, as is a wrong signature.
func TestAnotherKeysAnswerIsRefused(t *testing.T) {
	s, _, key := drill(t)
	s.Set(fakekms.Fault{Operation: "Sign", Action: fakekms.OtherID, Times: 1})
	if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, signers.ErrUnavailable) || !strings.Contains(err.Error(), "answered for key") {
		t.Errorf("an answer that names another key: got %v", err)
	}
	for _, a := range []fakekms.Action{fakekms.Corrupt, fakekms.OtherKey} {
		s.Set(fakekms.Fault{Operation: "Sign", Action: a, Times: 1})
		if sig, err := key.Sign(t.Context(), []byte("pay")); err == nil && good(key, sig) {
			t.Errorf("action %d: the fault was not met", a)
		}
	}
}

// TestALostAnswerMakesNoSecondKey, wherever it is lost.
func TestALostAnswerMakesNoSecondKey(t *testing.T) {
	for _, operation := range []string{"CreateKey", "CreateAlias", "DescribeKey", "GetPublicKey"} {
		for _, action := range []fakekms.Action{fakekms.Lose, fakekms.Reset, fakekms.Truncate} {
			s, cfg := account(t)
			b := open(t, cfg)
			s.Set(fakekms.Fault{Operation: operation, Action: action, Times: 1})
			_, err := b.Create(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256)
			if err != nil && !errors.Is(err, signers.ErrUnavailable) {
				t.Errorf("%s, action %d: got %v", operation, action, err)
			}
			if err != nil { // as the keyring does
				_, err = b.Create(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256)
			}
			if err != nil && !errors.Is(err, signers.ErrExists) {
				t.Errorf("%s, action %d, again: %v", operation, action, err)
			}
			if _, err := b.Open(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256); err != nil {
				t.Errorf("%s, action %d: Open: %v", operation, action, err)
			}
			if named, orphans := s.Enabled(); len(named) != 1 || len(orphans) != 0 {
				t.Errorf("%s, action %d: %d keys with an alias and %d without, want one and none", operation, action, len(named), len(orphans))
			}
		}
	}
}

func TestManyThatCreateOneIDMakeOneKey(t *testing.T) {
	s, cfg := account(t)
	var all sync.WaitGroup
	for range 4 { // daemons of their own: none waits for another
		b := open(t, cfg)
		all.Go(func() {
			if _, err := b.Create(t.Context(), "pay-v1-0011223344556677", signers.ECDSAP256); err != nil && !errors.Is(err, signers.ErrExists) {
				t.Errorf("Create: %v", err)
			}
		})
	}
	all.Wait()
	if named, orphans := s.Enabled(); len(named) != 1 || len(orphans) != 0 {
		t.Errorf("%d keys with an alias and %d without, want one and none", len(named), len(orphans))
	}
}

func TestAKeyThatIsNotAsOursIsRefused(t *testing.T) {
	s, b, _ := drill(t)
	const id = "pay-v1-0011223344556677"
	if _, err := b.Open(t.Context(), id, signers.Ed25519); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("as another algorithm: got %v, want ErrMismatch", err)
	}
	for state, want := range map[string]error{"Disabled": signers.ErrUnavailable, "PendingDeletion": signers.ErrNotFound, "Creating": signers.ErrUnavailable} {
		s.SetState("alias/signet/"+id, state)
		if _, err := b.Open(t.Context(), id, signers.ECDSAP256); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", state, err, want)
		}
	}
}

func TestAnEndpointOffLoopbackWantsItsFlag(t *testing.T) {
	_, cfg := account(t)
	cfg.Endpoint = "https://kms.example"
	if _, err := awskms.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "allow_endpoint") {
		t.Errorf("got %v, want a hint at allow_endpoint", err)
	}
}

func TestCredentialsThatAreNotKnownAreSaidToBe(t *testing.T) {
	_, cfg := account(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
	if _, err := awskms.Open(t.Context(), cfg); !errors.Is(err, signers.ErrDenied) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("got %v, want ErrDenied and a hint", err)
	}
}
