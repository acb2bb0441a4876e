package awskms_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/signers"
)

// TestEveryAttemptIsCountedAndWhatIsDoneIsPriced, as the fake counts them.
func TestEveryAttemptIsCountedAndWhatIsDoneIsPriced(t *testing.T) {
	s, cfg := account(t)
	cfg.Settle = time.Hour // and what follows a creation then is not counted in
	b := open(t, cfg)
	key, err := b.Create(t.Context(), "pay-v1-00112233", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	public := s.Count("GetPublicKey")
	before := b.Usage()
	s.Set(
		fakekms.Fault{Operation: "Sign", Kind: "ThrottlingException", Times: 2},
		fakekms.Fault{Operation: "Sign", Kind: "KMSInternalException", Status: 500, Times: 1},
	)
	for range 10 {
		if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Fatalf("Sign: %v", err)
		}
	}
	s.Set(fakekms.Fault{Operation: "Sign", Kind: "AccessDeniedException", Times: 1})
	if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, signers.ErrDenied) {
		t.Errorf("Sign: got %v, want ErrDenied", err)
	}
	after := b.Usage()
	total := int64(0)
	for outcome, want := range map[signers.Outcome]int64{signers.Done: 10, signers.Throttled: 2, signers.Failed: 1, signers.Refused: 1} {
		n := after.Requests[signers.Request{Operation: "Sign", Outcome: outcome}]
		if total += n; n != want {
			t.Errorf("Sign, %s: %d, want %d", outcome, n, want)
		}
	}
	if n := s.Count("Sign"); total != int64(n) {
		t.Errorf("%d requests were counted, and %d came to the service", total, n)
	}
	if n := after.Retries - before.Retries; n != 3 {
		t.Errorf("%d retries, want 3", n)
	}
	if usd := after.USD - before.USD; math.Abs(usd-10*0.15/10000) > 1e-12 {
		t.Errorf("ten signatures on P-256 cost $%.7f, want $0.00015", usd)
	}
	if n := s.Count("GetPublicKey"); n != public {
		t.Errorf("the public key was read %d times more, want once, when the key was opened", n-public)
	}
}
