package keyring

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/signers"
)

// A holder is a token that says what it holds: its keys, and what was planted.
type holder struct {
	*token
	created time.Time
	planted []signers.Holding
	gone    []string // references that were discarded
}

func (h *holder) Survey(context.Context) ([]signers.Holding, error) {
	all := slices.Clone(h.planted)
	for _, id := range h.ids() {
		all = append(all, signers.Holding{ID: id, Ref: "ref-" + string(id), Created: h.created})
	}
	return all, nil
}

func (h *holder) Discard(_ context.Context, _ signers.KeyID, ref string) error {
	h.gone = append(h.gone, ref)
	return nil
}

// withHolder is a world whose token says what it holds, with a key that is on
// record.
func withHolder(t *testing.T) (*world, *holder, signers.KeyID) {
	w := newWorld(t)
	h := &holder{token: w.token, created: w.clock.Now().Add(-2 * Grace)}
	w.backends["hsm"] = h
	w.Close()
	w.restart()
	v := must(t)(w.Create(t.Context(), "pay", spec))
	return w, h, v.ID
}

func (w *world) orphans(want ...string) {
	w.Helper()
	all, err := w.Orphans(w.Context(), "hsm")
	if err != nil {
		w.Fatalf("Orphans: %v", err)
	}
	var got []string
	for _, o := range all {
		s := string(o.ID) + " " + o.Ref + " " + string(o.Origin)
		if o.Young {
			s += " young"
		}
		got = append(got, s)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("Orphans (-want +got):\n%s", diff)
	}
}

func TestAnOrphanIsOursAndNoRecordClaimsIt(t *testing.T) {
	w, h, id := withHolder(t)
	w.orphans()
	now := w.clock.Now()
	old := now.Add(-2 * Grace)
	h.planted = []signers.Holding{
		{ID: "pay-v7-00112233", Ref: "a", Created: old},
		{ID: "web-tls", Ref: "b", Created: old},                          // somebody else's
		{ID: "check-mate", Ref: "c", Created: old},                       // somebody else's
		{ID: "signet-health-of-the-nation", Ref: "d", Created: old},      // somebody else's
		{ID: "pay-v7-001122334", Ref: "e", Created: old},                 // somebody else's
		{ID: id, Ref: "f", Stray: true, Created: old.Add(time.Minute)},   // made beside the one on record
		{ID: "check-aaaabbbbccccddddeeeeffff22", Ref: "g", Created: now}, // the suite's, at this moment
		{ID: "signet-health-ed25519", Ref: "h", Created: old},
		{ID: "new-v1-00112233", Ref: "i", Stray: true}, // nobody knows when
	}
	w.orphans(
		"new-v1-00112233 i half-made young",
		"pay-v7-00112233 a unclaimed",
		"signet-health-ed25519 h health-check",
		string(id)+" f half-made",
		"check-aaaabbbbccccddddeeeeffff22 g conformance young",
	)
}

// TestAKeyInTheMakingIsNoOrphan, neither the one that is there nor a stray that
// the next attempt may find.
func TestAKeyInTheMakingIsNoOrphan(t *testing.T) {
	w, h, _ := withHolder(t)
	must(t)(w.Activate(t.Context(), "pay", 1, Activation{}))
	w.token.power.arm(2, true, false) // the answer to Create is lost, and nothing works after it
	_, err := w.Rotate(t.Context(), "pay")
	if err == nil {
		t.Fatal("Rotate: got no error: the power was not cut")
	}
	w.token.power.arm(0, false, false)
	w.Close()
	w.restart()
	w.wantStates("pay", Signing, Creating)
	half := w.List()[0].Versions[1].ID
	h.planted = []signers.Holding{{ID: half, Ref: "a", Stray: true, Created: h.created}}
	w.orphans()
	_, err = w.Clean(t.Context(), Cleaning{Backend: "hsm", ID: half, Ref: "a", Young: true})
	is(t, err, ErrNoOrphan)
}

func TestOnlyWhatIsNamedWhollyIsCleaned(t *testing.T) {
	w, h, id := withHolder(t)
	old := w.clock.Now().Add(-2 * Grace)
	h.planted = []signers.Holding{
		{ID: "pay-v7-00112233", Ref: "a", Created: old},
		{ID: "pay-v8-00112233", Ref: "b", Created: w.clock.Now()},
		{ID: "pay-v9-00112233", Created: old}, // its reference can't be read
	}
	for _, c := range []struct {
		cleaning Cleaning
		want     error
	}{
		{Cleaning{"hsm", id, "ref-" + string(id), true}, ErrNoOrphan}, // on record
		{Cleaning{"hsm", "pay-v7-00112233", "b", true}, ErrNoOrphan},
		{Cleaning{"hsm", "pay-v7-00112233", "", true}, ErrNoOrphan},
		{Cleaning{"hsm", "pay-v9-00112233", "", true}, ErrNoOrphan},
		{Cleaning{"other", "pay-v7-00112233", "a", true}, ErrNoOrphan},
		{Cleaning{"hsm", "pay-v8-00112233", "b", false}, ErrTooEarly},
	} {
		_, err := w.Clean(t.Context(), c.cleaning)
		is(t, err, c.want)
	}
	if len(h.gone) != 0 {
		t.Fatalf("discarded %q, want none", h.gone)
	}
	for _, c := range []Cleaning{{"hsm", "pay-v7-00112233", "a", false}, {"hsm", "pay-v8-00112233", "b", true}} {
		if o, err := w.Clean(t.Context(), c); err != nil || o.Ref != c.Ref {
			t.Errorf("Clean: got %+v, %v", o, err)
		}
	}
	if !slices.Equal(h.gone, []string{"a", "b"}) {
		t.Errorf("discarded %q, want a and b", h.gone)
	}
}

// TestAKeyThatWasAdoptedIsNoOrphan, by whatever id the back-end has it.
func TestAKeyThatWasAdoptedIsNoOrphan(t *testing.T) {
	w, h, id := withHolder(t)
	h.planted = []signers.Holding{{ID: "pay-v7-00112233", Ref: "a", AsAdopted: id, Created: h.created}}
	w.orphans()
	_, err := w.Clean(t.Context(), Cleaning{Backend: "hsm", ID: "pay-v7-00112233", Ref: "a"})
	is(t, err, ErrNoOrphan)
}

// TestAKeyThatItsRecordCallsDestroyedIsAnOrphan: nobody else looks for it.
func TestAKeyThatItsRecordCallsDestroyedIsAnOrphan(t *testing.T) {
	w, h, id := withHolder(t)
	v := must(t)(w.Revoke(t.Context(), "pay", 1))
	must(t)(w.Destroy(t.Context(), "pay", 1, v.Kid))
	w.orphans()
	h.planted = []signers.Holding{{ID: id, Ref: "a", Created: h.created}}
	w.orphans(string(id) + " a unclaimed")
}
