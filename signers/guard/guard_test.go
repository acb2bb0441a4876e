package guard_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/signertest"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/guard"
	"github.com/signetd/signet/signers/softkey"
)

var quiet = slog.New(slog.DiscardHandler)

// A moody back-end is softkey's, whose signatures go through do.
type moody struct {
	*softkey.Backend
	mu sync.Mutex
	do func(ctx context.Context, sign func() ([]byte, error)) ([]byte, error)
	n  atomic.Int64 // signatures asked for
}

func (m *moody) set(do func(context.Context, func() ([]byte, error)) ([]byte, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.do = do
}

func (m *moody) wrap(k signers.Key, err error) (signers.Key, error) { return &moodyKey{k, m}, err }

func (m *moody) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	return m.wrap(m.Backend.Create(ctx, id, alg))
}

func (m *moody) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	return m.wrap(m.Backend.Open(ctx, id, alg))
}

type moodyKey struct {
	signers.Key
	m *moody
}

func (k *moodyKey) Sign(ctx context.Context, message []byte) ([]byte, error) {
	k.m.n.Add(1)
	k.m.mu.Lock()
	do := k.m.do
	k.m.mu.Unlock()
	sign := func() ([]byte, error) { return k.Key.Sign(ctx, message) }
	if do == nil {
		return sign()
	}
	return do(ctx, sign)
}

// fails has every signature fail with err.
func fails(err error) func(context.Context, func() ([]byte, error)) ([]byte, error) {
	return func(context.Context, func() ([]byte, error)) ([]byte, error) { return nil, err }
}

// memory is a softkey without files.
func memory(t *testing.T) *softkey.Backend {
	t.Helper()
	b, err := softkey.Open(t.Context(), softkey.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// guarded is a moody back-end behind a guard, with a key.
func guarded(t *testing.T, cfg guard.Config) (*moody, *guard.Backend, signers.Key) {
	t.Helper()
	m := &moody{Backend: memory(t)}
	b := openGuard(t, m, cfg)
	t.Cleanup(func() { _ = b.Close() })
	key, err := b.Create(t.Context(), "pay", signers.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return m, b, key
}

// openGuard puts a guard before a back-end.
func openGuard(t *testing.T, m *moody, cfg guard.Config) *guard.Backend {
	t.Helper()
	cfg.Name, cfg.Log = "hsm", quiet
	b, err := guard.Open(t.Context(), cfg, func(context.Context) (signers.Backend, error) { return m, nil })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wants(t *testing.T, key signers.Key, want error) {
	t.Helper()
	if _, err := key.Sign(t.Context(), []byte("pay")); !errors.Is(err, want) {
		t.Errorf("Sign: got %v, want %v", err, want)
	}
}

func TestAGuardedBackendKeepsThePromises(t *testing.T) {
	conformance.Run(t, signertest.Checks(signers.ECDSAP256, signers.Ed25519), func(t *testing.T) signertest.Subject {
		cfg := guard.Config{Name: "hsm", Log: quiet, Rate: 2000, RateECC: 1000, Budget: openBudget(t, filepath.Join(t.TempDir(), "hsm"), 1000)}
		b, err := guard.Open(t.Context(), cfg, func(context.Context) (signers.Backend, error) { return memory(t), nil })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return signertest.Subject{Backend: b}
	})
}

func TestABulkheadRefusesWhatIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, key := guarded(t, guard.Config{InFlight: 3})
		release := make(chan struct{})
		m.set(func(_ context.Context, sign func() ([]byte, error)) ([]byte, error) { <-release; return sign() })
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { wants(t, key, nil) })
		}
		synctest.Wait()
		wants(t, key, signers.ErrBusy)
		if r := b.Report(); r.Refused != 1 || r.Waiting != 3 {
			t.Errorf("Report: %d refused and %d waiting, want 1 and 3", r.Refused, r.Waiting)
		}
		close(release)
		all.Wait()
		wants(t, key, nil) // there is room again, the refused one took none
	})
}

func TestABudgetSpreadsCallsAndRefusesWhoCanNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, key := guarded(t, guard.Config{Rate: 10})
		begun := time.Now()
		for range 25 {
			wants(t, key, nil)
		}
		if took := time.Since(begun); took < 2300*time.Millisecond || took > 2500*time.Millisecond {
			t.Errorf("25 signatures at 10 a second took %v, want 2.4 s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := key.Sign(ctx, []byte("pay")); !errors.Is(err, signers.ErrBusy) {
			t.Errorf("a caller in a hurry: got %v, want ErrBusy at once", err)
		}
	})
}

func TestABreakerRefusesAfterFailuresAndTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, key := guarded(t, guard.Config{Failures: 4, Pause: time.Second})
		m.set(fails(signers.ErrUnavailable))
		for range 10 {
			wants(t, key, signers.ErrUnavailable)
		}
		if n := m.n.Load(); n != 4 {
			t.Errorf("the back-end was asked %d times, want 4", n)
		}
		if r := b.Report(); r.State != "refusing" || r.Refused != 6 {
			t.Errorf("Report: got %q and %d refused, want refusing and 6", r.State, r.Refused)
		}
		time.Sleep(1100 * time.Millisecond)
		wants(t, key, signers.ErrUnavailable) // the one that is let through
		wants(t, key, signers.ErrUnavailable)
		if n := m.n.Load(); n != 5 {
			t.Errorf("after the pause the back-end was asked %d times, want once", n-4)
		}
		m.set(nil)
		time.Sleep(1100 * time.Millisecond)
		wants(t, key, nil)
		wants(t, key, nil)
	})
}

// TestCallersCanNotOpenTheBreaker: their deadlines and mistakes say nothing of
// the back-end.
func TestCallersCanNotOpenTheBreaker(t *testing.T) {
	m, _, key := guarded(t, guard.Config{Failures: 2})
	for _, err := range []error{context.DeadlineExceeded, context.Canceled, signers.ErrMismatch, signers.ErrNotFound, signers.ErrDenied} {
		m.set(fails(err))
		for range 5 {
			wants(t, key, err)
		}
	}
	m.set(nil)
	wants(t, key, nil)
}

func TestABackendThatIsAwayIsOpenedWhenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		inner := memory(t)
		b, err := guard.Open(t.Context(), guard.Config{Name: "hsm", Log: quiet}, func(context.Context) (signers.Backend, error) {
			if !there.Load() {
				return nil, signers.ErrUnavailable
			}
			return inner, nil
		})
		if err != nil {
			t.Fatalf("Open: got %v: a daemon must start while its HSM is away", err)
		}
		defer b.Close()
		if _, err := b.Create(t.Context(), "pay", signers.ECDSAP256); !errors.Is(err, signers.ErrUnavailable) {
			t.Errorf("Create: got %v, want ErrUnavailable", err)
		}
		if r := b.Report(); r.State != "down" {
			t.Errorf("Report: got %q, want down", r.State)
		}
		there.Store(true)
		time.Sleep(6 * time.Second) // the longest pause, and some
		if _, err := b.Create(t.Context(), "pay", signers.ECDSAP256); err != nil {
			t.Errorf("Create once it is there: %v", err)
		}
	})
}

// TestARefusedPINIsNotTriedAgain, neither at once nor later.
func TestARefusedPINIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		var refuses atomic.Bool
		open := func(context.Context) (signers.Backend, error) {
			tries.Add(1)
			if refuses.Load() {
				return nil, signers.ErrDenied
			}
			return nil, signers.ErrUnavailable
		}
		b, err := guard.Open(t.Context(), guard.Config{Name: "hsm", Log: quiet}, open)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		refuses.Store(true)
		time.Sleep(time.Minute)
		if n := tries.Load(); n != 2 {
			t.Errorf("the back-end was opened %d times, want none after it refused the PIN", n)
		}
		if _, err := guard.Open(t.Context(), guard.Config{Name: "hsm", Log: quiet}, open); !errors.Is(err, signers.ErrDenied) {
			t.Errorf("Open with a PIN that is refused: got %v, want ErrDenied", err)
		}
	})
}

func TestHealthIsARealSignatureThatVerifies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := guarded(t, guard.Config{})
		b.Watch(guard.Check{Algorithm: signers.ECDSAP256, Every: time.Second, Timeout: time.Second, Now: time.Now})
		defer b.Close()
		healthy := func(want bool) {
			t.Helper()
			if r := b.Report(); (r.CheckFailed == "") != want || r.Checked.IsZero() {
				t.Errorf("Report: check failed %q, at %v, want healthy: %t", r.CheckFailed, r.Checked, want)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		healthy(true)
		for name, harm := range map[string]func(context.Context, func() ([]byte, error)) ([]byte, error){
			"an error": fails(signers.ErrUnavailable),
			"a wrong signature": func(_ context.Context, sign func() ([]byte, error)) ([]byte, error) {
				sig, err := sign()
				sig[9] ^= 1
				return sig, err
			},
			"a hang": func(ctx context.Context, _ func() ([]byte, error)) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		} {
			m.set(harm)
			time.Sleep(10 * time.Second)
			healthy(false)
			before := m.n.Load()
			time.Sleep(time.Minute)
			if n := m.n.Load() - before; n > 10 {
				t.Errorf("%s: %d checks in a minute, want them to back off", name, n)
			}
			m.set(nil)
			time.Sleep(20 * time.Second)
			healthy(true)
		}
	})
}

// TestTheHealthKeyIsNobodysBusiness: it is not listed among the keys, and is
// made again if somebody tidied it up.
func TestTheHealthKeyIsNobodysBusiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := guarded(t, guard.Config{})
		b.Watch(guard.Check{Algorithm: signers.ECDSAP256, Every: time.Second, Now: time.Now})
		defer b.Close()
		time.Sleep(1500 * time.Millisecond)
		if ids, err := b.List(t.Context()); err != nil || !slices.Equal(ids, []signers.KeyID{"pay"}) {
			t.Errorf("List: got %v, %v, want pay alone", ids, err)
		}
		const health = signers.KeyID("signet-health-ecdsa-p256-sha256")
		if err := m.Destroy(t.Context(), health); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := m.Open(t.Context(), health, signers.ECDSAP256); err != nil || b.Report().CheckFailed != "" {
			t.Errorf("after it was destroyed: %v, %q", err, b.Report().CheckFailed)
		}
	})
}
