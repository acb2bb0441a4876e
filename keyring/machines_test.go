package keyring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/signers"
)

// TestSigningNeverFailsDuringARotation signs without a pause while the key is
// rotated again and again. Every signature is one by the version that was taken,
// and verifiers are shown that version.
func TestSigningNeverFailsDuringARotation(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	for range 5 {
		var stop atomic.Bool
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for again := true; again; again = !stop.Load() {
					signs(t, w.current("pay"))
					w.visible(w.current("pay").Kid())
				}
			})
		}
		w.rotate()
		stop.Store(true)
		all.Wait()
		w.clock.turn(drain + time.Second)
	}
	w.sound()
}

// visible wants a kid among those that verifiers are shown.
func (w *world) visible(kid string) {
	w.Helper()
	shown, err := w.Verifiers("pay")
	for _, v := range shown {
		if v.Kid == kid {
			return
		}
	}
	w.Errorf("a token names kid %q, which verifiers are not shown (%v)", kid, err)
}

// TestNothingSignsAfterRevokeHasReturned has many sign meanwhile.
func TestNothingSignsAfterRevokeHasReturned(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	var revoked atomic.Bool
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				after := revoked.Load() // it had returned before Sign began
				_, err := k.Sign(t.Context(), []byte("pay"))
				if after && err == nil {
					t.Error("a revoked version signed")
				}
				if after {
					return
				}
				if err != nil && !errors.Is(err, ErrRevoked) {
					t.Errorf("Sign: %v", err)
				}
			}
		})
	}
	must(t)(w.Revoke(t.Context(), "pay", 1))
	revoked.Store(true)
	all.Wait()
}

// TestLookingUpAndSigningWaitForNoChange holds a save up.
func TestLookingUpAndSigningWaitForNoChange(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	saving, release := make(chan struct{}), make(chan struct{})
	w.shop.wait = func() { saving <- struct{}{}; <-release }
	rotated := make(chan error)
	go func() { rotated <- rotate(w) }()
	<-saving
	signs(t, w.current("pay"))
	w.shown("1 signing")
	w.wantStates("pay", Signing) // what is not saved is not shown
	if _, err := w.Named("pay", k.Kid()); err != nil {
		t.Errorf("Named: %v", err)
	}
	close(release)
	<-saving
	if err := <-rotated; err != nil {
		t.Errorf("Rotate: %v", err)
	}
}

// TestAChangeOfOneKeyWaitsForNoOther holds the making of one key up.
func TestAChangeOfOneKeyWaitsForNoOther(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	w.signer("rent")
	asked, answer := w.hold()
	rotated := make(chan error)
	go func() { rotated <- rotate(w) }()
	<-asked
	must(t)(w.Retire(t.Context(), "rent", 1, keep))
	ctx, leave := context.WithCancel(t.Context())
	leave()
	_, err := w.Destroy(ctx, "pay", 2, "") // one at a time makes or destroys; nobody has to wait for ever
	is(t, err, context.Canceled)
	answer()
	if err := <-rotated; err != nil {
		t.Errorf("Rotate: %v", err)
	}
}

// TestAKeyThatIsBeingMadeIsNotDestroyed asks for both at once. Whichever comes
// first, no key is left that its record calls destroyed.
func TestAKeyThatIsBeingMadeIsNotDestroyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.signer("pay")
		_, answer := w.hold()
		go rotate(w)
		synctest.Wait()
		v, _ := w.version("pay", 2)
		destroyed := make(chan error)
		go func() { destroyed <- second(w.Destroy(t.Context(), "pay", 2, string(v.ID))) }()
		synctest.Wait()
		answer()
		is(t, <-destroyed, ErrUnknownKid) // it has a kid by now
		w.wantStates("pay", Signing, Published)
		w.sound()
	})
}

// TestAnotherMachineSeesEachChange stands two rings on one store.
func TestAnotherMachineSeesEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := w.another()
		defer other.Close()
		w.signer("pay")
		synctest.Wait()
		there, err := other.Current("pay")
		if err != nil {
			t.Fatalf("Current on the other machine: %v", err)
		}
		signs(t, there)
		w.rotate()
		synctest.Wait()
		signs(t, there) // for the drain
		must(t)(w.Revoke(t.Context(), "pay", 1))
		synctest.Wait()
		refuses(t, there, ErrRevoked)
		after, err := other.Current("pay")
		if err != nil || after.Version() != 2 {
			t.Errorf("Current on the other machine: got %v, %v; want version 2", after, err)
		}
	})
}

// TestAQuarantineHoldsOnEveryMachine lies to one only.
func TestAQuarantineHoldsOnEveryMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.signer("pay")
		other := w.another()
		defer other.Close()
		w.token.set(func(b *token) { b.lies = true })
		refuses(t, k, ErrBadSignature)
		w.token.set(func(b *token) { b.lies = false })
		synctest.Wait()
		_, err := other.Current("pay")
		is(t, err, ErrQuarantined)
	})
}

// TestTwoMachinesThatChangeAtOnceDoNotUndoEachOther lets a ring that has not
// heard of a revocation change the same record.
func TestTwoMachinesThatChangeAtOnceDoNotUndoEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.signer("pay")
		must(t)(w.Rotate(t.Context(), "pay"))
		synctest.Wait() // the ring has heard of its own change
		e, rev, _ := w.shop.Load(t.Context(), "pay")
		e.Versions[0].State = Revoked
		w.deaf()
		if _, err := w.shop.Save(t.Context(), "pay", e, rev); err != nil {
			t.Fatal(err)
		}
		_, err := w.Activate(t.Context(), "pay", 2, Activation{Early: true})
		is(t, err, ErrConflict)
		w.wantStates("pay", Revoked, Published) // seen at once, without a restart
		must(t)(w.Activate(t.Context(), "pay", 2, Activation{Early: true}))
		w.wantStates("pay", Revoked, Signing)
	})
}

// TestAQuarantineIsSavedOverAnotherMachinesChange lets a ring that has not
// heard of a new version find a wrong signature.
func TestAQuarantineIsSavedOverAnotherMachinesChange(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	w.deaf()
	other := w.another()
	must(t)(other.Rotate(t.Context(), "pay"))
	other.Close()
	w.token.set(func(b *token) { b.lies = true })
	refuses(t, k, ErrBadSignature)
	e, _, _ := w.shop.Load(t.Context(), "pay")
	if len(e.Versions) != 2 || e.Versions[0].Quarantined == "" {
		t.Errorf("the record: got %v, want two versions, the first in quarantine", e.Versions)
	}
}

// deaf keeps saves from being told.
func (w *world) deaf() {
	w.shop.mu.Lock()
	defer w.shop.mu.Unlock()
	clear(w.shop.watchers)
}

// TestARecordThatWasHarmedLaterIsNotTakenOver shows that a bad record of one
// key, or of another machine's making, changes nothing that is known.
func TestARecordThatWasHarmedLaterIsNotTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.signer("pay")
		w.signer("rent")
		rent := w.current("rent")
		for name, harm := range map[string]func(*Entry){
			"another id":         func(e *Entry) { e.Versions[0].ID = "pay-v1-0badcafe" },
			"another key's kid":  func(e *Entry) { e.Versions[0].Kid = rent.Kid() },
			"no versions":        func(e *Entry) { e.Versions = nil; e.Algorithm = "rot13" },
			"a state that is no": func(e *Entry) { e.Versions[0].State = "lost" },
		} {
			e, rev, _ := w.shop.Load(t.Context(), "pay")
			good := e.clone()
			harm(&e)
			before := fmt.Sprint(w.List())
			w.shop.Save(t.Context(), "pay", e, rev)
			synctest.Wait()
			if now := w.current("pay"); now != k {
				t.Errorf("%s: got another handle, want the one from before", name)
			}
			if now := fmt.Sprint(w.List()); now != before {
				t.Errorf("%s: got the records %s, want those from before: %s", name, now, before)
			}
			signs(t, k)
			w.shop.Save(t.Context(), "pay", good, rev+1)
			synctest.Wait()
		}
	})
}

// TestABackendThatGivesAKeyOutTwiceIsRefused would give two names one kid.
func TestABackendThatGivesAKeyOutTwiceIsRefused(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	w.Close()
	r, err := Open(t.Context(), w.shop, map[string]signers.Backend{"hsm": &oneKey{w.token, k.id}}, w.opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	w.Ring = r
	_, err = w.Create(t.Context(), "rent", spec)
	is(t, err, signers.ErrMismatch)
	w.wantStates("rent", Creating)
}

// oneKey gives the same key out under every id.
type oneKey struct {
	*token
	id signers.KeyID
}

func (b *oneKey) Create(ctx context.Context, _ signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	return b.Open(ctx, b.id, alg)
}

// TestANameWhoseRecordIsGoneDoesNotStopTheStart has a store list what is
// removed before it is loaded.
func TestANameWhoseRecordIsGoneDoesNotStopTheStart(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	w.shop.ghosts = []string{"gone"}
	w.restart()
	signs(t, w.current("pay"))
	_, err := w.Current("gone")
	is(t, err, ErrUnknownKey)
	if all := w.List(); len(all) != 1 {
		t.Errorf("List: got %v, want one record", all)
	}
}

func TestListIsSortedAndACopy(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"rent", "pay", "tax"} {
		w.signer(name)
	}
	all := w.List()
	if names := fmt.Sprint(all[0].Name, all[1].Name, all[2].Name); names != "payrenttax" {
		t.Errorf("List: got %s, want them by name", names)
	}
	all[0].Versions[0].State = Revoked
	w.wantStates("pay", Signing)
	signs(t, w.current("pay"))
}
