package gcpkms_test

import (
	"errors"
	"math"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/signers"
)

// TestEveryAttemptIsCountedAndWhatIsDoneIsPriced, as the fake counts them.
func TestEveryAttemptIsCountedAndWhatIsDoneIsPriced(t *testing.T) {
	s, b, key := drill(t)
	public := s.Count("GetPublicKey")
	before := b.Usage()
	s.Set(
		fakegcpkms.Fault{Method: "AsymmetricSign", Code: codes.ResourceExhausted, Times: 2},
		fakegcpkms.Fault{Method: "AsymmetricSign", Code: codes.Unavailable, Times: 1},
	)
	for range 10 {
		if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
			t.Fatalf("Sign: %v", err)
		}
	}
	s.Set(fakegcpkms.Fault{Method: "AsymmetricSign", Code: codes.PermissionDenied, Times: 1})
	if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, signers.ErrDenied) {
		t.Errorf("Sign: got %v, want ErrDenied", err)
	}
	after := b.Usage()
	total := int64(0)
	for outcome, want := range map[signers.Outcome]int64{signers.Done: 10, signers.Throttled: 2, signers.Failed: 1, signers.Refused: 1} {
		n := after.Requests[signers.Request{Operation: "AsymmetricSign", Outcome: outcome}]
		if total += n; n != want {
			t.Errorf("AsymmetricSign, %s: %d, want %d", outcome, n, want)
		}
	}
	if n := s.Count("AsymmetricSign"); total != int64(n) {
		t.Errorf("%d requests were counted, and %d came to the service", total, n)
	}
	if n := after.Retries - before.Retries; n != 3 {
		t.Errorf("%d retries, want 3", n)
	}
	if usd := after.USD - before.USD; math.Abs(usd-10*0.15/10000) > 1e-12 {
		t.Errorf("ten signatures in the HSM on P-256 cost $%.7f, want $0.00015", usd)
	}
	if n := s.Count("GetPublicKey"); n != public {
		t.Errorf("the public key was read %d times more, want once, when the key was opened", n-public)
	}
}
