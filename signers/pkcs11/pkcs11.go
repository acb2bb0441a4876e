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
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	KeepAlive   time.Duration                         // between looks at idle sessions; 1 min if 0
	Patience    time.Duration                         // for one signature, whatever its caller's deadline; 30 s if 0
	HangAfter   time.Duration                         // a call in the module counts as stuck; 3 s if 0
	Quirks      Quirks                                // what this module does otherwise
	Now         func() time.Time                      // required
	Log         *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.PIN == nil || c.Now == nil {
		return c, errors.New("pkcs11: Config.PIN and Now are required")
	}
	c.Sessions, c.Queue = cmp.Or(c.Sessions, 2), cmp.Or(c.Queue, 1024)
	if c.Quirks.MaxSessions > 0 {
		c.Sessions = min(c.Sessions, max(1, c.Quirks.MaxSessions-1)) // one is for finding and making keys
	}
	c.HangAfter = cmp.Or(c.HangAfter, 3*time.Second)
	c.KeepAlive, c.Patience = cmp.Or(c.KeepAlive, time.Minute), cmp.Or(c.Patience, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, c.Quirks.check()
}

// A Backend is one token. It implements signers.Backend, signers.Lister,
// signers.Adopter and signers.Reporter.
type Backend struct {
	cfg    Config
	module *module
	slot   atomic.Uint64
	serial string
	mechs  map[uint]bool // what the token offers
	making *sync.Mutex   // one key generation at a time
	pool   *pool
	ladder ladder
	lister lister

	adminMu sync.Mutex // the session that finds, makes and destroys
	admin   *session

	loginMu sync.Mutex
	denied  error        // the PIN was refused: never try it again
	logins  atomic.Int64 // C_Logins that came through
	arrived atomic.Int64 // the life of the module in which slot was found

	keysMu sync.Mutex
	keys   map[signers.KeyID]*use
	closed atomic.Bool
	ctx    context.Context // ended by stop
	stop   context.CancelFunc
}

// Open logs in to a token.
func Open(_ context.Context, cfg Config) (*Backend, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := acquire(cfg.Module, cfg.Quirks.InitializeArgs)
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, module: m, keys: map[signers.KeyID]*use{}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	if err := b.open(); err != nil { //nolint:contextcheck // sessions outlive who opens or mends them
		b.stop()
		return nil, errors.Join(err, m.release())
	}
	go b.keepAlive() //nolint:contextcheck // sessions outlive who opens or mends them
	return b, nil
}

func (b *Backend) open() error {
	b.module.enter()
	defer b.module.leave()
	b.admin = &session{}
	if err := b.mend(b.admin); err != nil {
		b.closeSession(b.admin) // it may not be open
		return err
	}
	if err := b.askMechanisms(); err != nil {
		b.closeSession(b.admin)
		return err
	}
	b.making = b.module.generation(b.serial)
	return b.fill()
}

// fill opens the sessions to sign with. A token that has fewer than asked for
// is used with what it has.
func (b *Backend) fill() error {
	b.pool = &pool{backend: b, limit: b.cfg.Queue}
	for range b.cfg.Sessions {
		s := &session{}
		err := b.mend(s)
		if err != nil && b.pool.size > 0 && is(err, pkcs11.CKR_SESSION_COUNT) {
			b.cfg.Log.Warn("pkcs11 token has fewer sessions than configured", slog.Int("sessions", b.pool.size))
			break
		}
		if err != nil {
			err = errors.Join(err, b.pool.close())
			b.closeSession(b.admin)
			return err
		}
		s.batch = newBatch()
		b.pool.idle, b.pool.all = append(b.pool.idle, s), append(b.pool.all, s)
		b.pool.size++
	}
	b.ladder.steps = [len(b.ladder.steps)]int64{} // opening is no recovery
	return nil
}

func (b *Backend) openSession() (pkcs11.SessionHandle, error) {
	s, err := b.module.ctx.OpenSession(uint(b.slot.Load()), b.cfg.Quirks.sessionFlags())
	if err != nil {
		return 0, fmt.Errorf("pkcs11: %w", failed("C_OpenSession", err))
	}
	return s, nil
}

// Create makes a key pair in the token.
func (b *Backend) Create(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	mech, err := b.mechanism(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	b.making.Lock()
	defer b.making.Unlock()
	err = b.with(ctx, func(s *session) error {
		_, err := b.locate(s.handle, id)
		return err
	})
	if err == nil || errors.Is(err, signers.ErrMismatch) {
		err = signers.ErrExists
	}
	if !errors.Is(err, signers.ErrNotFound) {
		return nil, fmt.Errorf("pkcs11: create %q: %w", id, err)
	}
	var key signers.Key
	err = b.once(ctx, func(s *session) (err error) {
		key, err = b.make(s, id, alg, mech)
		return err
	})
	return key, err
}

// make makes a pair and admits it, or takes it back.
func (b *Backend) make(s *session, id signers.KeyID, alg signers.Algorithm, mech mechanism) (signers.Key, error) {
	made, err := b.generate(s.handle, id, mech)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: create %q: %w", id, err)
	}
	key, err := b.admit(s, id, alg, mech, made)
	if err != nil {
		// The handles are of the pair just made: nothing else can go.
		return nil, errors.Join(err, b.remove(s.handle, made))
	}
	return key, nil
}

// Open finds a key pair in the token.
func (b *Backend) Open(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (signers.Key, error) {
	mech, err := b.mechanism(ctx, id, alg)
	if err != nil {
		return nil, err
	}
	var key signers.Key
	err = b.with(ctx, func(s *session) error {
		found, err := b.find(s, id, mech)
		if err != nil {
			return fmt.Errorf("pkcs11: open %q: %w", id, err)
		}
		key, err = b.admit(s, id, alg, mech, found)
		return err
	})
	return key, err
}

// mechanism checks a call's arguments and translates the algorithm.
func (b *Backend) mechanism(ctx context.Context, id signers.KeyID, alg signers.Algorithm) (mechanism, error) {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return mechanism{}, err
	}
	mech, err := mechanismOf(alg, b.cfg.Quirks)
	if err != nil {
		return mechanism{}, err
	}
	if only := b.cfg.Quirks.Algorithms; len(only) > 0 && !slices.Contains(only, alg) {
		return mechanism{}, fmt.Errorf("pkcs11: quirks.algorithms leaves %s out: %w", alg, signers.ErrUnsupported)
	}
	if !b.mechs[mech.id] || !b.mechs[mech.generate] {
		return mechanism{}, fmt.Errorf("pkcs11: the token does not offer %s: %w", alg, signers.ErrUnsupported)
	}
	return mech, nil
}

// once runs f on the session that finds, makes and destroys. After an error
// the session is replaced before it is used again.
func (b *Backend) once(ctx context.Context, f func(*session) error) error {
	b.adminMu.Lock()
	defer b.adminMu.Unlock()
	if b.closed.Load() {
		return fmt.Errorf("pkcs11: %w", signers.ErrClosed)
	}
	if err := b.module.gate.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("pkcs11: waiting for the module: %w", err)
	}
	defer b.module.leave()
	s := b.admin
	defer s.rest()
	s.expect(b.cfg.HangAfter)
	in, err := false, error(nil)
	if s.life == b.module.life.Load() && s.login == b.logins.Load() {
		in, err = b.loggedIn(s.handle)
	}
	if !in || err != nil {
		if err := b.mend(s); err != nil { //nolint:contextcheck // sessions outlive who opens or mends them
			return err
		}
	}
	s.expect(makeTimeout)
	err = f(s)
	if err != nil && !final(err) && !errors.Is(err, signers.ErrNotFound) {
		s.login = stale
	}
	return err
}

// makeTimeout is how long making an RSA key may take in a slow token.
const makeTimeout = 2 * time.Minute

// with is once, and again on a fresh session after an error that it may mend.
// f must be fit to be repeated.
func (b *Backend) with(ctx context.Context, f func(*session) error) error {
	pause, good := pauseMin, b.module.good.Load()
	for try := 0; ; try++ {
		err := b.once(ctx, f)
		if err == nil || final(err) || errors.Is(err, signers.ErrNotFound) || try == 3 {
			return err
		}
		if try == 2 {
			b.renew(good) //nolint:contextcheck // sessions outlive who opens or mends them
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
		pause *= 2
	}
}

// admit makes a Key of a pair whose attributes are those of a key we make.
func (b *Backend) admit(s *session, id signers.KeyID, alg signers.Algorithm, mech mechanism, p pair) (signers.Key, error) {
	attested, err := b.attest(s.handle, id, p)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: key %q: %w", id, err)
	}
	pub, err := b.public(s.handle, p.public, alg)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: key %q: %w", id, err)
	}
	k := &Key{backend: b, id: id, alg: alg, mech: mech, public: pub, attested: attested}
	k.place.Store(&place{p.private, s.life, s.login})
	b.keysMu.Lock()
	defer b.keysMu.Unlock()
	if b.keys[id] == nil {
		b.keys[id] = &use{}
	}
	k.use = b.keys[id]
	return k, nil
}

// Destroy destroys a key pair, found by its id alone; an absent one is fine.
func (b *Backend) Destroy(ctx context.Context, id signers.KeyID) error {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return err
	}
	b.making.Lock()
	defer b.making.Unlock()
	err := b.with(ctx, func(s *session) error {
		if err := b.forget(ctx, id); err != nil {
			return err
		}
		p, err := b.locate(s.handle, id)
		if err != nil {
			return err
		}
		return b.remove(s.handle, p)
	})
	if err == nil || errors.Is(err, signers.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("pkcs11: destroy %q: %w", id, err)
}

// forget stops handles that were given out, and returns when none is in use: a
// later key by the same id is another key.
func (b *Backend) forget(ctx context.Context, id signers.KeyID) error {
	b.keysMu.Lock()
	old := b.keys[id]
	b.keysMu.Unlock()
	if old == nil {
		return nil
	}
	if err := old.end(ctx); err != nil {
		return err
	}
	b.keysMu.Lock()
	defer b.keysMu.Unlock()
	if b.keys[id] == old {
		delete(b.keys, id)
	}
	return nil
}

// Close lets signatures under way end, and logs out with the last session.
func (b *Backend) Close() error {
	b.adminMu.Lock()
	defer b.adminMu.Unlock()
	if b.closed.Swap(true) {
		return nil
	}
	b.stop()
	if err := b.pool.close(); err != nil {
		return err
	}
	b.closeSession(b.admin)
	return b.module.release()
}
