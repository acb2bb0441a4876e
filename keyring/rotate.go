package keyring

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/signetd/signet/signers"
)

// Every step here may be repeated after a crash: an intent is on record before
// a back-end is asked, under an id that nobody else can have used, so what a
// crash left behind is found by that id and finished.

// Create makes name's first version and publishes it. If an earlier Create was
// cut off, it is finished; a name that is complete is ErrExists.
func (r *Ring) Create(ctx context.Context, name string, spec Spec) (Version, error) {
	if err := r.checkSpec(name, spec); err != nil {
		return Version{}, err
	}
	var number int
	err := r.edit(ctx, name, func(e *Entry) error {
		if len(e.Versions) > 0 {
			number = 1
			return e.resume(spec)
		}
		*e = Entry{Name: name, Backend: spec.Backend, Algorithm: spec.Algorithm, Format: spec.Format}
		var err error
		number, err = r.reserve(e)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return r.finish(ctx, name, number)
}

// resume accepts a first version that was never finished, of the same spec.
func (e *Entry) resume(spec Spec) error {
	if e.Spec() != spec {
		return fmt.Errorf("key %q: %w: it is %s in back-end %q for %s, and stays so\nhint: choose another name", e.Name, ErrExists, e.Algorithm, e.Backend, e.Format)
	}
	if len(e.Versions) > 1 || e.Versions[0].State != Creating {
		return fmt.Errorf("key %q: %w\nhint: signet key rotate %s makes its next version", e.Name, ErrExists, e.Name)
	}
	return nil
}

func (r *Ring) checkSpec(name string, s Spec) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, err := s.Algorithm.Params(); err != nil {
		return fmt.Errorf("key %q: %w", name, err)
	}
	if _, ok := r.backends[s.Backend]; !ok {
		return fmt.Errorf("key %q: back-end %q does not exist: %w", name, s.Backend, signers.ErrUnavailable)
	}
	if s.Format == "" {
		return fmt.Errorf("key %q: a key is for one token format, and none is named", name)
	}
	return nil
}

// Rotate makes and publishes name's next version, which does not sign yet. A
// version that was cut off half-way is finished instead.
func (r *Ring) Rotate(ctx context.Context, name string) (Version, error) {
	if _, err := r.look(name); err != nil {
		return Version{}, err
	}
	var number int
	err := r.edit(ctx, name, func(e *Entry) error {
		if half := e.in(Creating); len(half) > 0 {
			number = half[0].Number
			return nil
		}
		if err := r.roomFor(e); err != nil {
			return err
		}
		var err error
		number, err = r.reserve(e)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return r.finish(ctx, name, number)
}

// roomFor allows one version beside the current one: staged or draining.
func (r *Ring) roomFor(e *Entry) error {
	if staged := e.in(Published); len(staged) > 0 {
		n := staged[0].Number
		return fmt.Errorf("key %q: version %d is staged already: %w\nhint: signet key activate %s %d, or revoke it", e.Name, n, ErrIllegalMove, e.Name, n)
	}
	for _, v := range e.in(Retired) {
		if r.opts.Now().Before(v.Drained) {
			return fmt.Errorf("key %q: version %d still drains: %w\nhint: try again after %s", e.Name, v.Number, ErrTooEarly, v.Drained.Format(time.RFC3339))
		}
	}
	return nil
}

// reserve puts the next version on record, with the id its key will have. The
// random part means that a key found under the id can only be our own.
func (r *Ring) reserve(e *Entry) (int, error) {
	var salt [4]byte
	if _, err := io.ReadFull(r.opts.Rand, salt[:]); err != nil {
		return 0, fmt.Errorf("key %q: random id: %w", e.Name, err)
	}
	n := len(e.Versions) + 1
	id := signers.KeyID(fmt.Sprintf("%s-v%d-%s", e.Name, n, hex.EncodeToString(salt[:])))
	e.Versions = append(e.Versions, Version{Number: n, ID: id, State: Creating, Created: r.now()})
	return n, nil
}

// finish makes the key that a version reserves, or finds it, and publishes it.
// No lock is held while the back-end works: revocation must not wait for it.
func (r *Ring) finish(ctx context.Context, name string, number int) (Version, error) {
	v, err := r.look(name)
	if err != nil {
		return Version{}, err
	}
	at, err := v.entry.version(number)
	if err != nil {
		return Version{}, err
	}
	key, err := r.make(ctx, v.entry, at.ID)
	if err != nil {
		return Version{}, fmt.Errorf("key %q version %d: %w", name, number, err)
	}
	if err := r.publish(ctx, name, number, key); err != nil {
		return Version{}, err
	}
	return r.version(name, number)
}

// make asks the back-end for the key; one that is there is ours, from before a
// crash.
func (r *Ring) make(ctx context.Context, e Entry, id signers.KeyID) (signers.Key, error) {
	backend, ok := r.backends[e.Backend]
	if !ok {
		return nil, fmt.Errorf("back-end %q is not in the configuration: %w", e.Backend, signers.ErrUnavailable)
	}
	key, err := backend.Create(ctx, id, e.Algorithm)
	if errors.Is(err, signers.ErrExists) {
		key, err = backend.Open(ctx, id, e.Algorithm)
	}
	if err != nil {
		return nil, err
	}
	return key, e.Algorithm.Fits(key.Public())
}

// publish puts a made key's public half on record.
func (r *Ring) publish(ctx context.Context, name string, number int, key signers.Key) error {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("key %q version %d: %w", name, number, err)
	}
	kid, err := Thumbprint(key.Public())
	if err != nil {
		return err
	}
	if owner, taken := r.kids.LoadOrStore(kid, claim{name, number}); taken && owner != (claim{name, number}) {
		return fmt.Errorf("key %q version %d: kid %s belongs to another version: %w", name, number, kid, signers.ErrMismatch)
	}
	err = r.edit(ctx, name, func(e *Entry) error {
		v, err := e.version(number)
		if err != nil || v.State == Published {
			return err // another call finished it meanwhile
		}
		v.Kid, v.Public, v.Published = kid, der, r.now()
		return v.move(Published)
	})
	if err != nil {
		return err
	}
	return r.lend(name, number, key)
}

// lend hands the key that was just made to the version's handles, so that it
// need not be opened again.
func (r *Ring) lend(name string, number int, key signers.Key) error {
	v, err := r.look(name)
	if err != nil {
		return err
	}
	if k := v.keys[number]; k != nil {
		k.status.opened.Store(&key)
	}
	return nil
}

// An Activation says how to activate a version.
type Activation struct {
	Early bool          // before the lead time is over
	Keep  time.Duration // the longest lifetime of the key's tokens
}

// Activate makes a published version the one that signs, and retires the one
// that did, in one save: there is no moment with two signers or none.
func (r *Ring) Activate(ctx context.Context, name string, number int, how Activation) (Version, error) {
	return r.change(ctx, name, number, func(e *Entry, v *Version) error {
		if v.State == Signing {
			return nil
		}
		if err := r.leadTimeOver(e, v, how.Early); err != nil {
			return err
		}
		for _, old := range e.in(Signing) {
			if err := r.retire(old, how.Keep); err != nil {
				return err
			}
		}
		v.Activated = r.now()
		return v.move(Signing)
	})
}

// leadTimeOver holds a version back until verifiers had time to fetch it. The
// first version of a name needs none: no verifier holds a set without it.
func (r *Ring) leadTimeOver(e *Entry, v *Version, early bool) error {
	if early || len(e.Versions) == 1 || v.State != Published {
		return nil
	}
	// Times on record are cut to whole seconds, so one second more.
	from := v.Published.Add(r.opts.LeadTime + time.Second)
	if r.opts.LeadTime > 0 && r.opts.Now().Before(from) {
		return fmt.Errorf("version %d: %w\nhint: activate it after %s, or at once with --before-lead-time if tokens that fail to verify are the smaller evil", v.Number, ErrTooEarly, from.Format(time.RFC3339))
	}
	return nil
}

// Retire stops the signing version without a successor.
func (r *Ring) Retire(ctx context.Context, name string, number int, keep time.Duration) (Version, error) {
	return r.change(ctx, name, number, func(_ *Entry, v *Version) error {
		if v.State == Retired {
			return nil
		}
		return r.retire(v, keep)
	})
}

func (r *Ring) retire(v *Version, keep time.Duration) error {
	now := r.now()
	v.Retired, v.Drained = now, now.Add(r.opts.Drain)
	v.Unpublish = v.Drained.Add(keep + time.Second)
	return v.move(Retired)
}

// Revoke takes a version out of every published set, and no handle of it signs
// again. It is repeatable.
func (r *Ring) Revoke(ctx context.Context, name string, number int) (Version, error) {
	return r.change(ctx, name, number, func(_ *Entry, v *Version) error {
		if v.State == Revoked {
			return nil
		}
		v.Revoked = r.now()
		return v.move(Revoked)
	})
}

// Destroy destroys a version's private key: one that was revoked, one that was
// retired and is needed by no verifier, or one that was never finished. The
// whole kid (of an unfinished version: its id) says that it is the one meant.
func (r *Ring) Destroy(ctx context.Context, name string, number int, kid string) (Version, error) {
	v, err := r.version(name, number)
	if err != nil {
		return Version{}, err
	}
	if err := r.mayDestroy(name, v, kid); err != nil {
		return Version{}, err
	}
	e, err := r.look(name)
	if err != nil {
		return Version{}, err
	}
	backend, ok := r.backends[e.entry.Backend]
	if !ok {
		return Version{}, fmt.Errorf("back-end %q is not in the configuration: %w", e.entry.Backend, signers.ErrUnavailable)
	}
	// The back-end first: a crash in between leaves a record of a key that is
	// gone, and Destroy is repeated. The other way round it would leave a key
	// that no record claims.
	if err := backend.Destroy(ctx, v.ID); err != nil {
		return Version{}, fmt.Errorf("key %q version %d: %w", name, number, err)
	}
	return r.change(ctx, name, number, func(_ *Entry, v *Version) error {
		if v.State == Destroyed {
			return nil
		}
		v.Destroyed = r.now()
		return v.move(Destroyed)
	})
}

func (r *Ring) mayDestroy(name string, v Version, kid string) error {
	want := v.Kid
	if want == "" {
		want = string(v.ID)
	}
	if kid != want {
		return fmt.Errorf("key %q version %d: the kid given is not its own: %w\nhint: copy it whole from `signet key show %s`", name, v.Number, ErrUnknownKid, name)
	}
	if v.State != Destroyed && !Legal(v.State, Destroyed) {
		return fmt.Errorf("key %q version %d: %s to destroyed: %w\nhint: revoke it first, or retire it and wait", name, v.Number, v.State, ErrIllegalMove)
	}
	if v.State == Retired && r.opts.Now().Before(v.Unpublish) {
		return fmt.Errorf("key %q version %d: %w: its tokens are good until %s\nhint: wait, or revoke it first", name, v.Number, ErrTooEarly, v.Unpublish.Format(time.RFC3339))
	}
	return nil
}
