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
	"maps"
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
	ErrTooEarly       = errors.New("too early")
	ErrBadSignature   = errors.New("back-end gave a wrong signature")
)

// patience bounds what is done in nobody's name: opening keys at start or for
// all who wait for them, and putting a quarantine on record.
const patience = 10 * time.Second

// A start waits a moment for the keys that it opens, and opens more for as
// long as warmth.
const moment, warmth = time.Second, time.Minute

// Options are what a Ring takes from outside. Now and Rand are required.
type Options struct {
	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger

	// Specs are what the configuration says of keys. Open refuses a record
	// that says otherwise; a key without a row is not looked at.
	Specs map[string]Spec

	// Kid is how a format names a public key. Nil, and "" for a format, is the
	// Thumbprint.
	Kid func(format string, pub crypto.PublicKey) (string, error)

	// LeadTime is how long a version is published before it may sign: as long
	// as verifiers may hold an older JWKS. The first version needs none.
	LeadTime time.Duration
	// Drain is how long a version still signs what was begun before it was
	// retired.
	Drain time.Duration
	// Journal, if any, is told each move before it is made. If it fails,
	// nothing changes. It is called with the key locked for changes, so it
	// must not change keys.
	Journal func(context.Context, Move) error
}

// A Move is one change of one version's state. From is "" for a new version.
type Move struct {
	Name     string
	Version  int
	From, To State
	Kid      string
	Attested []string // what the back-end said of the key, on its way to Published
}

// A Ring is the keys of one deployment. Its methods may be called at the same
// time; those that look up never wait for a change under way or a back-end.
type Ring struct {
	store    Store
	backends map[string]signers.Backend
	opts     Options
	stop     context.CancelFunc
	stopped  chan struct{} // closed when nothing follows the store any more

	mu   sync.Mutex // guards adding to keys
	keys atomic.Pointer[map[string]*shelf]
	kids sync.Map // thumbprint -> claim: a public key is one version's, whatever its format calls it
}

// A shelf is one named key: its record as last saved, and its versions' keys.
type shelf struct {
	change sync.Mutex    // one change of the record at a time
	making chan struct{} // holds one token: one caller that makes or destroys keys
	view   atomic.Pointer[view]
}

// A view is a shelf at one moment. It never changes; a change makes a new one.
type view struct {
	entry    Entry
	revision Revision
	keys     map[int]*Key    // versions whose public half is known
	byKid    map[string]*Key // the same
	signing  *Key
}

// Open returns the ring that store records, and follows the store until ctx
// ends or Close. A version whose key can't be opened, or is not the one on
// record, is a problem of that version alone: see [Ring.Problems].
func Open(ctx context.Context, store Store, backends map[string]signers.Backend, o Options) (*Ring, error) {
	if o.Now == nil || o.Rand == nil {
		return nil, errors.New("keyring: Options.Now and Options.Rand are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(ctx)
	r := &Ring{store: store, backends: maps.Clone(backends), opts: o, stop: stop, stopped: make(chan struct{})}
	r.keys.Store(&map[string]*shelf{})
	// Watched before it is loaded, or a save in between would not be seen.
	changed, err := store.Watch(ctx)
	if err == nil {
		err = r.loadAll(ctx)
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("keyring: open: %w", err)
	}
	r.warm(ctx)
	go r.follow(ctx, changed)
	return r, nil
}

// Close stops following the store. Keys go on signing: they belong to their
// back-ends.
func (r *Ring) Close() error {
	r.stop()
	<-r.stopped
	return nil
}

func (r *Ring) loadAll(ctx context.Context) error {
	names, err := r.store.List(ctx)
	if err != nil {
		return err
	}
	r.makeRoom(names...)
	for _, name := range names {
		if err := r.reload(ctx, name); err != nil {
			return err
		}
	}
	for _, e := range r.List() {
		if want, ok := r.opts.Specs[e.Name]; ok {
			if err := e.Is(want); err != nil {
				return err
			}
		}
	}
	return nil
}

// warm opens the keys that may sign, so that what is wrong shows at start. It
// waits for that a moment: a back-end with thousands of keys, or one that is
// down, goes on without it. A key that can't be opened now is tried again when
// it is needed.
func (r *Ring) warm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, warmth)
	perBackend := map[string][]*Key{}
	for _, s := range *r.keys.Load() {
		v := s.view.Load()
		if v == nil {
			continue // listed, and gone when it was loaded
		}
		for _, version := range v.entry.Versions {
			if version.State == Signing || version.State == Published || version.drains(r.opts.Now()) {
				perBackend[v.entry.Backend] = append(perBackend[v.entry.Backend], v.keys[version.Number])
			}
		}
	}
	var all sync.WaitGroup
	for _, keys := range perBackend {
		all.Go(func() {
			for _, k := range keys {
				if ctx.Err() != nil {
					return
				}
				_, _ = k.open(ctx) // it is logged, and a problem from now on
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer cancel()
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(moment):
	}
}

// follow reloads names that another process has changed.
func (r *Ring) follow(ctx context.Context, changed <-chan string) {
	defer close(r.stopped)
	for name := range changed {
		if err := r.reload(ctx, name); err != nil {
			r.opts.Log.Error("key record could not be reloaded", slog.String("key", name), slog.Any("error", err))
		}
	}
	if ctx.Err() == nil {
		r.opts.Log.Error("the store is not watched any more: what other machines change is not seen until a restart")
	}
}

// reload takes a key's record from the store, unless the ring has it already.
func (r *Ring) reload(ctx context.Context, name string) error {
	s := r.shelf(name)
	s.change.Lock()
	defer s.change.Unlock()
	return r.take(ctx, s, name)
}

// take takes over what the store has, if it is newer. Called with s.change
// held.
func (r *Ring) take(ctx context.Context, s *shelf, name string) error {
	entry, rev, err := r.store.Load(ctx, name)
	if err != nil {
		return fmt.Errorf("load %q: %w", name, err)
	}
	seen := Revision(0)
	if old := s.view.Load(); old != nil {
		seen = old.revision
	}
	if rev <= seen {
		return nil
	}
	if entry.Name != name {
		return fmt.Errorf("the record of key %q holds key %q\nhint: restore it from a backup", name, entry.Name)
	}
	return r.show(s, entry, rev)
}

// shelf finds the place of a name, or makes it.
func (r *Ring) shelf(name string) *shelf {
	if s, ok := (*r.keys.Load())[name]; ok {
		return s
	}
	r.makeRoom(name)
	return (*r.keys.Load())[name]
}

// makeRoom makes a place for each name that has none.
func (r *Ring) makeRoom(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := maps.Clone(*r.keys.Load())
	for _, name := range names {
		if all[name] == nil {
			all[name] = &shelf{making: make(chan struct{}, 1)}
		}
	}
	r.keys.Store(&all)
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
