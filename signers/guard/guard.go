// Package guard keeps a back-end that is slow or sick from harming the others:
// a bulkhead bounds the signatures that are under way, a budget their rate, and
// a breaker refuses at once what would fail anyway. A back-end that is not there
// when the daemon starts is opened when it comes.
package guard

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/signetd/signet/signers"
)

// A Config says how much of a back-end to bear. A zero field has its default.
type Config struct {
	Name     string        // for logs and errors
	InFlight int           // signatures under way or waiting; 128
	Rate     int           // signatures a second; no limit
	RateRSA  int           // of those with RSA keys: a service may count them apart; no limit
	RateECC  int           // of those with keys on elliptic curves, Ed25519 too; no limit
	Failures int           // in a row, after which the breaker opens; 8
	Pause    time.Duration // until an open breaker lets one through; 1 s
	Budget   *Budget       // of keys to be made; no limit
	Log      *slog.Logger  // required
}

// A Backend is another one, guarded. It implements signers.Backend, Lister,
// Surveyor, Adopter and Reporter; what the other lacks of these is ErrUnsupported.
type Backend struct {
	cfg     Config
	slots   atomic.Int64
	pace    *pace
	paces   map[signers.Kind]*pace
	breaker *gobreaker.TwoStepCircuitBreaker[any]
	refused atomic.Int64
	found   atomic.Pointer[health]
	watched atomic.Pointer[signers.Algorithm] // of the key that checks are made with

	mu    sync.Mutex
	inner signers.Backend // nil until it is there
	why   error
	ended bool

	ctx     context.Context // ended by stop
	stop    context.CancelFunc
	opening sync.WaitGroup
}

// Open opens a back-end and guards it. If it is unavailable, Open succeeds
// all the same and goes on trying: a daemon that starts while its HSM is away
// must still revoke. Every other error is the caller's.
func Open(ctx context.Context, cfg Config, open func(context.Context) (signers.Backend, error)) (*Backend, error) {
	b := newBackend(cfg)
	inner, err := open(ctx)
	if err == nil {
		b.inner = inner
		return b, nil
	}
	if !errors.Is(err, signers.ErrUnavailable) {
		b.stop()
		return nil, err
	}
	b.why = err
	cfg.Log.ErrorContext(ctx, "back-end is not there: it is opened when it comes", slog.String("backend", cfg.Name), slog.Any("error", err))
	b.opening.Go(func() { b.keepOpening(open) })
	return b, nil
}

func newBackend(cfg Config) *Backend {
	if cfg.InFlight <= 0 {
		cfg.InFlight = 128
	}
	if cfg.Failures <= 0 {
		cfg.Failures = 8
	}
	if cfg.Pause <= 0 {
		cfg.Pause = time.Second
	}
	b := &Backend{cfg: cfg}
	b.ctx, b.stop = context.WithCancel(context.Background())
	ecc := newPace("with keys on elliptic curves", "limits.rates.ecc", cfg.RateECC)
	b.pace = newPace("in all", "limits.rate", cfg.Rate)
	b.paces = map[signers.Kind]*pace{
		signers.KindRSA: newPace("with RSA keys", "limits.rates.rsa", cfg.RateRSA), signers.KindECDSA: ecc, signers.KindEd25519: ecc,
	}
	b.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name: cfg.Name, MaxRequests: 1, Timeout: cfg.Pause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= cfg.Failures },
		// A caller's own deadline or mistake says nothing about the back-end:
		// it must not be able to close it to the others.
		IsExcluded: func(err error) bool { return err != nil && !errors.Is(err, signers.ErrUnavailable) },
		OnStateChange: func(name string, from, to gobreaker.State) {
			cfg.Log.Warn("back-end's breaker", slog.String("backend", name), slog.String("from", from.String()), slog.String("to", to.String()))
		},
	})
	return b
}

// The pauses between attempts to open a back-end that is not there.
const (
	pauseMin = 200 * time.Millisecond
	pauseMax = 5 * time.Second
)

// keepOpening tries to open the back-end until it is there, or until it refuses
// us: a wrong PIN is not tried twice.
func (b *Backend) keepOpening(open func(context.Context) (signers.Backend, error)) {
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return
		}
		inner, err := open(b.ctx)
		b.mu.Lock()
		late := b.ended
		if !late {
			b.inner, b.why = inner, err
		}
		b.mu.Unlock()
		switch {
		case err == nil && late:
			_ = inner.Close() // nobody has used it
			return
		case err == nil:
			b.cfg.Log.Info("back-end is there now", slog.String("backend", b.cfg.Name))
			return
		case !errors.Is(err, signers.ErrUnavailable):
			b.cfg.Log.Error("back-end can't be opened", slog.String("backend", b.cfg.Name), slog.Any("error", err))
			return
		}
	}
}

// opened is the other back-end, if it is there.
func (b *Backend) opened() (signers.Backend, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return nil, fmt.Errorf("back-end %q: %w", b.cfg.Name, signers.ErrClosed)
	case b.inner == nil:
		return nil, fmt.Errorf("back-end %q is not there yet: %w", b.cfg.Name, b.why)
	}
	return b.inner, nil
}

// Create makes a key.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	inner, err := b.opened()
	if err == nil {
		err = b.mayMake()
	}
	if err != nil {
		return nil, err
	}
	key, err := inner.Create(ctx, id, alg)
	return b.wrap(key, alg, err)
}

// Open opens a key.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	inner, err := b.opened()
	if err != nil {
		return nil, err
	}
	key, err := inner.Open(ctx, id, alg)
	return b.wrap(key, alg, err)
}

func (b *Backend) wrap(k signers.Key, alg signers.Algorithm, err error) (signers.Key, error) {
	if err != nil {
		return nil, err
	}
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	return &Key{b, k, b.paces[p.Kind]}, nil
}

// Destroy destroys a key.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	inner, err := b.opened()
	if err != nil {
		return err
	}
	return inner.Destroy(ctx, id)
}

// List lists the keys, if the back-end can.
func (b *Backend) List(ctx context.Context) ([]signers.KeyID, error) {
	inner, err := b.opened()
	if err != nil {
		return nil, err
	}
	if l, ok := inner.(signers.Lister); ok {
		ids, err := l.List(ctx)
		return slices.DeleteFunc(ids, ours), err
	}
	return nil, fmt.Errorf("back-end %q does not list its keys: %w", b.cfg.Name, signers.ErrUnsupported)
}

// Adopt takes over a key, if the back-end can.
func (b *Backend) Adopt(ctx context.Context, ref, fingerprint string, alg signers.Algorithm) (signers.Adopted, error) {
	inner, err := b.opened()
	if err != nil {
		return signers.Adopted{}, err
	}
	adopter, ok := inner.(signers.Adopter)
	if !ok {
		return signers.Adopted{}, fmt.Errorf("back-end %q adopts no keys: %w", b.cfg.Name, signers.ErrUnsupported)
	}
	a, err := adopter.Adopt(ctx, ref, fingerprint, alg)
	if err == nil {
		a.Key, err = b.wrap(a.Key, alg, nil)
	}
	return a, err
}

// Usage is what the back-end asked a service for, nothing if it counts none.
func (b *Backend) Usage() signers.Usage {
	if inner, err := b.opened(); err == nil {
		if m, ok := inner.(signers.Metered); ok {
			return m.Usage()
		}
	}
	return signers.Usage{}
}

// Report says how the back-end fares.
func (b *Backend) Report() signers.Report {
	r := b.report()
	r.Refused = b.refused.Load()
	if h := b.found.Load(); h != nil {
		r.Checked = h.at
		if h.err != nil {
			r.CheckFailed = h.err.Error()
		}
	}
	return r
}

func (b *Backend) report() signers.Report {
	inner, err := b.opened()
	if err != nil {
		return signers.Report{State: "down", Why: err.Error()}
	}
	r := signers.Report{Where: "in-process", State: "ready"}
	if reporter, ok := inner.(signers.Reporter); ok {
		r = reporter.Report()
	}
	if b.breaker.State() == gobreaker.StateOpen && r.State == "ready" {
		r.State, r.Why = "refusing", "too many failures in a row"
	}
	r.Waiting = max(r.Waiting, int(b.slots.Load())-r.Busy)
	return r
}

// Close closes the other back-end.
func (b *Backend) Close() error {
	b.mu.Lock()
	inner, again := b.inner, b.ended
	b.ended = true
	b.mu.Unlock()
	b.stop()
	b.opening.Wait()
	if inner == nil || again {
		return nil
	}
	return inner.Close()
}

// A Key is a key of the other back-end, guarded.
type Key struct {
	backend *Backend
	key     signers.Key
	pace    *pace // of its kind
}

// Public returns the public half.
func (k *Key) Public() crypto.PublicKey { return k.key.Public() }

// Attestation is what the back-end says of the key, nil if it says nothing.
func (k *Key) Attestation() []string {
	if a, ok := k.key.(signers.Attester); ok {
		return a.Attestation()
	}
	return nil
}

// Doubt has the key looked up again, if the back-end can lose track of keys.
func (k *Key) Doubt() {
	if d, ok := k.key.(signers.Doubter); ok {
		d.Doubt()
	}
}

// Sign signs, unless the guard refuses: ErrBusy past the bulkhead,
// ErrUnavailable while the breaker is open.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	b := k.backend
	defer b.slots.Add(-1)
	if b.slots.Add(1) > int64(b.cfg.InFlight) {
		b.refused.Add(1)
		return nil, fmt.Errorf("back-end %q: %d signatures are under way: %w\nhint: retry with back-off; limits.in_flight allows more", b.cfg.Name, b.cfg.InFlight, signers.ErrBusy)
	}
	err := k.pace.wait(ctx)
	if err == nil {
		err = b.pace.wait(ctx)
	}
	if err != nil {
		b.refused.Add(1)
		return nil, fmt.Errorf("back-end %q: %w", b.cfg.Name, err)
	}
	done, err := b.breaker.Allow()
	if err != nil {
		b.refused.Add(1)
		return nil, fmt.Errorf("back-end %q: refused for now, after %d failures in a row: %w", b.cfg.Name, b.cfg.Failures, signers.ErrUnavailable)
	}
	sig, err := k.key.Sign(ctx, message)
	done(err)
	return sig, err
}
