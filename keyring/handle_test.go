package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/signers"
)

// hold makes the token wait with its answers: the first channel says that it
// was asked, and answer lets it go on.
func (w *world) hold() (asked <-chan struct{}, answer func()) {
	seen, release := make(chan struct{}, 100), make(chan struct{})
	w.token.set(func(b *token) {
		b.wait = func(ctx context.Context) error {
			seen <- struct{}{}
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return seen, func() {
		w.token.set(func(b *token) { b.wait = nil })
		close(release)
	}
}

func TestAHandleTakenBeforeARotationFinishesWhatWasBegun(t *testing.T) {
	w := newWorld(t)
	old := w.signer("pay")
	w.rotate()
	signs(t, old)
	w.clock.turn(drain)
	signs(t, old)
	if named, err := w.Named("pay", old.Kid()); err != nil || named != old {
		t.Errorf("Named within the drain: got %v, %v; want the old version", named, err)
	}
	w.clock.turn(time.Second)
	refuses(t, old, ErrRotated)
	_, err := w.Named("pay", old.Kid())
	is(t, err, ErrRotated)
	w.restart()
	_, err = w.Named("pay", old.Kid())
	is(t, err, ErrRotated)
	signs(t, w.current("pay"))
}

func TestADrainGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t)
	old := w.signer("pay")
	w.rotate()
	w.restart()
	again, err := w.Named("pay", old.Kid())
	if err != nil {
		t.Fatalf("Named: %v", err)
	}
	signs(t, again)
	if again == old {
		t.Error("a handle outlived its ring")
	}
}

func TestARevokedHandleStopsAtOnce(t *testing.T) {
	w := newWorld(t)
	draining := w.signer("pay")
	w.rotate()
	signing := w.current("pay")
	must(t)(w.Revoke(t.Context(), "pay", 1))
	refuses(t, draining, ErrRevoked)
	signs(t, signing)
	must(t)(w.Revoke(t.Context(), "pay", 2))
	refuses(t, signing, ErrRevoked)
	_, err := w.Named("pay", signing.Kid())
	is(t, err, ErrRevoked)
	must(t)(w.Destroy(t.Context(), "pay", 2, signing.Kid()))
	refuses(t, signing, ErrRevoked)
}

// TestASignatureUnderWayIsNotReleasedAfterARevocation shows that Revoke is the
// last word even when the back-end has begun.
func TestASignatureUnderWayIsNotReleasedAfterARevocation(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	asked, answer := w.hold()
	done := make(chan struct{})
	go func() {
		defer close(done)
		refuses(t, k, ErrRevoked)
	}()
	<-asked
	must(t)(w.Revoke(t.Context(), "pay", 1))
	answer()
	<-done
}

func TestAKeyThatTheBackendLostTrackOfIsLookedUpAgain(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	w.token.set(func(b *token) { b.lost = true })
	signs(t, k)
}

func TestAWrongSignatureIsNotReleasedAndEndsTheVersion(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	w.token.set(func(b *token) { b.lies = true })
	refuses(t, k, ErrBadSignature)
	refuses(t, k, ErrQuarantined)
	w.token.set(func(b *token) { b.lies = false })
	for _, when := range []string{"at once", "after a restart"} {
		_, err := w.Current("pay")
		is(t, err, ErrNoSigner)
		is(t, err, ErrQuarantined)
		_, err = w.Named("pay", k.Kid())
		is(t, err, ErrQuarantined)
		_, err = w.Activate(t.Context(), "pay", 1, Activation{})
		is(t, err, ErrQuarantined)
		w.wantProblem("quarantined")
		if t.Failed() {
			t.Fatal(when)
		}
		w.restart()
	}
	w.shown("1 signing") // what it signed before is good
	w.rotate()
	signs(t, w.current("pay"))
	must(t)(w.Revoke(t.Context(), "pay", 1))
	if all := w.Problems(); len(all) != 0 {
		t.Errorf("Problems after it was revoked: got %v, want none", all)
	}
}

// wantProblem wants the one problem to be that of pay's first version.
func (w *world) wantProblem(reason string) {
	w.Helper()
	all := w.Problems()
	if len(all) != 1 || all[0].Name != "pay" || all[0].Version != 1 || !strings.Contains(all[0].Reason, reason) {
		w.Errorf("Problems: got %v, want version 1 of pay: %s", all, reason)
	}
}

// TestAQuarantineThatWasNotSavedIsSavedWithTheNextChange loses the one save.
func TestAQuarantineThatWasNotSavedIsSavedWithTheNextChange(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	w.token.set(func(b *token) { b.lies = true })
	w.token.power.arm(3, false, true) // Sign, Sign again, then Save
	refuses(t, k, ErrBadSignature)
	w.token.set(func(b *token) { b.lies = false })
	refuses(t, k, ErrQuarantined)
	if e, _, _ := w.shop.Load(t.Context(), "pay"); e.Versions[0].Quarantined != "" {
		t.Fatal("the save was not lost")
	}
	must(t)(w.Rotate(t.Context(), "pay"))
	w.restart()
	_, err := w.Current("pay")
	is(t, err, ErrQuarantined)
}

// TestAQuarantineIsSavedThoughItsCallerHasLeft cancels the request while the
// back-end is at work.
func TestAQuarantineIsSavedThoughItsCallerHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.signer("pay")
		ctx, leave := context.WithCancel(t.Context())
		w.token.set(func(b *token) { b.lies, b.done = true, leave })
		_, err := k.Sign(ctx, []byte("pay"))
		is(t, err, ErrBadSignature)
		synctest.Wait()
		w.restart()
		w.wantProblem("quarantined")
	})
}

func TestAKeyThatWasReplacedDoesNotSign(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	w.signer("rent")
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	v, _ := w.version("pay", 1)
	w.token.set(func(b *token) { b.keys[v.ID] = other })
	w.restart()
	w.wantProblem(string(v.ID))
	refuses(t, w.current("pay"), signers.ErrMismatch)
	signs(t, w.current("rent"))
	must(t)(w.Rotate(t.Context(), "pay"))
	must(t)(w.Activate(t.Context(), "pay", 2, Activation{Early: true}))
	signs(t, w.current("pay"))
}

// TestAKeyThatWasReplacedWhileOpenDoesNotSign is found by the signature.
func TestAKeyThatWasReplacedWhileOpenDoesNotSign(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.token.set(func(b *token) { b.keys[k.id] = other })
	refuses(t, k, ErrBadSignature)
	w.wantProblem("quarantined")
}

// TestAVersionThatCanNotSignReplacesNoneThatCan loses the staged version's key.
func TestAVersionThatCanNotSignReplacesNoneThatCan(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	v := must(t)(w.Rotate(t.Context(), "pay"))
	w.token.set(func(b *token) { delete(b.keys, v.ID) })
	w.restart()
	_, err := w.Activate(t.Context(), "pay", 2, Activation{Early: true})
	is(t, err, signers.ErrNotFound)
	w.wantStates("pay", Signing, Published)
	signs(t, w.current("pay"))
}

// twoBackends is a ring with a key in each of two back-ends, restarted after
// the change.
func twoBackends(t *testing.T, harm func(*token)) *world {
	t.Helper()
	w := newWorld(t)
	w.signer("pay")
	w.signer("tax")
	cloud := newToken()
	backends := map[string]signers.Backend{"hsm": w.token, "cloud": cloud}
	open := func() {
		t.Helper()
		w.Close()
		r, err := Open(t.Context(), w.shop, backends, w.opts)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		w.Ring = r
	}
	open()
	must(t)(w.Create(t.Context(), "rent", Spec{Backend: "cloud", Algorithm: signers.ECDSAP256, Format: "jwt"}))
	must(t)(w.Activate(t.Context(), "rent", 1, Activation{}))
	w.token.set(harm)
	open()
	return w
}

func TestABackendThatIsDownStopsNoOther(t *testing.T) {
	w := twoBackends(t, func(b *token) { b.down = true })
	if all := w.Problems(); len(all) != 2 || all[0].Name != "pay" || all[1].Name != "tax" {
		t.Errorf("Problems: got %v, want pay's and tax's", all)
	}
	signs(t, w.current("rent"))
	refuses(t, w.current("pay"), signers.ErrUnavailable)
	must(t)(w.Retire(t.Context(), "tax", 1, keep)) // need not sign any more
	w.wantProblem("unavailable")
	w.token.set(func(b *token) { b.down = false })
	signs(t, w.current("pay"))
	if all := w.Problems(); len(all) != 0 {
		t.Errorf("Problems once it is back: got %v, want none", all)
	}
}

// TestABackendThatHangsStopsNoOther uses time that is not real.
func TestABackendThatHangsStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		w := twoBackends(t, func(b *token) { b.wait = hangs })
		if late := time.Since(began); late > moment {
			t.Errorf("Open waited %v, want at most %v", late, moment)
		}
		signs(t, w.current("rent"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.current("pay").Sign(ctx, []byte("pay"))
		is(t, err, context.DeadlineExceeded)
		refuses(t, w.current("pay"), signers.ErrUnavailable) // the ring's patience, not ours
		w.token.set(func(b *token) { b.wait = nil })
		signs(t, w.current("pay"))
		time.Sleep(patience) // the start is still at the other key
	})
}

// TestManyWaitForOneOpening spares a back-end that comes back a flood.
func TestManyWaitForOneOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.signer("pay")
		w.token.set(func(b *token) { b.down = true })
		w.restart()
		w.token.set(func(b *token) { b.down, b.opens = false, 0 })
		_, answer := w.hold()
		k := w.current("pay")
		impatient, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { _, err := k.Sign(impatient, []byte("pay")); left <- err }()
		synctest.Wait()
		done := make(chan struct{})
		for range 20 {
			go func() { signs(t, k); done <- struct{}{} }()
		}
		synctest.Wait()
		leave() // the one who began it does not take the others along
		is(t, <-left, context.Canceled)
		answer()
		for range 20 {
			<-done
		}
		if w.token.opens != 1 {
			t.Errorf("the back-end was asked %d times, want once", w.token.opens)
		}
	})
}

func TestAKeyWithoutItsBackendIsAProblemOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	r, err := Open(t.Context(), w.shop, nil, w.opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer r.Close()
	k, err := r.Current("pay")
	if err != nil {
		t.Fatalf("Current: %v", err)
	}
	refuses(t, k, signers.ErrUnavailable)
	if len(r.Problems()) != 1 {
		t.Errorf("Problems: got %v, want one", r.Problems())
	}
}

// TestAKeyThatWasJustMadeNeedNotBeOpened spares a slow back-end a question.
func TestAKeyThatWasJustMadeNeedNotBeOpened(t *testing.T) {
	w := newWorld(t)
	signs(t, w.signer("pay"))
	if w.token.opens != 0 {
		t.Errorf("the back-end was asked %d times for a key that it had just made", w.token.opens)
	}
}
