package keyring

import (
	"testing"
	"time"
)

// TestLookingUpAllocatesNothing, since it is done for each token.
func TestLookingUpAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	old := w.signer("pay")
	w.rotate()
	kid := w.current("pay").Kid()
	for what, look := range map[string]func() error{
		"Current":              func() error { _, err := w.Current("pay"); return err },
		"Named":                func() error { _, err := w.Named("pay", kid); return err },
		"Named while draining": func() error { _, err := w.Named("pay", old.Kid()); return err },
	} {
		if err := look(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := testing.AllocsPerRun(100, func() { _ = look() }); n != 0 {
			t.Errorf("%s: %v allocations, want none", what, n)
		}
	}
}

// TestWhatMaySignIsOpenAfterAStart, so that no request waits for an opening:
// the version that signs, the one that drains and the one that is staged.
func TestWhatMaySignIsOpenAfterAStart(t *testing.T) {
	w := newWorld(t)
	w.signer("pay")
	w.rotate()
	w.signer("rent")
	must(t)(w.Rotate(t.Context(), "rent"))
	for _, tt := range []struct {
		after time.Duration
		opens int
	}{{0, 4}, {drain + time.Second, 3}} {
		w.clock.turn(tt.after)
		w.token.set(func(b *token) { b.opens = 0 })
		w.restart()
		if w.token.opens != tt.opens {
			t.Errorf("a start %v after the rotation: opened %d keys, want %d", tt.after, w.token.opens, tt.opens)
		}
	}
}
