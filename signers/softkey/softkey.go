// Package softkey keeps keys in encrypted files, or in memory for trials. It is
// the embedded default: everything runs on a laptop with no hardware.
//
// Each key is one file, encrypted with age (filippo.io/age) to an identity
// that is either the secret itself or kept in the same directory under a
// passphrase. A key file that was changed, renamed or made by anyone who does
// not know the secret is refused.
//
// What it does not protect from: an opened key lives unwrapped in the Go heap
// until the process ends, so whoever can read this process's memory, its core
// dump or its swap has the key. Use an HSM back-end where that matters. Destroy
// removes the file; a backup of the file together with the secret is still
// the key.
package softkey

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

// Options say where the keys are. The zero value keeps them in memory: they
// are gone after Close.
type Options struct {
	// Dir holds the keys. It is made with mode 0700 if absent, and refused if
	// others may read it. One process at a time may have it open.
	Dir string

	// Secret returns what protects Dir, once, when it is opened: an age
	// identity (a line AGE-SECRET-KEY-…) or a passphrase. A final line end is
	// not part of it. A passphrase costs 128 MB and half a second at start;
	// an identity, such as a systemd credential can hold, costs nothing.
	Secret func(ctx context.Context) ([]byte, error)

	// Faults make it misbehave on purpose. For tests.
	Faults Faults

	// Fault is called before each change to the disk (softkey.write, .fsync,
	// .rename, .fsync-dir, .remove, .mkdir); an error is taken as the disk's.
	// For tests; nil in production.
	Fault func(op string) error

	scryptLogN int // tests make a passphrase cheap; 0: see seal.go
}

// A Backend is a directory of keys, or a trial's keys in memory. It implements
// signers.Backend and signers.Lister.
type Backend struct {
	dir    *dir // nil in memory mode
	gate   gate
	faults atomic.Pointer[faultState] // nil: behave

	mu      sync.Mutex // guards what follows, and orders changes to dir
	entries map[signers.KeyID]*entry
}

var (
	_ signers.Backend = (*Backend)(nil)
	_ signers.Lister  = (*Backend)(nil)
)

// Open opens the directory, and makes it if it is not there yet.
func Open(ctx context.Context, o Options) (*Backend, error) {
	b := &Backend{entries: map[signers.KeyID]*entry{}}
	b.SetFaults(o.Faults)
	if o.Dir == "" && o.Secret != nil {
		return nil, errors.New("softkey: a secret but no directory\nhint: name the directory, or drop the secret to keep keys in memory")
	}
	if o.Dir == "" {
		return b, nil
	}
	if o.Secret == nil {
		return nil, fmt.Errorf("softkey: %q: no secret to protect the keys with\nhint: give a passphrase or an age identity", o.Dir)
	}
	d, err := openDir(ctx, o)
	if err != nil {
		return nil, err
	}
	b.dir = d
	return b, nil
}

// Create makes a key. It is durable when Create returns.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	k, err := b.create(ctx, id, alg)
	if err != nil {
		return nil, fmt.Errorf("softkey: create %q: %w", id, err)
	}
	return k, nil
}

func (b *Backend) create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (*key, error) {
	if err := b.enter(ctx, id); err != nil {
		return nil, err
	}
	defer b.gate.leave()
	if err := b.absent(id, alg); err != nil {
		return nil, err
	}
	// Not under the lock: an RSA key takes seconds. Whoever loses the race
	// for an id has made a key for nothing, and finds that out below.
	e, err := generate(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	if err := b.keep(e); err != nil {
		return nil, err
	}
	if f := b.faults.Load(); f != nil && f.ErrAfterCreate {
		return nil, fmt.Errorf("answer lost on request: %w", signers.ErrUnavailable)
	}
	return &key{b: b, entry: e}, nil
}

// absent returns ErrExists if id is taken, ErrUnsupported for no algorithm.
func (b *Backend) absent(id signers.KeyID, alg signers.Algorithm) error {
	if _, err := alg.Params(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken(id)
}

// taken returns ErrExists or nil. A file that cannot be read is taken too: to
// make another key in its place would lose what it may still hold.
func (b *Backend) taken(id signers.KeyID) error {
	_, err := b.find(id)
	if errors.Is(err, signers.ErrNotFound) {
		return nil
	}
	if err == nil || errors.Is(err, errDamaged) {
		return signers.ErrExists
	}
	return err
}

func (b *Backend) keep(e *entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.taken(e.id); err != nil {
		return err
	}
	if b.dir != nil {
		if err := b.dir.save(e); err != nil {
			return err
		}
	}
	b.entries[e.id] = e
	return nil
}

// Open finds a key that Create made. It fits only the very algorithm it was
// made for: an RSA key for PSS does not open for PKCS #1 v1.5.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	k, err := b.open(ctx, id, alg)
	if err != nil {
		return nil, fmt.Errorf("softkey: open %q: %w", id, err)
	}
	return k, nil
}

func (b *Backend) open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (*key, error) {
	if err := b.enter(ctx, id); err != nil {
		return nil, err
	}
	defer b.gate.leave()
	if _, err := alg.Params(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e, err := b.find(id)
	if err != nil {
		return nil, err
	}
	if e.alg != alg {
		return nil, fmt.Errorf("made for %s, not for %s: %w", e.alg, alg, signers.ErrMismatch)
	}
	return &key{b: b, entry: e}, nil
}

// find returns the one entry for id, which all its handles share. What is on
// the disk is the truth; entries only saves reading it again.
func (b *Backend) find(id signers.KeyID) (*entry, error) {
	if e := b.entries[id]; e != nil {
		return e, nil
	}
	if b.dir == nil {
		return nil, signers.ErrNotFound
	}
	e, err := b.dir.load(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, signers.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	b.entries[id] = e
	return e, nil
}

// Destroy removes the key, durably, and stops every handle to it.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := b.destroy(ctx, id); err != nil {
		return fmt.Errorf("softkey: destroy %q: %w", id, err)
	}
	return nil
}

func (b *Backend) destroy(ctx context.Context, id signers.KeyID) error {
	if err := b.enter(ctx, id); err != nil {
		return err
	}
	defer b.gate.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir != nil {
		if err := b.dir.remove(id); err != nil {
			return err // nothing has changed: the key still signs
		}
	}
	if e := b.entries[id]; e != nil {
		e.gone.Store(true)
		delete(b.entries, id)
	}
	if b.dir == nil {
		return nil
	}
	return b.dir.sync()
}

// List returns the ids of all keys, damaged ones too.
func (b *Backend) List(ctx context.Context) ([]signers.KeyID, error) {
	ids, err := b.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("softkey: list: %w", err)
	}
	return ids, nil
}

func (b *Backend) list(ctx context.Context) ([]signers.KeyID, error) {
	if err := b.enter(ctx, "list"); err != nil {
		return nil, err
	}
	defer b.gate.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir != nil {
		return b.dir.list()
	}
	ids := make([]signers.KeyID, 0, len(b.entries))
	for id := range b.entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// Close waits for the signatures under way and gives the directory back.
func (b *Backend) Close() error {
	if first := b.gate.close(); !first || b.dir == nil {
		return nil
	}
	if err := b.dir.close(); err != nil {
		return fmt.Errorf("softkey: close: %w", err)
	}
	return nil
}

// enter is where every call but Sign begins. After nil, gate.leave is due.
func (b *Backend) enter(ctx context.Context, id signers.KeyID) error {
	if err := id.Check(); err != nil {
		return err
	}
	if !b.gate.enter() {
		return signers.ErrClosed
	}
	err := ctx.Err()
	if f := b.faults.Load(); err == nil && f != nil && f.Unavailable {
		err = errOnRequest
	}
	if err != nil {
		b.gate.leave()
	}
	return err
}

// A key is a handle. All handles to one key share its entry.
type key struct {
	b *Backend
	*entry
}

func (k *key) Public() crypto.PublicKey { return k.pub }

func (k *key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	sig, err := k.signOpen(ctx, message)
	if err != nil {
		return nil, fmt.Errorf("softkey: sign with %q: %w", k.id, err)
	}
	return sig, nil
}

func (k *key) signOpen(ctx context.Context, message []byte) ([]byte, error) {
	if !k.b.gate.enter() {
		return nil, signers.ErrClosed
	}
	defer k.b.gate.leave()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k.gone.Load() {
		return nil, signers.ErrNotFound
	}
	if f := k.b.faults.Load(); f != nil {
		return f.sign(ctx, k.entry, message)
	}
	return k.sign(message)
}
