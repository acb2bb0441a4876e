package keyring

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/signers"
)

// A Key is a handle to one version of a key. A handle taken before a rotation
// goes on for Options.Drain; one taken before a revocation stops at once.
type Key struct {
	ring    *Ring
	name    string
	number  int
	kid     string
	id      signers.KeyID
	backend string
	alg     signers.Algorithm
	public  crypto.PublicKey

	// status is what became of the version since the handle was taken.
	status *status
}

// A status is what became of a version, and the back-end's key once it is
// open. Everything that Sign reads of it is atomic.
type status struct {
	state      atomic.Pointer[State]
	until      atomic.Int64           // retired: Unix seconds until which it still signs
	quarantine atomic.Pointer[string] // why it is not trusted
	stopped    atomic.Bool            // it was revoked here, whatever the record says

	opened atomic.Pointer[signers.Key]
	failed atomic.Pointer[error] // of the last open, if it failed

	mu      sync.Mutex
	opening *opening
}

// An opening is one question to a back-end, for all who wait for its answer.
type opening struct {
	done chan struct{}
	key  signers.Key
	err  error
}

// Name is the key's name.
func (k *Key) Name() string { return k.name }

// Version is the version's number, from 1.
func (k *Key) Version() int { return k.number }

// Kid is the version's RFC 7638 thumbprint.
func (k *Key) Kid() string { return k.kid }

// Algorithm is the one algorithm of the key.
func (k *Key) Algorithm() signers.Algorithm { return k.alg }

// Public is the public half that is on record.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs message, unless the version was revoked since Current, and
// verifies the signature before it lets go of it. A wrong signature puts the
// version into quarantine: ErrBadSignature.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if err := k.maySign(); err != nil {
		return nil, err
	}
	key, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	sig, wrong, err := k.signed(ctx, key, message)
	if doubter, ok := key.(signers.Doubter); ok && wrong != nil {
		// The back-end may have lost track of its keys. Once.
		k.ring.opts.Log.WarnContext(ctx, "a signature did not verify: the key is looked up again", slog.String("key", k.name), slog.Int("version", k.number))
		doubter.Doubt()
		var again error
		if sig, again, err = k.signed(ctx, key, message); again == nil && err == nil {
			wrong = nil // anything but a good signature leaves it distrusted
		}
	}
	if wrong != nil {
		return nil, k.distrust(ctx, wrong)
	}
	if err != nil {
		return nil, fmt.Errorf("key %q version %d: %w", k.name, k.number, err)
	}
	// Revoked while the back-end was at work: nothing leaves.
	if err := k.maySign(); err != nil {
		return nil, err
	}
	return sig, nil
}

// signed has the back-end sign, and says what is wrong with what it made.
func (k *Key) signed(ctx context.Context, key signers.Key, message []byte) (sig []byte, wrong, err error) {
	if sig, err = key.Sign(ctx, message); err != nil {
		return nil, nil, err
	}
	return sig, k.alg.Verify(k.public, message, sig), nil
}

// maySign says whether the version may sign: it is the one that does, or it
// was until a moment ago.
func (k *Key) maySign() error {
	if k.status.quarantine.Load() != nil {
		return k.quarantined()
	}
	if k.status.stopped.Load() {
		return k.revoked()
	}
	switch *k.status.state.Load() {
	case Signing:
		return nil
	case Retired:
		if k.ring.opts.Now().Unix() <= k.status.until.Load() {
			return nil
		}
		return fmt.Errorf("key %q version %d: %w\nhint: fetch the public keys again and name the current one", k.name, k.number, ErrRotated)
	case Revoked, Destroyed:
		return k.revoked()
	case Creating, Published:
	}
	return fmt.Errorf("key %q version %d does not sign yet: %w\nhint: signet key activate %s %d", k.name, k.number, ErrNoSigner, k.name, k.number)
}

func (k *Key) revoked() error {
	return fmt.Errorf("key %q version %d: %w\nhint: signet key list shows which version signs", k.name, k.number, ErrRevoked)
}

func (k *Key) quarantined() error {
	return fmt.Errorf("key %q version %d: %w\nhint: signet key rotate %s, activate the new version, and look into the back-end", k.name, k.number, ErrQuarantined, k.name)
}

// open returns the back-end's key, opening it when it was not there at start.
func (k *Key) open(ctx context.Context) (signers.Key, error) {
	if key := k.status.opened.Load(); key != nil {
		return *key, nil
	}
	o := k.join(ctx)
	select {
	case <-o.done:
		return o.key, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("key %q version %d: opening it: %w", k.name, k.number, ctx.Err())
	}
}

// join waits for the opening under way, or begins one. It goes on when the
// caller who began it has left: others wait for it.
func (k *Key) join(ctx context.Context) *opening {
	s := k.status
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening != nil {
		return s.opening
	}
	o := &opening{done: make(chan struct{})}
	s.opening = o
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		o.key, o.err = k.find(ctx)
		k.found(o)
	}()
	return o
}

// found makes the answer of a back-end known.
func (k *Key) found(o *opening) {
	s := k.status
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(o.done)
	if o.err == nil {
		s.opened.Store(&o.key)
		s.failed.Store(nil)
		return
	}
	s.opening = nil // the next caller asks again
	if before := s.failed.Swap(&o.err); before == nil || (*before).Error() != o.err.Error() {
		k.ring.opts.Log.Error("key can't sign", slog.String("key", k.name), slog.Int("version", k.number), slog.Any("error", o.err))
	}
}

// find opens the key in its back-end and holds it against the record.
func (k *Key) find(ctx context.Context) (signers.Key, error) {
	backend, err := k.ring.backend(k.name, k.backend)
	if err != nil {
		return nil, err
	}
	key, err := backend.Open(ctx, k.id, k.alg)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", signers.ErrUnavailable, err) // the deadline was ours, not a caller's
	}
	if err != nil {
		return nil, fmt.Errorf("key %q version %d: %w", k.name, k.number, err)
	}
	if !equalKeys(key.Public(), k.public) {
		return nil, fmt.Errorf("key %q version %d: the back-end's key %q is not the one on record: %w\nhint: somebody replaced it: revoke the version and rotate", k.name, k.number, k.id, signers.ErrMismatch)
	}
	return key, nil
}

func (r *Ring) backend(key, name string) (signers.Backend, error) {
	if b, ok := r.backends[name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("key %q: back-end %q does not exist: %w\nhint: add it to the configuration's back-ends", key, name, signers.ErrUnavailable)
}

func equalKeys(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}

// distrust puts the version into quarantine: at once for every handle, and on
// record whatever becomes of the caller.
func (k *Key) distrust(ctx context.Context, cause error) error {
	bad := fmt.Errorf("key %q version %d: %w: %w", k.name, k.number, ErrBadSignature, cause)
	why := "a signature did not verify at " + k.ring.now().Format(time.RFC3339)
	if !k.status.quarantine.CompareAndSwap(nil, &why) {
		return bad // another caller has seen to it
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		k.recordQuarantine(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return bad
}

// recordQuarantine saves the quarantine; see [Ring.edit], which copies it to
// the record. If that fails it holds in memory, and goes on record with the
// next change of the key.
func (k *Key) recordQuarantine(ctx context.Context) {
	err := ErrConflict
	for tries := 0; tries < 5 && errors.Is(err, ErrConflict); tries++ {
		err = k.ring.edit(ctx, k.name, func(*Entry) error { return nil })
	}
	at := []any{slog.String("key", k.name), slog.Int("version", k.number)}
	k.ring.opts.Log.Error("a signature did not verify: the version is quarantined", at...)
	if err != nil {
		k.ring.opts.Log.Error("the quarantine is not on record", append(at, slog.Any("error", err))...)
	}
}
