package softkey

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/signers"
)

const delay = 2 * time.Millisecond

// slow returns a key that takes 2 ms on one of n sessions.
func slow(t *testing.T, n int) (*Backend, signers.Key) {
	b := mustOpen(t, Options{Faults: Faults{Delay: delay, Sessions: n}})
	return b, create(t, b, "slow")
}

// TestDelayedSessionsKeepTheirRate: 16 sessions of 2 ms sign 8,000 a second,
// to the millisecond. The clock of synctest stands still while anybody works,
// so waiting costs nothing else.
func TestDelayedSessionsKeepTheirRate(t *testing.T) {
	for _, callers := range []int{1, 16, 64} {
		synctest.Test(t, func(t *testing.T) {
			_, k := slow(t, 16)
			began := time.Now()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range 640 / callers {
						if err := signAndVerify(t.Context(), k, signers.ECDSAP256); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			want := time.Duration(640/min(callers, 16)) * delay
			if got := time.Since(began); got != want {
				t.Errorf("640 signatures for %d callers took %v, want %v", callers, got, want)
			}
		})
	}
}

func TestCallersAreServedInTheOrderTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k := slow(t, 1)
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				k.Sign(t.Context(), nil)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait()
		}
		wg.Wait()
		if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, order); diff != "" {
			t.Errorf("order served (-want +got):\n%s", diff)
		}
	})
}

// TestACallerMayGoAway from the line at once, or from its signature: the HSM
// then goes on with it all the same.
func TestACallerMayGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k := slow(t, 1)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), delay/2)
		defer cancel()
		var wg sync.WaitGroup
		for range 3 { // one signs, two are in line
			wg.Go(func() {
				if _, err := k.Sign(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Sign: got %v, want %v", err, context.DeadlineExceeded)
				}
			})
		}
		wg.Wait()
		if got := time.Since(began); got != delay/2 {
			t.Errorf("the callers were held for %v, want %v", got, delay/2)
		}
		if _, err := k.Sign(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if got := time.Since(began); got != 2*delay {
			t.Errorf("the next signature was ready after %v, want %v", got, 2*delay)
		}
	})
}

func TestTheTimetableOfASession(t *testing.T) {
	const due = time.Hour
	tests := []struct {
		name           string
		s              session
		now, wantStart time.Duration // after due
	}{
		{"a new session starts now", session{}, 0, 0},
		{"a late timer is made up for", session{until: due, late: 300 * time.Microsecond}, 300 * time.Microsecond, 0},
		{"a caller that dawdles is not", session{until: due, late: 300 * time.Microsecond}, 5 * time.Millisecond, 4700 * time.Microsecond},
		{"a caller in line starts when the session is free", session{until: due, line: true}, 700 * time.Microsecond, 0},
		{"but not long before", session{until: due, line: true}, 5 * time.Millisecond, 3 * time.Millisecond},
		{"a session still busy is waited for", session{until: due}, -time.Millisecond, 0},
	}
	for _, tt := range tests {
		if got := tt.s.start(due+tt.now, delay) - due; got != tt.wantStart {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.wantStart)
		}
	}
}

func TestWithoutSessionsEveryCallerWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustOpen(t, Options{Faults: Faults{Delay: delay}})
		k := create(t, b, "slow")
		began := time.Now()
		if err := signAndVerify(t.Context(), k, signers.ECDSAP256); err != nil {
			t.Error(err)
		}
		if got := time.Since(began); got != delay {
			t.Errorf("Sign took %v, want %v", got, delay)
		}
	})
}

func TestCloseWaitsForASlowSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, k := slow(t, 1)
		began := time.Now()
		go func() {
			if err := signAndVerify(t.Context(), k, signers.ECDSAP256); err != nil {
				t.Errorf("Sign under way: %v", err)
			}
		}()
		synctest.Wait()
		b.Close()
		if got := time.Since(began); got != delay {
			t.Errorf("Close returned after %v, want %v", got, delay)
		}
	})
}

func TestDestroyStopsASlowSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, k := slow(t, 1)
		go func() {
			if _, err := k.Sign(t.Context(), nil); !errors.Is(err, signers.ErrNotFound) {
				t.Errorf("Sign that was waiting: got %v, want ErrNotFound", err)
			}
		}()
		synctest.Wait()
		if err := b.Destroy(t.Context(), "slow"); err != nil {
			t.Error(err)
		}
		b.Close() // waits for the signature
	})
}

func TestFailEvery(t *testing.T) {
	b := mustOpen(t, Options{Faults: Faults{FailEvery: 3}})
	k := create(t, b, "pay")
	var failed []int
	for i := 1; i <= 9; i++ {
		err := signAndVerify(t.Context(), k, signers.ECDSAP256)
		if errors.Is(err, signers.ErrUnavailable) {
			failed = append(failed, i)
		} else if err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(failed, []int{3, 6, 9}) {
		t.Errorf("failed: got %v, want 3, 6 and 9", failed)
	}
}

// TestWrongSignaturesHaveTheRightForm, so that only verifying finds them out.
func TestWrongSignaturesHaveTheRightForm(t *testing.T) {
	for _, alg := range []signers.Algorithm{signers.ECDSAP256, signers.Ed25519, "rsa2048-pss-sha256", "rsa2048-pkcs1-sha256"} {
		b := mustOpen(t, Options{})
		k, err := b.Create(t.Context(), "pay", alg)
		if err != nil {
			t.Fatal(err)
		}
		good, err := k.Sign(t.Context(), []byte("a message"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []Faults{{WrongSignature: true}, {WrongKey: true}} {
			b.SetFaults(f)
			bad, err := k.Sign(t.Context(), []byte("a message"))
			if err != nil {
				t.Errorf("%s: Sign: got %v, want a wrong signature", alg, err)
			}
			if err := alg.Verify(k.Public(), []byte("a message"), bad); !errors.Is(err, signers.ErrBadSignature) {
				t.Errorf("%s, %+v: Verify: got %v, want ErrBadSignature", alg, f, err)
			}
			if _, ecdsa := alg.RawLength(); ecdsa != nil && len(bad) != len(good) {
				t.Errorf("%s, %+v: got %d bytes, want %d", alg, f, len(bad), len(good))
			} else if _, err := alg.RawFromDER(bad); ecdsa == nil && err != nil {
				t.Errorf("%s, %+v: not DER: %v", alg, f, err)
			}
		}
	}
}

func TestErrAfterCreateLeavesTheKey(t *testing.T) {
	b := mustOpen(t, Options{Faults: Faults{ErrAfterCreate: true}})
	if k, err := b.Create(t.Context(), "pay", signers.Ed25519); !errors.Is(err, signers.ErrUnavailable) || k != nil {
		t.Errorf("Create: got %v and %v, want ErrUnavailable alone", k, err)
	}
	if _, err := b.Create(t.Context(), "pay", signers.Ed25519); !errors.Is(err, signers.ErrExists) {
		t.Errorf("Create again: got %v, want ErrExists", err)
	}
	if err := signAndVerify(t.Context(), mustKey(t, b, "pay", signers.Ed25519), signers.Ed25519); err != nil {
		t.Error(err)
	}
}

func TestUnavailableUntilItIsNot(t *testing.T) {
	b := mustOpen(t, Options{})
	k := create(t, b, "pay")
	b.SetFaults(Faults{Unavailable: true})
	_, errCreate := b.Create(t.Context(), "other", signers.Ed25519)
	_, errOpen := b.Open(t.Context(), "pay", signers.ECDSAP256)
	_, errSign := k.Sign(t.Context(), nil)
	_, errList := b.List(t.Context())
	for i, err := range []error{errCreate, errOpen, errSign, errList, b.Destroy(t.Context(), "pay")} {
		if !errors.Is(err, signers.ErrUnavailable) {
			t.Errorf("call %d: got %v, want ErrUnavailable", i, err)
		}
	}
	b.SetFaults(Faults{})
	if err := signAndVerify(t.Context(), k, signers.ECDSAP256); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

// BenchmarkSign shows what the delay costs in earnest: 16 sessions of 2 ms
// make 8,000 signatures a second, at 16 callers and at 64.
func BenchmarkSign(b *testing.B) {
	tests := []struct {
		name   string
		many   int
		faults Faults
	}{
		{"as it is, 1 caller", 1, Faults{}},
		{"2 ms on 16 sessions, 16 callers", 16, Faults{Delay: delay, Sessions: 16}},
		{"2 ms on 16 sessions, 64 callers", 64, Faults{Delay: delay, Sessions: 16}},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			s, err := Open(b.Context(), Options{Faults: tt.faults})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			k, err := s.Create(b.Context(), "bench", signers.ECDSAP256)
			if err != nil {
				b.Fatal(err)
			}
			jobs := make(chan struct{}, b.N)
			for range b.N {
				jobs <- struct{}{}
			}
			close(jobs)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range tt.many {
				wg.Go(func() {
					for range jobs {
						if _, err := k.Sign(b.Context(), []byte("a message")); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sign/s")
		})
	}
}
