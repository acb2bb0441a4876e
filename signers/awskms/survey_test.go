package awskms_test

import (
	"errors"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/signers"
)

// TestAHalfMadeKeyIsFoundByItsTagAndDiscardedByItsARN, while the key that the
// same id names now, and those of another prefix, stay.
func TestAHalfMadeKeyIsFoundByItsTagAndDiscardedByItsARN(t *testing.T) {
	s, cfg := account(t)
	other := cfg
	other.AliasPrefix = "theirs/"
	b, theirs := open(t, cfg), open(t, other)
	const id = signers.KeyID("pay-v1-00112233")
	for _, b := range []signers.Backend{b, theirs} {
		s.Set(fakekms.Fault{Operation: "CreateAlias", Kind: "AccessDeniedException"})
		if _, err := b.Create(t.Context(), id, signers.ECDSAP256); !errors.Is(err, signers.ErrDenied) {
			t.Fatalf("Create: got %v, want ErrDenied", err)
		}
	}
	s.Clear()
	if _, half := s.Enabled(); len(half) != 2 {
		t.Fatalf("%d half-made keys, want 2", len(half))
	}
	time.Sleep(lag) // the service does not list what was just made
	all := strays(t, b)
	if len(all) != 1 || all[0].MonthlyUSD != 1 || all[0].Created.IsZero() || all[0].State != "Enabled" {
		t.Fatalf("Survey: got %+v, want the one that is half-made here, at $1", all)
	}
	if len(strays(t, theirs)) != 1 {
		t.Error("Survey of the other prefix: it lacks its own")
	}
	if err := theirs.Discard(t.Context(), id, all[0].Ref); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("Discard of another prefix's key: got %v, want ErrNotFound", err)
	}
	if err := b.Discard(t.Context(), "pay-v2-00112233", all[0].Ref); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("Discard by another id: got %v, want ErrMismatch", err)
	}
	if err := b.Discard(t.Context(), id, "alias/signet/"+string(id)); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("Discard by alias: got %v, want ErrNotFound", err)
	}
	if err := b.Discard(t.Context(), id, all[0].Ref); err != nil {
		t.Fatalf("Discard: %v", err)
	}
	if len(strays(t, b)) != 0 || len(strays(t, theirs)) != 1 {
		t.Error("Discard took another than the one that was named")
	}
}

func strays(t *testing.T, b signers.Surveyor) (found []signers.Holding) {
	t.Helper()
	all, err := b.Survey(t.Context())
	if err != nil {
		t.Fatalf("Survey: %v", err)
	}
	for _, h := range all {
		if h.Stray {
			found = append(found, h)
		}
	}
	return found
}
