package signertest

import (
	"errors"

	"github.com/signetd/signet/signers"
)

func checkSurvey(r *run) {
	s, ok := r.Backend.(signers.Surveyor)
	if !ok {
		r.Logf("not a signers.Surveyor: nothing to check")
		return
	}
	kept, gone := r.id(), r.id()
	key := r.create(kept, r.alg)
	doomed := r.create(gone, r.alg)
	ref, other := r.held(s, kept), r.held(s, gone)
	if ref == other {
		r.Errorf("Survey: two keys have the reference %q", ref)
	}
	for _, wrong := range []struct {
		id  signers.KeyID
		ref string
	}{{kept, other}, {gone, ref}, {kept, ""}, {kept, "nobody's"}, {r.id(), ref}} {
		err := s.Discard(r.Context(), wrong.id, wrong.ref)
		if !errors.Is(err, signers.ErrNotFound) && !errors.Is(err, signers.ErrMismatch) {
			r.Errorf("Discard(%q, %q), which is no key: got %v, want ErrNotFound or ErrMismatch", wrong.id, wrong.ref, err)
		}
	}
	r.signs(key, r.alg, key.Public(), []byte("not me"))
	r.signs(doomed, r.alg, doomed.Public(), []byte("not yet"))
	if err := s.Discard(r.Context(), gone, other); err != nil {
		r.Fatalf("Discard: got %v, want nil", err)
	}
	r.signRefused("after Discard", doomed, signers.ErrNotFound)
	r.signs(key, r.alg, key.Public(), []byte("still not me"))
	r.held(s, kept)
	if n := len(r.holdings(s, gone)); n != 0 {
		r.Errorf("Survey has a discarded key %d times, want none", n)
	}
	if err := s.Discard(r.Context(), gone, other); !errors.Is(err, signers.ErrNotFound) {
		r.Errorf("Discard once more: got %v, want ErrNotFound", err)
	}
}

// held is the reference of a key that is there once.
func (r *run) held(s signers.Surveyor, id signers.KeyID) string {
	r.Helper()
	found := r.holdings(s, id)
	if len(found) != 1 || found[0].Ref == "" || found[0].Stray || found[0].MonthlyUSD < 0 {
		r.Fatalf("Survey has %q as %+v, want it once, with a reference, and no stray", id, found)
	}
	return found[0].Ref
}

func (r *run) holdings(s signers.Surveyor, id signers.KeyID) (found []signers.Holding) {
	r.Helper()
	all, err := s.Survey(r.Context())
	if err != nil {
		r.Fatalf("Survey: got %v, want the keys", err)
	}
	for _, h := range all {
		if h.ID == id {
			found = append(found, h)
		}
	}
	return found
}
