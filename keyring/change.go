package keyring

import (
	"context"
	"crypto/x509"
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
	s := r.shelf(name)
	s.change.Lock()
	defer s.change.Unlock()
	var old view
	if v := s.view.Load(); v != nil {
		old = *v
	}
	e := old.entry.clone()
	if err := do(&e); err != nil {
		return err
	}
	if sameVersions(old.entry.Versions, e.Versions) {
		return nil
	}
	if err := e.Check(); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if err := r.journal(ctx, old.entry, e); err != nil {
		return err
	}
	rev, err := r.store.Save(ctx, name, e, old.revision)
	if err != nil {
		r.catchUp(ctx, s, name, old.revision)
		return fmt.Errorf("keyring: save %q: %w", name, err)
	}
	return r.show(s, e, rev)
}

// catchUp takes over what the store has after a save that failed: another
// machine's save, or our own if it failed after the record was replaced.
func (r *Ring) catchUp(ctx context.Context, s *shelf, name string, seen Revision) {
	e, rev, err := r.store.Load(context.WithoutCancel(ctx), name)
	if err == nil && rev > seen {
		err = r.show(s, e, rev)
	}
	if err != nil {
		r.opts.Log.Error("key record could not be reloaded", slog.String("key", name), slog.Any("error", err))
	}
}

func sameVersions(a, b []Version) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].State != b[i].State || a[i].Quarantined != b[i].Quarantined {
			return false
		}
	}
	return true
}

// journal tells Options.Journal each move before it is saved.
func (r *Ring) journal(ctx context.Context, old, e Entry) error {
	if r.opts.Journal == nil {
		return nil
	}
	for i, v := range e.Versions {
		var from State
		if i < len(old.Versions) {
			from = old.Versions[i].State
		}
		if from == v.State {
			continue
		}
		if err := r.opts.Journal(ctx, Move{e.Name, v.Number, from, v.State, v.Kid}); err != nil {
			return fmt.Errorf("key %q version %d: journal: %w", e.Name, v.Number, err)
		}
	}
	return nil
}

// show makes a record the one that is seen. Called with s.change held.
func (r *Ring) show(s *shelf, e Entry, rev Revision) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("keyring: %w\nhint: restore the record from a backup", err)
	}
	next := &view{entry: e, revision: rev, keys: map[int]*Key{}}
	old := s.view.Load()
	for _, v := range e.Versions {
		if len(v.Public) == 0 {
			continue
		}
		k, err := r.handle(old, e, v)
		if err != nil {
			return err
		}
		next.keys[v.Number] = k
		if v.State == Signing && v.Quarantined == "" {
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
		s.quarantine.Store(true)
	}
}

// handle is the Key of a version, with the status that its other handles have.
func (r *Ring) handle(old *view, e Entry, v Version) (*Key, error) {
	if old != nil && old.keys[v.Number] != nil {
		return old.keys[v.Number], nil
	}
	pub, err := x509.ParsePKIXPublicKey(v.Public)
	if err != nil {
		return nil, fmt.Errorf("key %q version %d: public key on record: %w", e.Name, v.Number, err)
	}
	if err := e.Algorithm.Fits(pub); err != nil {
		return nil, fmt.Errorf("key %q version %d: %w", e.Name, v.Number, err)
	}
	mine := claim{e.Name, v.Number}
	if owner, taken := r.kids.LoadOrStore(v.Kid, mine); taken && owner != mine {
		return nil, fmt.Errorf("key %q version %d: its kid %s is on record twice\nhint: restore the record from a backup", e.Name, v.Number, v.Kid)
	}
	return &Key{
		ring: r, name: e.Name, number: v.Number, kid: v.Kid, id: v.ID, backend: e.Backend,
		alg: e.Algorithm, public: pub, status: &status{},
	}, nil
}
