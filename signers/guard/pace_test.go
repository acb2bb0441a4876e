package guard_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/guard"
)

// TestEachKindOfKeyHasItsOwnPace: a service counts them apart, and one that is
// over its quota must not hold up the other.
func TestEachKindOfKeyHasItsOwnPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, ecc := guarded(t, guard.Config{RateRSA: 2, RateECC: 20})
		_, err := b.Create(t.Context(), "pay-rsa", "rsa2048-pss-sha256")
		if err != nil {
			t.Fatal(err)
		}
		ed, err := b.Create(t.Context(), "pay-ed", signers.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		rsa, err := b.Open(t.Context(), "pay-rsa", "rsa2048-pss-sha256")
		if err != nil {
			t.Fatal(err)
		}
		took := func(keys ...signers.Key) time.Duration {
			begun := time.Now()
			for range 20 {
				for _, k := range keys {
					wants(t, k, nil)
				}
			}
			return time.Since(begun).Round(100 * time.Millisecond)
		}
		if got := took(ecc, ed); got != 1900*time.Millisecond {
			t.Errorf("40 signatures on curves at 20 a second took %v, want 1.9 s", got)
		}
		if got := took(rsa); got != 9500*time.Millisecond {
			t.Errorf("20 signatures with RSA at 2 a second took %v, want 9.5 s", got)
		}
	})
}

// TestCallersWaitInTurnAndWithinTheirDeadline: who came first signs first, and
// who can't be served in time is told at once.
func TestCallersWaitInTurnAndWithinTheirDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, key := guarded(t, guard.Config{RateECC: 10})
		begun := time.Now()
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 1550*time.Millisecond)
				defer cancel()
				_, err := key.Sign(ctx, []byte("pay"))
				switch {
				case err == nil:
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
				case !errors.Is(err, signers.ErrBusy):
					t.Errorf("caller %d: got %v, want ErrBusy", i, err)
				case time.Since(begun) != 0:
					t.Errorf("caller %d was refused after %v, want at once", i, time.Since(begun))
				}
			})
			synctest.Wait() // the next comes later
		}
		all.Wait()
		if len(order) != 16 || !slices.IsSorted(order) {
			t.Errorf("served %v, want the first 16, in turn", order)
		}
	})
}
