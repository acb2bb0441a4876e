package keyring

import (
	"context"
	"crypto"
	"errors"
	"fmt"
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

	// status is shared by all handles of the version, across views, so that
	// a handle learns what became of its version.
	status *status
}

// A status is what became of a version, and the back-end's key once it is
// open.
type status struct {
	state      atomic.Pointer[State]
	until      atomic.Int64 // retired: Unix seconds until which it still signs
	quarantine atomic.Bool

	mu     sync.Mutex // one open at a time
	opened atomic.Pointer[signers.Key]
	failed error // of the last open
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
	sig, err := key.Sign(ctx, message)
	if err != nil {
		return nil, fmt.Errorf("key %q version %d: %w", k.name, k.number, err)
	}
	if err := k.alg.Verify(k.public, message, sig); err != nil {
		return nil, k.distrust(ctx, err)
	}
	// Revoked while the back-end was at work: nothing leaves.
	return sig, k.maySign()
}

// maySign says whether the version may sign for a handle that was taken while
// it signed.
func (k *Key) maySign() error {
	if k.status.quarantine.Load() {
		return k.refuse(ErrQuarantined, "signet key revoke %s %d, or rotate")
	}
	switch *k.status.state.Load() {
	case Signing:
		return nil
	case Retired:
		return k.mayName()
	case Revoked, Destroyed:
		return k.refuse(ErrRevoked, "signet key list; %s version %d is gone")
	case Creating, Published:
	}
	return k.refuse(ErrNoSigner, "signet key activate %s %d")
}

// mayName says whether bytes that name the version may be signed by it.
func (k *Key) mayName() error {
	switch *k.status.state.Load() {
	case Signing:
		return nil
	case Retired:
		if k.ring.opts.Now().Unix() <= k.status.until.Load() {
			return nil
		}
		return fmt.Errorf("key %q: %w", k.name, ErrRotated)
	case Revoked, Destroyed:
		return fmt.Errorf("key %q: %w", k.name, ErrRevoked)
	case Creating, Published:
	}
	return fmt.Errorf("key %q version %d: %w", k.name, k.number, ErrNoSigner)
}

func (k *Key) refuse(err error, hint string) error {
	return fmt.Errorf("key %q version %d: %w\nhint: "+hint, k.name, k.number, err, k.name, k.number)
}

// open returns the back-end's key, opening it when it was not there at start.
func (k *Key) open(ctx context.Context) (signers.Key, error) {
	if key := k.status.opened.Load(); key != nil {
		return *key, nil
	}
	k.status.mu.Lock()
	defer k.status.mu.Unlock()
	if key := k.status.opened.Load(); key != nil {
		return *key, nil
	}
	key, err := k.find(ctx)
	k.status.failed = err
	if err != nil {
		return nil, err
	}
	k.status.opened.Store(&key)
	return key, nil
}

// find opens the key in its back-end and holds it against the record.
func (k *Key) find(ctx context.Context) (signers.Key, error) {
	backend, ok := k.ring.backends[k.backend]
	if !ok {
		return nil, fmt.Errorf("key %q: back-end %q is not in the configuration: %w", k.name, k.backend, signers.ErrUnavailable)
	}
	key, err := backend.Open(ctx, k.id, k.alg)
	if err != nil {
		return nil, fmt.Errorf("key %q version %d: %w", k.name, k.number, err)
	}
	if !equalKeys(key.Public(), k.public) {
		return nil, fmt.Errorf("key %q version %d: the back-end's key %q is not the one on record: %w", k.name, k.number, k.id, signers.ErrMismatch)
	}
	return key, nil
}

func equalKeys(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}

// fault is why the version can't sign now, as far as is known.
func (k *Key) fault() error {
	k.status.mu.Lock()
	defer k.status.mu.Unlock()
	return k.status.failed
}

// distrust puts the version into quarantine: at once for every handle, and on
// record whatever becomes of the caller.
func (k *Key) distrust(ctx context.Context, cause error) error {
	bad := fmt.Errorf("key %q version %d: %w: %w", k.name, k.number, ErrBadSignature, cause)
	if k.status.quarantine.Swap(true) {
		return bad
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := k.ring.edit(ctx, k.name, func(e *Entry) error {
		v, err := e.version(k.number)
		if err == nil {
			v.Quarantined = "a signature did not verify at " + k.ring.now().Format(time.RFC3339)
		}
		return err
	})
	return errors.Join(bad, err)
}
