package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/signers"
)

// shown wants verifiers to be shown exactly these: "1 signing".
func (w *world) shown(want ...string) {
	w.Helper()
	all, err := w.Verifiers("pay")
	if err != nil {
		w.Fatalf("Verifiers: %v", err)
	}
	var got []string
	for _, v := range all {
		got = append(got, fmt.Sprint(v.Number, " ", v.State))
		if kid, err := Thumbprint(v.Public); err != nil || kid != v.Kid || v.Algorithm != spec.Algorithm {
			w.Errorf("Verifiers: version %d has kid %q and a public key of %q (%v)", v.Number, v.Kid, kid, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("Verifiers (-want +got):\n%s", diff)
	}
}

func TestTheLifeOfAKey(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	first := must(t)(w.Create(ctx, "pay", spec))
	w.shown("1 published")
	_, err := w.Current("pay")
	is(t, err, ErrNoSigner)
	_, err = w.Named("pay", first.Kid)
	is(t, err, ErrNoSigner)

	must(t)(w.Activate(ctx, "pay", 1, Activation{})) // nobody holds a set without it
	w.shown("1 signing")
	signs(t, w.current("pay"))

	second := must(t)(w.Rotate(ctx, "pay"))
	w.shown("1 signing", "2 published")
	if w.current("pay").Kid() != first.Kid {
		t.Errorf("after Rotate: got version %d signing, want 1", w.current("pay").Version())
	}
	_, err = w.Activate(ctx, "pay", 2, Activation{Keep: keep})
	is(t, err, ErrTooEarly)
	w.shown("1 signing", "2 published")

	w.clock.turn(leadTime + time.Second)
	must(t)(w.Activate(ctx, "pay", 2, Activation{Keep: keep}))
	w.shown("1 retired", "2 signing")
	if w.current("pay").Kid() != second.Kid {
		t.Errorf("after Activate: got version %d signing, want 2", w.current("pay").Version())
	}
	_, err = w.Destroy(ctx, "pay", 1, first.Kid)
	is(t, err, ErrTooEarly)

	w.clock.turn(drain + keep + 2*time.Second)
	w.shown("2 signing")
	must(t)(w.Destroy(ctx, "pay", 1, first.Kid))
	must(t)(w.Revoke(ctx, "pay", 2))
	w.shown()
	must(t)(w.Destroy(ctx, "pay", 2, second.Kid))
	w.wantStates("pay", Destroyed, Destroyed)
	if left := w.token.ids(); len(left) != 0 {
		t.Errorf("the back-end still holds %q", left)
	}
	w.wantMoves(" 1 creating", "creating 1 published", "published 1 signing", " 2 creating", "creating 2 published",
		"signing 1 retired", "published 2 signing", "retired 1 destroyed", "signing 2 revoked", "revoked 2 destroyed")
}

func (w *world) wantMoves(want ...string) {
	w.Helper()
	var got []string
	for _, m := range w.moves {
		got = append(got, fmt.Sprint(m.From, " ", m.Version, " ", m.To))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("journal (-want +got):\n%s", diff)
	}
}

// TestTimesAreOnRecordAndNeverShort shows that cutting to whole seconds takes
// nothing off the lead time, the drain or what verifiers need.
func TestTimesAreOnRecordAndNeverShort(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	must(t)(w.Rotate(ctx, "pay"))
	for range 10 {
		if _, err := w.Activate(ctx, "pay", 2, Activation{}); !errors.Is(err, ErrTooEarly) {
			t.Fatalf("Activate at %v, soon after Rotate: got %v, want ErrTooEarly", w.clock.Now(), err)
		}
		w.clock.turn(leadTime / 10)
	}
	w.clock.turn(100 * time.Millisecond) // the record says that it was published a moment earlier
	_, err := w.Activate(ctx, "pay", 2, Activation{})
	is(t, err, ErrTooEarly)
	w.clock.turn(time.Second)
	old := w.current("pay")
	must(t)(w.Activate(ctx, "pay", 2, Activation{Keep: keep}))
	w.clock.turn(drain)
	signs(t, old)
	w.clock.turn(keep) // the token of just now is still good
	w.shown("1 retired", "2 signing")
	_, err = w.Destroy(ctx, "pay", 1, old.Kid())
	is(t, err, ErrTooEarly)
	for _, e := range w.List() {
		for _, v := range e.Versions {
			for _, at := range []time.Time{v.Created, v.Published, v.Activated, v.Retired, v.Drained, v.Unpublish} {
				if at.Nanosecond() != 0 || at.Location() != time.UTC {
					t.Errorf("version %d has the time %v on record, want whole seconds in UTC", v.Number, at)
				}
			}
		}
	}
}

func TestTheLeadTimeMayBeSkippedOnPurpose(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	must(t)(w.Rotate(ctx, "pay"))
	must(t)(w.Activate(ctx, "pay", 2, Activation{Early: true}))
	w.wantStates("pay", Retired, Signing)
}

func TestARotationWaitsForTheDrain(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	w.rotate()
	_, err := w.Rotate(ctx, "pay")
	is(t, err, ErrTooEarly)
	w.clock.turn(drain)
	_, err = w.Rotate(ctx, "pay")
	is(t, err, ErrTooEarly)
	w.clock.turn(time.Second)
	must(t)(w.Rotate(ctx, "pay"))
	_, err = w.Rotate(ctx, "pay")
	is(t, err, ErrIllegalMove) // one is staged
	w.wantStates("pay", Retired, Signing, Published)
}

func TestARetiredKeyHasNoSignerUntilTheNext(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	must(t)(w.Retire(ctx, "pay", 1, keep))
	_, err := w.Current("pay")
	is(t, err, ErrNoSigner)
	w.shown("1 retired")
	w.clock.turn(drain + time.Second)
	w.rotate()
	w.shown("1 retired", "2 signing")
}

func TestDestroyWantsTheWholeKid(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	kid := w.signer("pay").Kid()
	must(t)(w.Revoke(ctx, "pay", 1))
	for _, wrong := range []string{"", kid[:42], kid + "A", "pay"} {
		_, err := w.Destroy(ctx, "pay", 1, wrong)
		is(t, err, ErrUnknownKid)
	}
	if len(w.token.ids()) != 1 {
		t.Error("a key was destroyed whose kid was not given")
	}
	must(t)(w.Destroy(ctx, "pay", 1, kid))
}

func TestADestroyedKeyNeverComesBack(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	kid := w.signer("pay").Kid()
	must(t)(w.Revoke(ctx, "pay", 1))
	must(t)(w.Destroy(ctx, "pay", 1, kid))
	_, err := w.Create(ctx, "pay", spec)
	is(t, err, ErrExists)
	_, err = w.Named("pay", kid)
	is(t, err, ErrRevoked)
	if v := must(t)(w.Rotate(ctx, "pay")); v.Number != 2 || v.Kid == kid {
		t.Errorf("Rotate: got version %d with kid %q, want a new one", v.Number, v.Kid)
	}
	w.wantStates("pay", Destroyed, Published)
}

func TestWhatIsUnknownIsSaidToBe(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	_, err := w.Current("rent")
	is(t, err, ErrUnknownKey)
	_, err = w.Rotate(ctx, "rent")
	is(t, err, ErrUnknownKey)
	_, err = w.Verifiers("rent")
	is(t, err, ErrUnknownKey)
	_, err = w.Named("pay", "nobody's")
	is(t, err, ErrUnknownKid)
	for _, number := range []int{-1, 0, 2} {
		_, err = w.Revoke(ctx, "pay", number)
		is(t, err, ErrUnknownVersion)
		_, err = w.Activate(ctx, "pay", number, Activation{})
		is(t, err, ErrUnknownVersion)
		_, err = w.Destroy(ctx, "pay", number, "")
		is(t, err, ErrUnknownVersion)
	}
}

func TestCreateRefusesWhatCanNotBe(t *testing.T) {
	w := newWorld(t)
	for what, try := range map[string]func() (Version, error){
		"a bad name": func() (Version, error) { return w.Create(t.Context(), "../pay", spec) },
		"an unknown algorithm": func() (Version, error) {
			return w.Create(t.Context(), "pay", Spec{Backend: "hsm", Algorithm: "rot13", Format: "jwt"})
		},
		"an unknown back-end": func() (Version, error) {
			return w.Create(t.Context(), "pay", Spec{Backend: "kms", Algorithm: spec.Algorithm, Format: "jwt"})
		},
		"no format": func() (Version, error) {
			return w.Create(t.Context(), "pay", Spec{Backend: "hsm", Algorithm: spec.Algorithm, Format: ""})
		},
	} {
		if _, err := try(); err == nil {
			t.Errorf("Create with %s: got nil, want an error", what)
		}
	}
	w.opts.Rand = strings.NewReader("abc") // four bytes are needed
	w.restart()
	if _, err := w.Create(t.Context(), "pay", spec); err == nil {
		t.Error("Create without chance: got nil, want an error")
	}
	if len(w.List()) != 0 || len(w.token.ids()) != 0 {
		t.Errorf("got records %v and keys %v of what was refused", w.List(), w.token.ids())
	}
}

// TestANameIsFreeAfterAnAlgorithmThatTheBackendLacks shows that a refusal for
// good takes nothing.
func TestANameIsFreeAfterAnAlgorithmThatTheBackendLacks(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	_, err := w.Create(ctx, "pay", Spec{Backend: "hsm", Algorithm: signers.Ed25519, Format: "jwt"})
	is(t, err, signers.ErrUnsupported)
	w.wantStates("pay", Destroyed)
	v := must(t)(w.Create(ctx, "pay", spec))
	if v.Number != 2 || v.State != Published {
		t.Errorf("Create: got version %d %s, want 2 published", v.Number, v.State)
	}
	must(t)(w.Activate(ctx, "pay", 2, Activation{})) // no verifier holds a set without it
	signs(t, w.current("pay"))
}

// TestWithoutAJournalEntryNothingHappens fails each entry of each step in its
// turn: what stood on record when it was asked for stands there afterwards.
func TestWithoutAJournalEntryNothingHappens(t *testing.T) {
	for _, step := range life {
		t.Run(step.name, func(t *testing.T) {
			entries := 0
			for unjournalled(t, step, entries+1) {
				entries++
			}
			if entries == 0 {
				t.Error("no entry was asked for")
			}
		})
	}
}

// unjournalled fails the nth entry of a step; it is false if it has fewer.
func unjournalled(t *testing.T, step lifeStep, nth int) bool {
	full := errors.New("disk full")
	w := step.before(t)
	var record string
	var keys []signers.KeyID
	asked := 0
	w.opts.Journal = func(context.Context, Move) error {
		if asked++; asked != nth {
			return nil
		}
		record, keys = fmt.Sprint(w.List()), w.token.ids()
		return full
	}
	w.restart()
	err := step.do(w)
	if asked < nth {
		return false
	}
	is(t, err, full)
	if now := fmt.Sprint(w.List()); now != record || !slices.Equal(w.token.ids(), keys) {
		t.Errorf("what was not journalled was done: got %s with keys %q, want %s with %q", now, w.token.ids(), record, keys)
	}
	w.opts.Journal = nil
	w.restart()
	step.finish(t, w)
	return true
}

// TestARevocationThatIsNotSavedStopsTheKeyAllTheSame has every save fail, as a
// full disk does.
func TestARevocationThatIsNotSavedStopsTheKeyAllTheSame(t *testing.T) {
	w := newWorld(t)
	k := w.signer("pay")
	w.shop.power.arm(1, false, false)
	if _, err := w.Revoke(t.Context(), "pay", 1); !errors.Is(err, errCut) {
		t.Errorf("Revoke: got %v, want the save's error", err)
	}
	refuses(t, k, ErrRevoked)
	w.shop.power.on()
	refuses(t, k, ErrRevoked)
	must(t)(w.Revoke(t.Context(), "pay", 1))
	w.wantStates("pay", Revoked)
}

// TestAKeyStaysPublishedForTokensOfAnEarlierConfiguration shortens the longest
// lifetime before the version is retired.
func TestAKeyStaysPublishedForTokensOfAnEarlierConfiguration(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	for _, longest := range []time.Duration{keep, time.Minute} { // two starts
		if err := w.Outlive(ctx, "pay", longest); err != nil {
			t.Fatal(err)
		}
	}
	must(t)(w.Retire(ctx, "pay", 1, time.Minute))
	w.clock.turn(drain + keep)
	w.shown("1 retired")
	w.clock.turn(2 * time.Second)
	w.shown()
}
