package keyring

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// now is the time as records have it.
func (r *Ring) now() time.Time { return r.opts.Now().UTC().Truncate(time.Second) }

// A claim says whose a kid is.
type claim struct {
	name   string
	number int
}

// move takes v to a state that the table of legal moves allows.
func (v *Version) move(to State) error {
	if !Legal(v.State, to) {
		return fmt.Errorf("version %d: %s to %s: %w\nhint: keyring/README.md draws the life of a key", v.Number, v.State, to, ErrIllegalMove)
	}
	v.State = to
	return nil
}

// change edits one version and returns it as saved.
func (r *Ring) change(ctx context.Context, name string, number int, do func(*Entry, *Version) error) (Version, error) {
	if _, err := r.look(name); err != nil {
		return Version{}, err
	}
	err := r.edit(ctx, name, func(e *Entry) error {
		v, err := e.version(number)
		if err != nil {
			return err
		}
		if err := do(e, v); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return Version{}, err
	}
	return r.version(name, number)
}

// version returns a version as last saved.
func (r *Ring) version(name string, number int) (Version, error) {
	v, err := r.look(name)
	if err != nil {
		return Version{}, err
	}
	at, err := v.entry.version(number)
	if err != nil {
		return Version{}, err
	}
	return *at, nil
}

// edit changes one record: on a copy, journalled, saved, and only then shown.
// An edit that changes nothing saves nothing.
func (r *Ring) edit(ctx context.Context, name string, do func(*Entry) error) error {
	return r.editAfter(ctx, name, r.journal, do)
}

// editAfter is edit with a say in what comes before the save.
func (r *Ring) editAfter(ctx context.Context, name string, before func(_ context.Context, old, e Entry) error, do func(*Entry) error) error {
	s := r.shelf(name)
	s.change.Lock()
	defer s.change.Unlock()
	old := view{}
	if v := s.view.Load(); v != nil {
		old = *v
	}
	e := old.entry.clone()
	if err := do(&e); err != nil {
		return err
	}
	old.copyQuarantine(&e)
	if sameVersions(old.entry.Versions, e.Versions) {
		return nil
	}
	if err := e.Check(); err != nil {
		return err
	}
	if err := before(ctx, old.entry, e); err != nil {
		return err
	}
	rev, err := r.store.Save(ctx, name, e, old.revision)
	if err != nil {
		// What the store has now is another machine's save, or our own if it
		// failed after the record was replaced.
		if again := r.take(context.WithoutCancel(ctx), s, name); again != nil {
			r.opts.Log.Error("key record could not be reloaded", slog.String("key", name), slog.Any("error", again))
		}
		return fmt.Errorf("keyring: save %q: %w", name, err)
	}
	return r.show(s, e, rev)
}

// copyQuarantine puts what handles know on record. It is done on every edit,
// so that a quarantine that could not be saved when it began is not lost.
func (v *view) copyQuarantine(e *Entry) {
	for i := range e.Versions {
		k := v.keys[e.Versions[i].Number]
		if k == nil {
			continue
		}
		if why := k.status.quarantine.Load(); why != nil {
			e.Versions[i].Quarantined = *why
		}
	}
}

func sameVersions(a, b []Version) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].State != b[i].State || a[i].Quarantined != b[i].Quarantined || a[i].Lifetime != b[i].Lifetime {
			return false
		}
	}
	return true
}

// journal tells Options.Journal each move.
func (r *Ring) journal(ctx context.Context, old, e Entry) error {
	for i, v := range e.Versions {
		var from State
		if i < len(old.Versions) {
			from = old.Versions[i].State
		}
		if from == v.State {
			continue
		}
		if err := r.tell(ctx, Move{e.Name, v.Number, from, v.State, v.Kid, v.Attested}); err != nil {
			return err
		}
	}
	return nil
}

func (r *Ring) tell(ctx context.Context, m Move) error {
	if r.opts.Journal == nil {
		return nil
	}
	if err := r.opts.Journal(ctx, m); err != nil {
		return fmt.Errorf("key %q version %d: journal: %w", m.Name, m.Version, err)
	}
	return nil
}

// show makes a record the one that is seen. Called with s.change held.
func (r *Ring) show(s *shelf, e Entry, rev Revision) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("%w\nhint: restore the record from a backup", err)
	}
	next := &view{entry: e, revision: rev, keys: map[int]*Key{}, byKid: map[string]*Key{}}
	old := s.view.Load()
	for _, v := range e.Versions {
		if v.Kid == "" {
			continue
		}
		k, err := r.handle(old, e, v)
		if err != nil {
			return fmt.Errorf("key %q version %d: %w\nhint: restore the record from a backup", e.Name, v.Number, err)
		}
		next.keys[v.Number], next.byKid[v.Kid] = k, k
		if v.State == Signing {
			next.signing = k
		}
	}
	// Handles learn of a revocation or retirement here, before the view is
	// seen: none may sign on what it used to be.
	for _, v := range e.Versions {
		if k := next.keys[v.Number]; k != nil {
			k.status.become(v)
		}
	}
	s.view.Store(next)
	return nil
}

// become takes over what a record says of a version.
func (s *status) become(v Version) {
	s.until.Store(v.Drained.Unix())
	s.state.Store(&v.State)
	if v.Quarantined != "" {
		s.quarantine.Store(&v.Quarantined)
	}
}

var (
	errOtherKid = errors.New("its kid is not its public key's")
	errOtherKey = errors.New("its public key changed")
	errKidTwice = errors.New("its kid is on record twice")
)

// handle is the Key of a version, the same for as long as the ring is open, so
// that everybody who has taken it learns what becomes of the version.
func (r *Ring) handle(old *view, e Entry, v Version) (*Key, error) {
	pub, err := x509.ParsePKIXPublicKey(v.Public)
	if err != nil {
		return nil, fmt.Errorf("public key on record: %w", err)
	}
	if old != nil && old.keys[v.Number] != nil {
		k := old.keys[v.Number]
		if k.kid != v.Kid || k.id != v.ID || !equalKeys(k.public, pub) {
			return nil, errOtherKey
		}
		return k, nil
	}
	if err := e.Algorithm.Fits(pub); err != nil {
		return nil, err
	}
	thumbprint, err := Thumbprint(pub)
	if err != nil {
		return nil, errors.Join(errOtherKid, err)
	}
	if kid, err := r.kid(e.Format, pub, thumbprint); err != nil || kid != v.Kid {
		return nil, errors.Join(errOtherKid, err)
	}
	if !r.claim(thumbprint, claim{e.Name, v.Number}) {
		return nil, errKidTwice
	}
	return &Key{
		ring: r, name: e.Name, number: v.Number, kid: v.Kid, id: v.ID, backend: e.Backend,
		alg: e.Algorithm, public: pub, status: &status{},
	}, nil
}

// claim says that a public key is c's, for good: a destroyed version's is not
// given again. It is false if the key is another's.
func (r *Ring) claim(thumbprint string, c claim) bool {
	owner, _ := r.kids.LoadOrStore(thumbprint, c)
	return owner == c
}

// claimed says whose a public key is.
func (r *Ring) claimed(thumbprint string) (claim, bool) {
	owner, taken := r.kids.Load(thumbprint)
	c, _ := owner.(claim)
	return c, taken
}
