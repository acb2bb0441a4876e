package keyring

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
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
	err := r.edit(ctx, name, func(e *Entry) (err error) {
		number, err = r.begin(e, name, spec)
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return r.finish(ctx, name, number)
}

// begin returns the version that Create has to finish: one that was cut off, or
// a new one. A name of which nothing was ever made or published is free.
func (r *Ring) begin(e *Entry, name string, spec Spec) (int, error) {
	if e.free() {
		*e = Entry{Name: name, Backend: spec.Backend, Algorithm: spec.Algorithm, Format: spec.Format, Blind: spec.Blind, Versions: e.Versions}
		return r.reserve(e)
	}
	if err := e.Is(spec); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrExists, err)
	}
	if half := e.in(Creating); len(half) > 0 && e.first(half[0].Number) {
		return half[0].Number, nil
	}
	if staged := e.in(Published); len(staged) > 0 && e.first(staged[0].Number) {
		return 0, fmt.Errorf("key %q: %w\nhint: signet key activate %s %d lets it sign", name, ErrExists, name, staged[0].Number)
	}
	return 0, fmt.Errorf("key %q: %w\nhint: signet key rotate %s makes its next version", name, ErrExists, name)
}

// first says that no version but this one was ever published.
func (e *Entry) first(number int) bool {
	return !slices.ContainsFunc(e.Versions, func(v Version) bool { return v.Number != number && v.Kid != "" })
}

// free says that nothing of the key is left and no verifier ever saw it.
func (e *Entry) free() bool {
	return !slices.ContainsFunc(e.Versions, func(v Version) bool { return v.State != Destroyed || v.Kid != "" })
}

func (r *Ring) checkSpec(name string, s Spec) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, err := s.Algorithm.Params(); err != nil {
		return fmt.Errorf("key %q: %w", name, err)
	}
	if _, err := r.backend(name, s.Backend); err != nil {
		return err
	}
	if s.Format == "" {
		return fmt.Errorf("key %q: a key is for one token format, and none is named\nhint: format: jwt", name)
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
		if v.drains(r.opts.Now()) {
			return fmt.Errorf("key %q: %w: version %d still finishes what was begun\nhint: try again after %s", e.Name, ErrTooEarly, v.Number, v.Drained.Format(time.RFC3339))
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

// making does something with a key in a back-end, one caller at a time for each
// name: a key that is being made must not be destroyed, which would leave one
// that its record calls destroyed. The record is not locked meanwhile:
// revocation must not wait for a back-end.
func (r *Ring) making(ctx context.Context, name string, do func() error) error {
	turn := r.shelf(name).making
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("key %q: waiting for another change: %w", name, ctx.Err())
	}
	defer func() { <-turn }()
	return do()
}

// finish makes the key that a version reserves, or finds it, and publishes it.
func (r *Ring) finish(ctx context.Context, name string, number int) (Version, error) {
	err := r.making(ctx, name, func() error {
		v, err := r.version(name, number)
		if err != nil || v.Kid != "" {
			return err // another caller finished it meanwhile
		}
		if v.State != Creating {
			return fmt.Errorf("key %q: %w", name, v.move(Published))
		}
		key, err := r.make(ctx, name, v)
		if err != nil {
			return fmt.Errorf("key %q version %d: %w", name, number, err)
		}
		return r.publish(ctx, name, number, key)
	})
	if err != nil {
		return Version{}, err
	}
	return r.version(name, number)
}

// make asks the back-end for the key; one that is there is ours, from before a
// crash. A version that the back-end will never make is given up, so that the
// name is free for another algorithm.
func (r *Ring) make(ctx context.Context, name string, v Version) (signers.Key, error) {
	at, err := r.look(name)
	if err != nil {
		return nil, err
	}
	e := at.entry
	backend, err := r.backend(name, e.Backend)
	if err != nil {
		return nil, err
	}
	if v.Adopted {
		return backend.Open(ctx, v.ID, e.Algorithm)
	}
	key, err := backend.Create(ctx, v.ID, e.Algorithm)
	if errors.Is(err, signers.ErrExists) {
		key, err = backend.Open(ctx, v.ID, e.Algorithm)
	}
	if errors.Is(err, signers.ErrUnsupported) {
		err = errors.Join(err, r.destroy(ctx, name, v))
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
	thumbprint, err := Thumbprint(key.Public())
	if err != nil {
		return err
	}
	if !r.claim(thumbprint, claim{name, number}) {
		return fmt.Errorf("key %q version %d: its public key belongs to another version: %w\nhint: the back-end gave a key out twice: do not trust it", name, number, signers.ErrMismatch)
	}
	_, err = r.change(ctx, name, number, func(e *Entry, v *Version) error {
		kid, err := r.kid(e.Format, key.Public(), thumbprint)
		if err != nil {
			return err
		}
		if v.Kid == kid && v.State != Creating {
			return nil // another machine finished it meanwhile
		}
		v.Kid, v.Public, v.Published = kid, der, r.now()
		if a, ok := key.(signers.Attester); ok {
			v.Attested = a.Attestation()
		}
		return v.move(Published)
	})
	if err != nil {
		return err
	}
	r.lend(name, number, key)
	return nil
}

// lend hands the key that was just made to the version's handles, so that it
// need not be opened again.
func (r *Ring) lend(name string, number int, key signers.Key) {
	if v, err := r.look(name); err == nil && v.keys[number] != nil {
		v.keys[number].status.opened.Store(&key)
	}
}

// An Activation says how to activate a version.
type Activation struct {
	Early bool          // before the lead time is over
	Keep  time.Duration // the longest lifetime of the key's tokens
}

// Activate makes a published version the one that signs, and retires the one
// that did, in one save: there is no moment with two signers or none.
func (r *Ring) Activate(ctx context.Context, name string, number int, how Activation) (Version, error) {
	if err := r.ready(ctx, name, number); err != nil {
		return Version{}, err
	}
	return r.change(ctx, name, number, func(e *Entry, v *Version) error {
		switch {
		case v.State == Signing && v.Quarantined != "":
			return fmt.Errorf("version %d: %w\nhint: signet key rotate %s", v.Number, ErrQuarantined, name)
		case v.State == Signing:
			return nil
		case !Legal(v.State, Signing):
			return v.move(Signing)
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
		v.outlive(how.Keep)
		return v.move(Signing)
	})
}

// ready opens the version's key: the one that signs now is not given up for one
// that can't.
func (r *Ring) ready(ctx context.Context, name string, number int) error {
	v, err := r.look(name)
	if err != nil {
		return err
	}
	k := v.keys[number]
	if k == nil || !Legal(*k.status.state.Load(), Signing) {
		return nil // the table of legal moves says what is wrong
	}
	_, err = k.open(ctx)
	return err
}

// leadTimeOver holds a version back until verifiers had time to fetch it. The
// first one to be published needs none: no verifier holds a set without it.
func (r *Ring) leadTimeOver(e *Entry, v *Version, early bool) error {
	if early || e.first(v.Number) || r.opts.LeadTime <= 0 {
		return nil
	}
	// Times on record are cut to whole seconds, so one second more.
	from := v.Published.Add(r.opts.LeadTime + time.Second)
	if !r.opts.Now().Before(from) {
		return nil
	}
	return fmt.Errorf("version %d: %w: verifiers may not have the key yet\nhint: activate it after %s, or at once with --before-lead-time if tokens that fail to verify are the smaller evil", v.Number, ErrTooEarly, from.Format(time.RFC3339))
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
	v.outlive(keep)
	v.Unpublish = v.Drained.Add(time.Duration(v.Lifetime+1) * time.Second)
	return v.move(Retired)
}

// outlive notes that tokens of the version may live for so long.
func (v *Version) outlive(keep time.Duration) {
	v.Lifetime = max(v.Lifetime, int64((keep+time.Second-1)/time.Second))
}

// Outlive notes, for the version that signs, that its tokens may live for so
// long: a daemon says so at start, when the configuration may have changed.
func (r *Ring) Outlive(ctx context.Context, name string, keep time.Duration) error {
	err := r.edit(ctx, name, func(e *Entry) error {
		for _, v := range e.in(Signing) {
			v.outlive(keep)
		}
		return nil
	})
	return err
}

// Revoke takes a version out of every published set, and no handle of it signs
// again, not even if the record can't be saved: then the error says so. It is
// repeatable.
func (r *Ring) Revoke(ctx context.Context, name string, number int) (Version, error) {
	if v, err := r.look(name); err == nil && v.keys[number] != nil {
		v.keys[number].status.stopped.Store(true)
	}
	return r.change(ctx, name, number, func(_ *Entry, v *Version) error {
		if v.State == Revoked {
			return nil
		}
		v.Revoked = r.now()
		return v.move(Revoked)
	})
}
