package pkcs11_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	raw "github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/pkcs11"
)

// fingerprintOf reads a key of an outsider's as its operator would.
func fingerprintOf(t *testing.T, b *pkcs11.Backend, label string) string {
	t.Helper()
	_, err := b.Adopt(t.Context(), hex.EncodeToString([]byte(label)), strings.Repeat("0", 64), signers.ECDSAP256)
	_, after, ok := strings.Cut(errText(err), "fingerprint ")
	if !ok {
		t.Fatalf("Adopt with a wrong fingerprint: got %v, want the right one in the error", err)
	}
	return after[:64]
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAKeyOfSomebodyElsesIsAdoptedByIDAndFingerprint(t *testing.T) {
	b := open(t, config())
	label := string(fresh("theirs"))
	outsider(t, label, raw.NewAttribute(raw.CKA_SIGN, true))
	ref, fingerprint := hex.EncodeToString([]byte(label)), fingerprintOf(t, b, label)
	a, err := b.Adopt(t.Context(), ref, fingerprint, signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(a.Unattested, "CKA_DECRYPT") && len(a.Unattested) == 0 {
		t.Errorf("nothing is unattested of a key that another program made")
	}
	signs(t, a.Key)
	if k, err := b.Open(t.Context(), a.ID, signers.ECDSAP256); err != nil {
		t.Errorf("Open by its id: %v", err)
	} else {
		signs(t, k)
	}
	// The same CKA_ID under another fingerprint is another key.
	other := signers.KeyID(strings.Replace(string(a.ID), fingerprint[:16], strings.Repeat("0", 16), 1))
	if _, err := b.Open(t.Context(), other, signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("Open under another fingerprint: got %v, want ErrMismatch", err)
	}
	if err := b.Destroy(t.Context(), other); !errors.Is(err, signers.ErrMismatch) {
		t.Errorf("Destroy under another fingerprint: got %v, want ErrMismatch", err)
	}
	signs(t, a.Key)
	if err := b.Destroy(t.Context(), a.ID); err != nil {
		t.Errorf("Destroy: %v", err)
	}
	if _, err := b.Open(t.Context(), a.ID, signers.ECDSAP256); !errors.Is(err, signers.ErrNotFound) {
		t.Errorf("Open after Destroy: got %v, want ErrNotFound", err)
	}
}

func TestAKeyThatMayLeaveIsNotAdopted(t *testing.T) {
	b := open(t, config())
	for _, change := range []*raw.Attribute{raw.NewAttribute(raw.CKA_EXTRACTABLE, true), raw.NewAttribute(raw.CKA_SENSITIVE, false)} {
		label := string(fresh("loose"))
		outsider(t, label, change)
		_, err := b.Adopt(t.Context(), hex.EncodeToString([]byte(label)), fingerprintOf(t, b, label), signers.ECDSAP256)
		if !errors.Is(err, signers.ErrMismatch) || !strings.Contains(errText(err), "the token says") {
			t.Errorf("got %v, want ErrMismatch for what the token says of it", err)
		}
	}
	for _, bad := range [][2]string{{"", strings.Repeat("0", 64)}, {"zz", strings.Repeat("0", 64)}, {"00", "short"}, {strings.Repeat("00", 22), strings.Repeat("0", 64)}} {
		if _, err := b.Adopt(t.Context(), bad[0], bad[1], signers.ECDSAP256); !errors.Is(err, signers.ErrMismatch) {
			t.Errorf("Adopt(%q, %q): got %v, want ErrMismatch", bad[0], bad[1], err)
		}
	}
}
