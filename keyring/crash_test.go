package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/signers"
)

// A lifeStep is one step in the life of a key called pay.
type lifeStep struct {
	name string
	do   func(*world) error
	want []State
	turn time.Duration // how long to wait before it
}

// life is every step that changes a record or a back-end, in an order that
// is possible.
var life = []lifeStep{
	{"create", func(w *world) error { return second(w.Create(w.Context(), "pay", spec)) }, []State{Published}, 0},
	{"activate", activate(1), []State{Signing}, 0},
	{"rotate", rotate, []State{Signing, Published}, 0},
	{"activate the next", activate(2), []State{Retired, Signing}, leadTime + time.Second},
	{"rotate again", rotate, []State{Retired, Signing, Published}, drain + time.Second},
	{"revoke", func(w *world) error { return second(w.Revoke(w.Context(), "pay", 2)) }, []State{Retired, Revoked, Published}, 0},
	{"destroy what is revoked", destroy(2), []State{Retired, Destroyed, Published}, 0},
	{"destroy what is retired", destroy(1), []State{Destroyed, Destroyed, Published}, keep + time.Second},
	{"activate the last", activate(3), []State{Destroyed, Destroyed, Signing}, leadTime},
	{"retire", func(w *world) error { return second(w.Retire(w.Context(), "pay", 3, 0)) }, []State{Destroyed, Destroyed, Retired}, 0},
}

func second(_ Version, err error) error { return err }

func rotate(w *world) error { return second(w.Rotate(w.Context(), "pay")) }

func activate(number int) func(*world) error {
	return func(w *world) error {
		return second(w.Activate(w.Context(), "pay", number, Activation{Keep: keep}))
	}
}

func destroy(number int) func(*world) error {
	return func(w *world) error {
		v, err := w.version("pay", number)
		if err != nil {
			return err
		}
		return second(w.Destroy(w.Context(), "pay", number, v.Kid))
	}
}

// before is a world in which the step is the next.
func (s lifeStep) before(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for _, earlier := range life {
		w.clock.turn(earlier.turn)
		if earlier.name == s.name {
			return w
		}
		if err := earlier.do(w); err != nil {
			t.Fatalf("%s: %v", earlier.name, err)
		}
	}
	t.Fatalf("no step is called %q", s.name)
	return nil
}

// finish repeats the step, as whoever was told that it failed does, and wants
// what one that was never disturbed leaves.
func (s lifeStep) finish(t *testing.T, w *world) {
	t.Helper()
	w.sound()
	if err := s.do(w); err != nil && !slices.Equal(w.states("pay"), s.want) {
		t.Errorf("repeated: got %v", err)
	}
	w.wantStates("pay", s.want...)
	w.sound()
	kept, _, err := w.shop.Load(t.Context(), "pay")
	if shown := w.List(); err != nil || fmt.Sprint(shown) != fmt.Sprint([]Entry{kept}) {
		t.Errorf("the ring shows %v, the store has %v (%v)", shown, kept, err)
	}
}

// sound wants what must hold at every moment, a crash included: one signer at
// the most, kids that are unique, and no key in a back-end that no record
// would lead to.
func (w *world) sound() {
	w.Helper()
	kids, onRecord := map[string]int{}, map[signers.KeyID]State{}
	for _, e := range w.List() {
		signing := 0
		for _, v := range e.Versions {
			onRecord[v.ID] = v.State
			if v.State == Signing {
				signing++
			}
			if v.Kid != "" {
				kids[v.Kid]++
			}
		}
		if signing > 1 {
			w.Errorf("%q has %d versions that sign", e.Name, signing)
		}
	}
	for kid, n := range kids {
		if n > 1 {
			w.Errorf("kid %q stands on record %d times", kid, n)
		}
	}
	for _, id := range w.token.ids() {
		if state := onRecord[id]; state == "" || state == Destroyed {
			w.Errorf("the back-end has key %q, and the record says %q", id, state)
		}
	}
}

// TestACutAtAnyMomentIsMended cuts each step of a key's life at each save and
// each call of the back-end: before it is done, and after it was done but
// before the answer; as a crash that takes the whole process, and as one answer
// that is lost to a process that goes on. The step is then repeated.
func TestACutAtAnyMomentIsMended(t *testing.T) {
	for _, step := range life {
		for _, late := range []bool{false, true} {
			for _, crash := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, late %v, crash %v", step.name, late, crash), func(t *testing.T) {
					t.Parallel()
					cuts := 0
					for cutAt(t, step, cuts+1, late, crash) {
						cuts++
					}
					if cuts == 0 {
						t.Error("the step could not be cut anywhere")
					}
				})
			}
		}
	}
}

// cutAt cuts a step at its nth moment; it is false if it has fewer.
func cutAt(t *testing.T, step lifeStep, nth int, late, crash bool) bool {
	w := step.before(t)
	w.token.power.arm(nth, late, !crash)
	err := step.do(w)
	if w.token.power.on() < nth {
		if err != nil {
			t.Errorf("undisturbed: got %v", err)
		}
		return false
	}
	is(t, err, errCut)
	if crash {
		w.restart()
	}
	step.finish(t, w)
	w.restart()
	w.wantStates("pay", step.want...)
	w.sound()
	return true
}

// TestWhatWasBegunMayBeGivenUp revokes and destroys a version of which nobody
// knows whether the back-end has made it.
func TestWhatWasBegunMayBeGivenUp(t *testing.T) {
	for _, late := range []bool{false, true} {
		w, ctx := newWorld(t), t.Context()
		w.token.power.arm(2, late, false) // the intent is saved, then the back-end is asked
		_, err := w.Create(ctx, "pay", spec)
		is(t, err, errCut)
		w.restart()
		w.wantStates("pay", Creating)
		if made := len(w.token.ids()) == 1; made != late {
			t.Errorf("late %v: the back-end has %q", late, w.token.ids())
		}
		v, err := w.version("pay", 1)
		must(t)(v, err)
		_, err = w.Destroy(ctx, "pay", 1, "")
		is(t, err, ErrUnknownKid)
		must(t)(w.Destroy(ctx, "pay", 1, string(v.ID)))
		w.sound()
		if v := must(t)(w.Create(ctx, "pay", Spec{Backend: "hsm", Algorithm: signers.ECDSAP256, Format: "ssh"})); v.Number != 2 {
			t.Errorf("Create under a name that is free again: got version %d, want 2", v.Number)
		}
		w.sound()
	}
}

// TestARevokedVersionIsNotFinished shows that a back-end which answers late
// does not undo a revocation.
func TestARevokedVersionIsNotFinished(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.signer("pay")
	asked, answer := w.hold()
	made := make(chan error)
	go func() { made <- rotate(w) }()
	<-asked
	must(t)(w.Revoke(ctx, "pay", 2)) // does not wait for the back-end
	answer()
	is(t, <-made, ErrIllegalMove)
	w.wantStates("pay", Signing, Revoked)
	w.sound()
	v, _ := w.version("pay", 2)
	must(t)(w.Destroy(ctx, "pay", 2, string(v.ID)))
	w.sound()
}

// TestADestroyedKeyIsOnRecordThoughItsCallerHasLeft cancels the request while
// the back-end is at work.
func TestADestroyedKeyIsOnRecordThoughItsCallerHasLeft(t *testing.T) {
	w := newWorld(t)
	kid := w.signer("pay").Kid()
	must(t)(w.Revoke(t.Context(), "pay", 1))
	ctx, leave := context.WithCancel(t.Context())
	w.token.done = leave
	must(t)(w.Destroy(ctx, "pay", 1, kid))
	w.restart()
	w.wantStates("pay", Destroyed)
}

// TestACreateThatIsRepeatedMeanwhileMakesOneKey has two callers at once.
func TestACreateThatIsRepeatedMeanwhileMakesOneKey(t *testing.T) {
	w := newWorld(t)
	errs := make(chan error)
	for range 8 {
		go func() { errs <- second(w.Create(w.Context(), "pay", spec)) }()
	}
	made := 0
	for range 8 {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, ErrExists) {
			t.Errorf("Create: got %v, want nil or ErrExists", err)
		}
	}
	if made == 0 || len(w.token.ids()) != 1 {
		t.Errorf("%d of 8 made a key, and the back-end has %d; want at least one, and one", made, len(w.token.ids()))
	}
	w.wantStates("pay", Published)
	w.sound()
}
