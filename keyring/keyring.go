// Package keyring says what a key is called and how it ages. A [Ring] holds
// named keys; each has versions that go, one after the other, through
//
//	creating -> published -> signing -> retired -> destroyed
//
// and may be revoked from any state. The careful work is here, once, above the
// seam of package signers: a record of each intent before a back-end is asked,
// every signature verified before it is released, no version signing before it
// was published or after it was retired.
//
// keyring knows nothing of policy, tokens or the ledger.
package keyring

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/signers"
)

// The errors that callers branch on.
var (
	ErrUnknownKey     = errors.New("key does not exist")
	ErrUnknownVersion = errors.New("version does not exist")
	ErrUnknownKid     = errors.New("no version of the key has this kid")
	ErrNoSigner       = errors.New("no version of the key may sign")
	ErrRotated        = errors.New("key rotated")
	ErrRevoked        = errors.New("version is revoked")
	ErrQuarantined    = errors.New("version is quarantined")
	ErrConflict       = errors.New("record changed meanwhile")
	ErrExists         = errors.New("key already exists")
	ErrIllegalMove    = errors.New("not a legal move")
	ErrTooEarly       = errors.New("verifiers may not have the key yet")
	ErrBadSignature   = errors.New("back-end gave a wrong signature")
)

// Options are what a Ring takes from outside. Now and Rand are required.
type Options struct {
	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger

	// LeadTime is how long a version is published before it may sign: as long
	// as verifiers may hold an older JWKS. The first version needs none.
	LeadTime time.Duration
	// Drain is how long a version still signs what was begun before it was
	// retired.
	Drain time.Duration
	// Journal, if any, is told each move before it is saved. If it fails,
	// nothing changes.
	Journal func(context.Context, Move) error
}

// A Move is one change of one version's state.
type Move struct {
	Name     string
	Version  int
	From, To State
	Kid      string
}

// A Ring is the keys of one deployment. Its methods may be called at the same
// time; those that look up or sign never wait for a change under way.
type Ring struct {
	store    Store
	backends map[string]signers.Backend
	opts     Options

	mu   sync.Mutex // guards adding to keys
	keys atomic.Pointer[map[string]*shelf]
	kids sync.Map // kid -> claim: a kid is unique across the ring
}

// A shelf is one named key: its record as last saved, and its versions' keys.
type shelf struct {
	change sync.Mutex // one change at a time
	view   atomic.Pointer[view]
}

// A view is a shelf at one moment. It never changes; a change makes a new one.
type view struct {
	entry    Entry
	revision Revision
	keys     map[int]*Key // versions whose public half is known
	signing  *Key
}

// Open returns the ring that store records. A version whose key can't be
// opened, or is not the one on record, is a problem of that version alone: see
// [Ring.Problems].
func Open(ctx context.Context, store Store, backends map[string]signers.Backend, o Options) (*Ring, error) {
	if o.Now == nil || o.Rand == nil {
		return nil, errors.New("keyring: Options.Now and Options.Rand are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Ring{store: store, backends: backends, opts: o}
	r.keys.Store(&map[string]*shelf{})
	names, err := store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("keyring: list: %w", err)
	}
	for _, name := range names {
		if err := r.reload(ctx, name); err != nil {
			return nil, err
		}
	}
	r.warm(ctx)
	return r, r.follow(ctx)
}

// warm opens the keys that may sign, so that what is wrong shows at start. A
// key that can't be opened now is tried again when it is needed: one back-end
// that is down must not stop the keys of another.
func (r *Ring) warm(ctx context.Context) {
	for _, e := range r.List() {
		v, err := r.look(e.Name)
		if err != nil {
			continue
		}
		for _, version := range e.Versions {
			if version.State != Signing && version.State != Published {
				continue
			}
			if _, err := v.keys[version.Number].open(ctx); err != nil {
				r.opts.Log.Error("key can't sign", slog.String("key", e.Name), slog.Int("version", version.Number), slog.Any("error", err))
			}
		}
	}
}

// follow reloads names that another process has changed.
func (r *Ring) follow(ctx context.Context) error {
	changed, err := r.store.Watch(ctx)
	if err != nil {
		return fmt.Errorf("keyring: watch: %w", err)
	}
	go func() {
		for name := range changed {
			if err := r.reload(ctx, name); err != nil {
				r.opts.Log.Error("key record could not be reloaded", slog.String("key", name), slog.Any("error", err))
			}
		}
	}()
	return nil
}

// reload takes a key's record from the store, unless the ring has it already.
func (r *Ring) reload(ctx context.Context, name string) error {
	s := r.shelf(name)
	s.change.Lock()
	defer s.change.Unlock()
	entry, rev, err := r.store.Load(ctx, name)
	if err != nil {
		return fmt.Errorf("keyring: load %q: %w", name, err)
	}
	if old := s.view.Load(); old != nil && old.revision >= rev {
		return nil
	}
	return r.show(s, entry, rev)
}

// shelf finds the place of a name, or makes it.
func (r *Ring) shelf(name string) *shelf {
	if s, ok := (*r.keys.Load())[name]; ok {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.keys.Load()
	if s, ok := old[name]; ok {
		return s
	}
	all := make(map[string]*shelf, len(old)+1)
	for k, v := range old {
		all[k] = v
	}
	all[name] = &shelf{}
	r.keys.Store(&all)
	return all[name]
}

// look returns the view of a key that exists.
func (r *Ring) look(name string) (*view, error) {
	if s, ok := (*r.keys.Load())[name]; ok {
		if v := s.view.Load(); v != nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("key %q: %w\nhint: signet key create %s", name, ErrUnknownKey, name)
}

// Current returns the version of name that signs. Take it once for each token:
// the key named in the token is then the key that signs it, even if a rotation
// happens in between.
func (r *Ring) Current(name string) (*Key, error) {
	v, err := r.look(name)
	if err != nil {
		return nil, err
	}
	if v.signing == nil {
		return nil, fmt.Errorf("key %q: %w\nhint: signet key list, then signet key activate %s VERSION", name, ErrNoSigner, name)
	}
	return v.signing, nil
}

// Named returns the version of name that has kid, if it may sign bytes that
// name it: it signs now, or was retired less than Drain ago.
func (r *Ring) Named(name, kid string) (*Key, error) {
	v, err := r.look(name)
	if err != nil {
		return nil, err
	}
	if v.signing != nil && v.signing.kid == kid {
		return v.signing, nil
	}
	for _, k := range v.keys {
		if k.kid == kid {
			return k, k.mayName()
		}
	}
	return nil, fmt.Errorf("key %q: %w", name, ErrUnknownKid)
}

// List returns every key's record, sorted by name.
func (r *Ring) List() []Entry {
	var all []Entry
	for _, s := range *r.keys.Load() {
		if v := s.view.Load(); v != nil {
			all = append(all, v.entry.clone())
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// A PublicVersion is what verifiers need of a version.
type PublicVersion struct {
	Number    int
	Kid       string
	Algorithm signers.Algorithm
	State     State
	Public    crypto.PublicKey
}

// Verifiers returns the versions of name that verifiers may meet: published,
// signing, and retired until their last token has expired. Oldest first.
func (r *Ring) Verifiers(name string) ([]PublicVersion, error) {
	v, err := r.look(name)
	if err != nil {
		return nil, err
	}
	var all []PublicVersion
	for _, version := range v.entry.Versions {
		k := v.keys[version.Number]
		if k == nil || !version.visible(r.opts.Now()) {
			continue
		}
		all = append(all, PublicVersion{version.Number, version.Kid, v.entry.Algorithm, version.State, k.public})
	}
	return all, nil
}

// A Problem is a version that can't do what its state says.
type Problem struct {
	Name    string
	Version int
	Reason  string
}

// Problems lists versions that can't sign although they should, and those in
// quarantine.
func (r *Ring) Problems() []Problem {
	var all []Problem
	for _, e := range r.List() {
		v, err := r.look(e.Name)
		if err != nil {
			continue
		}
		for _, version := range e.Versions {
			if reason := v.problem(version); reason != "" {
				all = append(all, Problem{e.Name, version.Number, reason})
			}
		}
	}
	return all
}

func (v *view) problem(version Version) string {
	if version.Quarantined != "" && version.State != Revoked && version.State != Destroyed {
		return "quarantined: " + version.Quarantined
	}
	if k := v.keys[version.Number]; k != nil && (version.State == Signing || version.State == Published) {
		if err := k.fault(); err != nil {
			return err.Error()
		}
	}
	return ""
}
