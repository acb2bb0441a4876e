package signertest

import (
	"errors"
	"slices"

	"github.com/signetd/signet/signers"
)

func addLifeChecks(add adder) {
	add("create-twice", "a caller that crashed half-way calls Create again, and must not lose the key it has", checkCreateTwice)
	add("open-absent", "recovery tells `not made yet` from every other error", checkOpenAbsent)
	add("destroy", "a destroyed key must not sign again, not even through a handle opened before", checkDestroy)
	add("destroy-absent", "a step that is repeated after a crash must not fail because it was done", checkDestroyAbsent)
	add("destroy-others", "destroying one key must leave every other as it was", checkDestroyOthers)
	add("create-after-destroy", "an id used again is a new key, and an old handle must not reach it", checkCreateAfterDestroy)
	add("close", "after Close nothing is done, and the error says why", checkClose)
	add("list", "what no record claims is found by listing, so the list is complete and has no ghosts", checkList)
	add("survey", "what no record claims is destroyed by id and reference, and never another key in its place", checkSurvey)
	add("reopen", "a daemon that starts again finds the keys it had, and none that it destroyed", checkReopen)
}

func checkDestroy(r *run) {
	id := r.id()
	made := r.create(id, r.alg)
	opened := r.open(id, r.alg)
	if err := r.Backend.Destroy(r.Context(), id); err != nil {
		r.Fatalf("Destroy: got %v, want nil", err)
	}
	for _, k := range []signers.Key{made, opened} {
		r.signRefused("after Destroy", k, signers.ErrNotFound)
	}
	k, err := r.Backend.Open(r.Context(), id, r.alg)
	r.refuses("Open after Destroy", k, err, signers.ErrNotFound)
}

// signRefused reports an error unless k answers with target and no signature.
func (r *run) signRefused(when string, k signers.Key, target error) {
	r.Helper()
	sig, err := k.Sign(r.Context(), []byte("never"))
	if !errors.Is(err, target) || sig != nil {
		r.Errorf("Sign %s: got %d bytes and %v, want %q", when, len(sig), err, target)
	}
}

func checkDestroyAbsent(r *run) {
	id := r.id()
	if err := r.Backend.Destroy(r.Context(), id); err != nil {
		r.Errorf("Destroy of a key that never was: got %v, want nil", err)
	}
	r.create(id, r.alg)
	for range 2 {
		if err := r.Backend.Destroy(r.Context(), id); err != nil {
			r.Errorf("Destroy, then again: got %v, want nil", err)
		}
	}
}

func checkDestroyOthers(r *run) {
	gone, kept := r.id(), r.id()
	r.create(gone, r.alg)
	k := r.create(kept, r.alg)
	if err := r.Backend.Destroy(r.Context(), gone); err != nil {
		r.Fatalf("Destroy: got %v, want nil", err)
	}
	r.signs(k, r.alg, k.Public(), []byte("not me"))
	r.signs(r.open(kept, r.alg), r.alg, k.Public(), []byte("not me"))
}

func checkCreateAfterDestroy(r *run) {
	id := r.id()
	old := r.create(id, r.alg)
	if err := r.Backend.Destroy(r.Context(), id); err != nil {
		r.Fatalf("Destroy: got %v, want nil", err)
	}
	k := r.create(id, r.alg)
	if same(old.Public(), k.Public()) {
		r.Errorf("Create after Destroy brought the old key back")
	}
	r.signs(k, r.alg, k.Public(), []byte("the new key"))
	r.signRefused("through a handle to the destroyed key", old, signers.ErrNotFound)
}

func checkClose(r *run) {
	id := r.id()
	k := r.create(id, r.alg)
	for range 2 {
		if err := r.Backend.Close(); err != nil {
			r.Errorf("Close, then again: got %v, want nil", err)
		}
	}
	r.signRefused("after Close", k, signers.ErrClosed)
	if r.alg.Fits(k.Public()) != nil {
		r.Errorf("Public after Close no longer fits %s", r.alg)
	}
	made, err := r.Backend.Create(r.Context(), r.id(), r.alg)
	r.refuses("Create after Close", made, err, signers.ErrClosed)
	opened, err := r.Backend.Open(r.Context(), id, r.alg)
	r.refuses("Open after Close", opened, err, signers.ErrClosed)
	if err := r.Backend.Destroy(r.Context(), id); !errors.Is(err, signers.ErrClosed) {
		r.Errorf("Destroy after Close: got %v, want %q", err, signers.ErrClosed)
	}
}

func checkList(r *run) {
	lister, ok := r.Backend.(signers.Lister)
	if !ok {
		r.Logf("not a signers.Lister: nothing to check")
		return
	}
	kept, gone := r.id(), r.id()
	r.create(kept, r.alg)
	r.create(gone, r.alg)
	r.lists(lister, kept, 1)
	r.lists(lister, gone, 1)
	if err := r.Backend.Destroy(r.Context(), gone); err != nil {
		r.Fatalf("Destroy: got %v, want nil", err)
	}
	r.lists(lister, kept, 1)
	r.lists(lister, gone, 0)
	_ = r.Backend.Close() // checkClose looks at its result
	if _, err := lister.List(r.Context()); !errors.Is(err, signers.ErrClosed) {
		r.Errorf("List after Close: got %v, want %q", err, signers.ErrClosed)
	}
}

// lists reports an error unless id is in the list n times.
func (r *run) lists(l signers.Lister, id signers.KeyID, n int) {
	r.Helper()
	ids, err := l.List(r.Context())
	if err != nil {
		r.Fatalf("List: got %v, want the ids", err)
	}
	got := len(slices.DeleteFunc(ids, func(x signers.KeyID) bool { return x != id }))
	if got != n {
		r.Errorf("List has %q %d times, want %d", id, got, n)
	}
}

func checkReopen(r *run) {
	if r.Reopen == nil {
		r.Logf("keys do not outlive this back-end: nothing to check")
		return
	}
	kept, gone := r.id(), r.id()
	before := r.create(kept, r.alg)
	r.create(gone, r.alg)
	if err := r.Backend.Destroy(r.Context(), gone); err != nil {
		r.Fatalf("Destroy: got %v, want nil", err)
	}
	r.restart()
	after := r.open(kept, r.alg)
	if !same(before.Public(), after.Public()) {
		r.Errorf("another public key after a restart")
	}
	r.signs(after, r.alg, before.Public(), []byte("after a restart"))
	r.signRefused("through a handle from before the restart", before, signers.ErrClosed)
	k, err := r.Backend.Create(r.Context(), kept, r.alg)
	r.refuses("Create of a key from before the restart", k, err, signers.ErrExists)
	k, err = r.Backend.Open(r.Context(), gone, r.alg)
	r.refuses("Open of a key destroyed before the restart", k, err, signers.ErrNotFound)
}
