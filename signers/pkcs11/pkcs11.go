// Package pkcs11 keeps keys in a PKCS #11 token: an HSM, or SoftHSM.
//
// Keys are made inside the token, may sign and nothing else, and can't leave
// it; what the token says of them is read back, and a key that is otherwise is
// refused. The key's id is both CKA_ID and CKA_LABEL. A token does not record
// an algorithm's scheme and hash: Open fixes a key to the algorithm that the
// keyring has on record, and holds only kind, curve and size against the key.
//
// Sessions are pooled, and handles are found once: nothing is looked up to
// make a signature. A session that met any error is closed and replaced.
package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// A Config says which token to use, and how.
type Config struct {
	Module      string // path of the vendor's library
	TokenLabel  string // label or serial finds the token; both must fit if both are set
	TokenSerial string
	PIN         func(context.Context) ([]byte, error) // read when it is needed, and wiped
	Sessions    int                                   // to sign with; 2 if 0
	Queue       int                                   // signatures that may wait; 1024 if 0
	Log         *slog.Logger
}

// A Backend is one token. It implements signers.Backend and signers.Lister.
type Backend struct {
	cfg    Config
	module *module
	slot   uint
	serial string
	mechs  map[uint]bool // what the token offers
	making *sync.Mutex   // one key generation at a time
	pool   *pool

	adminMu sync.Mutex // the session that finds, makes and destroys
	admin   pkcs11.SessionHandle

	loginMu sync.Mutex
	denied  error // the PIN was refused: never try it again

	keysMu sync.Mutex
	keys   map[signers.KeyID]*atomic.Bool // set when the key was destroyed
	closed atomic.Bool
}

// Open logs in to a token.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	if cfg.Sessions == 0 {
		cfg.Sessions = 2
	}
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.PIN == nil {
		return nil, errors.New("pkcs11: Config.PIN is required")
	}
	m, err := acquire(cfg.Module)
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, module: m, keys: map[signers.KeyID]*atomic.Bool{}}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, m.release())
	}
	return b, nil
}

func (b *Backend) open(ctx context.Context) error {
	if err := b.findToken(); err != nil {
		return err
	}
	b.making = b.module.generation(b.serial)
	admin, err := b.openSession()
	if err != nil {
		return err
	}
	b.admin = admin
	if err := b.login(ctx, admin); err != nil {
		_ = b.module.ctx.CloseSession(admin) // the login's error says more
		return err
	}
	return b.fill()
}

// fill opens the sessions to sign with.
func (b *Backend) fill() error {
	b.pool = &pool{backend: b, limit: b.cfg.Queue, size: b.cfg.Sessions}
	for range b.cfg.Sessions {
		handle, err := b.openSession()
		if err != nil {
			b.pool.close()
			return errors.Join(err, b.module.ctx.CloseSession(b.admin))
		}
		b.pool.idle = append(b.pool.idle, &session{handle, newBatch()})
	}
	return nil
}

func (b *Backend) openSession() (pkcs11.SessionHandle, error) {
	s, err := b.module.ctx.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return 0, fmt.Errorf("pkcs11: %w", failed("C_OpenSession", err))
	}
	return s, nil
}

// Create makes a key pair in the token.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	mech, done, err := b.begin(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	defer done()
	b.making.Lock()
	defer b.making.Unlock()
	if _, err := b.find(b.admin, id, mech); !errors.Is(err, signers.ErrNotFound) {
		if err == nil || errors.Is(err, signers.ErrMismatch) {
			err = signers.ErrExists
		}
		return nil, fmt.Errorf("pkcs11: create %q: %w", id, err)
	}
	made, err := b.generate(b.admin, id, mech)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: create %q: %w", id, err)
	}
	key, err := b.admit(id, alg, mech, made)
	if err != nil {
		// The handles are of the pair just made: nothing else can go.
		return nil, errors.Join(err, b.remove(b.admin, made))
	}
	return key, nil
}

// Open finds a key pair in the token.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	mech, done, err := b.begin(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := b.find(b.admin, id, mech)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: open %q: %w", id, err)
	}
	return b.admit(id, alg, mech, found)
}

// begin checks a call's arguments and takes the session for it.
func (b *Backend) begin(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (mechanism, func(), error) {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return mechanism{}, nil, err
	}
	mech, err := mechanismOf(alg)
	if err != nil {
		return mechanism{}, nil, err
	}
	if !b.mechs[mech.id] || !b.mechs[mech.generate] {
		return mechanism{}, nil, fmt.Errorf("pkcs11: the token does not offer %s: %w", alg, signers.ErrUnsupported)
	}
	done, err := b.take(ctx)
	return mech, done, err
}

// take takes the session that finds, makes and destroys, fit for use.
func (b *Backend) take(ctx context.Context) (func(), error) {
	b.adminMu.Lock()
	if b.closed.Load() {
		b.adminMu.Unlock()
		return nil, fmt.Errorf("pkcs11: %w", signers.ErrClosed)
	}
	s := session{handle: b.admin}
	if _, err := b.module.ctx.GetSessionInfo(b.admin); err != nil {
		if err := b.replace(&s); err != nil {
			b.adminMu.Unlock()
			return nil, err
		}
		b.admin = s.handle
	}
	if err := b.relogin(ctx, &s); err != nil {
		b.adminMu.Unlock()
		return nil, err
	}
	return b.adminMu.Unlock, nil
}

// admit makes a Key of a pair whose attributes are those of a key we make.
func (b *Backend) admit(id signers.KeyID, alg signers.Algorithm, mech mechanism, p pair) (signers.Key, error) {
	if err := b.attest(b.admin, id, p); err != nil {
		return nil, fmt.Errorf("pkcs11: key %q: %w", id, err)
	}
	pub, err := b.public(b.admin, p.public, alg)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: key %q: %w", id, err)
	}
	k := &Key{backend: b, id: id, alg: alg, mech: mech, public: pub}
	k.handle.Store(uint64(p.private))
	b.keysMu.Lock()
	defer b.keysMu.Unlock()
	if b.keys[id] == nil {
		b.keys[id] = &atomic.Bool{}
	}
	k.gone = b.keys[id]
	return k, nil
}

// Destroy destroys a key pair, found by its id alone; an absent one is fine.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return err
	}
	done, err := b.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	b.making.Lock()
	defer b.making.Unlock()
	b.forget(id)
	p, err := b.locate(b.admin, id)
	if errors.Is(err, signers.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = b.remove(b.admin, p)
	}
	if err != nil {
		return fmt.Errorf("pkcs11: destroy %q: %w", id, err)
	}
	return nil
}

// forget stops handles that were given out: a later key by the same id is
// another key.
func (b *Backend) forget(id signers.KeyID) {
	b.keysMu.Lock()
	defer b.keysMu.Unlock()
	if gone := b.keys[id]; gone != nil {
		gone.Store(true)
		delete(b.keys, id)
	}
}

// Close lets signatures under way end, and logs out with the last session.
func (b *Backend) Close() error {
	b.adminMu.Lock()
	defer b.adminMu.Unlock()
	if b.closed.Swap(true) {
		return nil
	}
	b.pool.close()
	_ = b.module.ctx.CloseSession(b.admin) // it may be gone already
	return b.module.release()
}

// A Key is one key pair of a token.
type Key struct {
	backend *Backend
	id      signers.KeyID
	alg     signers.Algorithm
	mech    mechanism
	public  crypto.PublicKey
	handle  atomic.Uint64 // of the private key; the same in all our sessions
	gone    *atomic.Bool
}

// Public returns the public half, as it was read when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign has the token sign message.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if err := k.usable(ctx); err != nil {
		return nil, err
	}
	input, err := k.mech.input(k.alg, message)
	if err != nil {
		return nil, err
	}
	sig, err := k.backend.pool.sign(&request{ctx: ctx, key: k, input: input})
	if err != nil && k.gone.Load() {
		// A key that is being destroyed fails in ways of the module's own.
		return nil, fmt.Errorf("pkcs11: key %q: %w", k.id, signers.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("pkcs11: sign with %q: %w", k.id, err)
	}
	return k.mech.output(k.alg, sig)
}

// usable says whether the key may still sign for this caller.
func (k *Key) usable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case k.backend.closed.Load():
		return fmt.Errorf("pkcs11: %w", signers.ErrClosed)
	case k.gone.Load():
		return fmt.Errorf("pkcs11: key %q: %w", k.id, signers.ErrNotFound)
	}
	return nil
}

func equalKeys(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}
