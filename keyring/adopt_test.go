package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/signetd/signet/signers"
)

// An adopter is a token that lets keys be adopted: what it calls a key is the
// key's id, and it vouches for all but what it says.
type adopter struct {
	*token
	unattested []string
}

func (a adopter) Adopt(ctx context.Context, ref, _ string, alg signers.Algorithm) (signers.Adopted, error) {
	key, err := a.Open(ctx, signers.KeyID(ref), alg)
	return signers.Adopted{ID: signers.KeyID(ref), Key: key, Unattested: a.unattested}, err
}

// foreign makes a world whose back-end holds a key that no record names.
func foreign(t *testing.T, unattested ...string) (*world, signers.KeyID) {
	t.Helper()
	w := newWorld(t)
	w.backends = map[string]signers.Backend{"hsm": adopter{w.token, unattested}}
	w.restart()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const id = signers.KeyID("ad-0a1b-0011223344556677")
	w.token.keys[id] = key
	return w, id
}

func TestAnAdoptedKeySignsAlsoAfterARestart(t *testing.T) {
	w, id := foreign(t)
	v := must(t)(w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id)}))
	if v.ID != id || !v.Adopted || v.State != Published {
		t.Errorf("got version %+v, want the adopted key, published", v)
	}
	must(t)(w.Activate(t.Context(), "pay", 1, Activation{}))
	w.restart()
	signs(t, w.current("pay"))
	if v := must(t)(w.Rotate(t.Context(), "pay")); v.Adopted {
		t.Error("the next version says that it was adopted")
	}
	if _, err := w.Adopt(t.Context(), "rent", Spec{Backend: "hsm", Algorithm: spec.Algorithm, Format: "jwt"}, Adoption{Ref: string(id)}); err == nil {
		t.Error("a key was adopted twice")
	}
}

func TestWhatTheBackendDoesNotVouchForIsAcceptedByName(t *testing.T) {
	w, id := foreign(t, "CKA_LOCAL", "CKA_NEVER_EXTRACTABLE")
	for _, accept := range [][]string{nil, {"CKA_LOCAL"}, {"CKA_SENSITIVE"}} {
		_, err := w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id), Accept: accept})
		is(t, err, ErrUnattested)
	}
	if entries := w.List(); len(entries) != 0 {
		t.Errorf("a refused adoption left a record: %v", entries)
	}
	must(t)(w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id), Accept: []string{"CKA_NEVER_EXTRACTABLE", "CKA_LOCAL"}}))
}

// TestOurOwnKeyIsNotAdopted: giving up the adoption would destroy it.
func TestOurOwnKeyIsNotAdopted(t *testing.T) {
	w, _ := foreign(t)
	w.signer("pay")
	ours, err := w.version("pay", 1)
	must(t)(ours, err)
	for _, name := range []string{"pay", "rent"} {
		_, err := w.Adopt(t.Context(), name, spec, Adoption{Ref: string(ours.ID)})
		is(t, err, ErrExists)
	}
	w.wantStates("pay", Signing)
	w.wantStates("rent")
}

// TestAnAdoptionThatWasCutOffIsFinishedOrGivenUp shows that giving up leaves
// the key where it was, and that what was begun is finished with the same one.
func TestAnAdoptionThatWasCutOffIsFinishedOrGivenUp(t *testing.T) {
	for _, finish := range []bool{true, false} {
		w, id := foreign(t)
		w.token.power.arm(3, false, false) // it was found, and reserved
		_, err := w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id)})
		is(t, err, errCut)
		w.restart()
		w.wantStates("pay", Creating)
		if finish {
			v := must(t)(w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id)}))
			if v.Number != 1 || v.ID != id {
				t.Errorf("got version %d with id %s, want the first, finished", v.Number, v.ID)
			}
			continue
		}
		must(t)(w.Destroy(t.Context(), "pay", 1, string(id)))
		if !slices.Contains(w.token.ids(), id) {
			t.Error("giving up an adoption destroyed the key")
		}
	}
}

// TestAnAdoptedKeyIsDestroyedByItsKid: once it was published it is a key like
// any other.
func TestAnAdoptedKeyIsDestroyedByItsKid(t *testing.T) {
	w, id := foreign(t)
	v := must(t)(w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id)}))
	must(t)(w.Revoke(t.Context(), "pay", 1))
	must(t)(w.Destroy(t.Context(), "pay", 1, v.Kid))
	if ids := w.token.ids(); len(ids) != 0 {
		t.Errorf("still there: %v", ids)
	}
	_, err := w.Adopt(t.Context(), "pay", spec, Adoption{Ref: string(id)})
	is(t, err, signers.ErrNotFound)
}

func TestABackendThatAdoptsNothingSaysSo(t *testing.T) {
	_, err := newWorld(t).Adopt(t.Context(), "pay", spec, Adoption{Ref: "0a1b"})
	is(t, err, signers.ErrUnsupported)
	is(t, err, ErrNotAdopted)
}
