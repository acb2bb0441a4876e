package gcpkms_test

import (
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/signetd/signet/conformance/fakegcpkms"
	"github.com/signetd/signet/signers"
)

// TestAVersionBesideTheKeyIsAStray, and is discarded alone.
func TestAVersionBesideTheKeyIsAStray(t *testing.T) {
	s, b, key := drill(t)
	name := fakegcpkms.Ring + "/cryptoKeys/" + string(id)
	if _, err := s.CreateCryptoKeyVersion(t.Context(), &kmspb.CreateCryptoKeyVersionRequest{Parent: name}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond) // until it is generated: before, nothing can be destroyed
	all, err := b.Survey(t.Context())
	if err != nil || len(all) != 2 || all[0].Stray || !all[1].Stray {
		t.Fatalf("Survey: got %+v, %v, want the key and a stray", all, err)
	}
	if h := all[1]; h.Ref != name+"/cryptoKeyVersions/2" || h.MonthlyUSD != 2.5 || h.Created.IsZero() || h.State != "ENABLED" {
		t.Errorf("Survey: got %+v, want version 2, at $2.50", h)
	}
	if err := b.Discard(t.Context(), id, all[1].Ref); err != nil {
		t.Fatalf("Discard: %v", err)
	}
	if sig, err := key.Sign(t.Context(), []byte("pay")); err != nil || !good(key, sig) {
		t.Errorf("the key, after a stray was discarded: %v", err)
	}
	if err := b.Discard(t.Context(), id, all[1].Ref); !errors.Is(err, signers.ErrNotFound) && !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("Discard once more: got %v", err)
	}
	if n := s.Enabled(); n != 1 {
		t.Errorf("%d versions can sign, want the key alone", n)
	}
}
