package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// The recovery ladder. Whatever a module answers, but for what is final, the
// session that it answered on is closed, and the work is done again:
//
//  1. on a new session,
//  2. logged in again, if the login is gone,
//  3. with the key found again, which must be the key that it was,
//  4. after the module was finalised and initialised again,
//  5. in a new process (signers/remote), if the module has one to itself.
//
// The first three are taken at once, by whoever met the error. Then those who
// wait are tried again after a pause that doubles, and every second pause ends
// with the fourth, as long as nothing on the module signs. Where another token
// of the module does, the fourth waits, longer each time: it costs that token a
// pause. Callers see a delay until their deadline. A PIN that was refused is
// never tried again.

// Pauses of the ladder. Service is to be back within two seconds of the end of
// a fault, so the longest leaves room for two.
const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 500 * time.Millisecond
)

// How long a token that fails waits for the fourth rung while others sign: at
// first, and at most.
const (
	othersMin = time.Second
	othersMax = time.Minute
)

// hopeless is what no fresh session mends, beside what [meaning] has.
var hopeless = map[pkcs11.Error]bool{
	pkcs11.CKR_DATA_INVALID:   true,
	pkcs11.CKR_DATA_LEN_RANGE: true,
}

// final reports whether trying again is of no use.
func final(err error) bool {
	for _, e := range []error{
		signers.ErrDenied, signers.ErrUnsupported, signers.ErrMismatch, signers.ErrClosed,
		context.Canceled, context.DeadlineExceeded, errGaveUp,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var rv pkcs11.Error
	return errors.As(err, &rv) && hopeless[rv]
}

// A ladder counts how often a fresh session did not help.
type ladder struct {
	mu    sync.Mutex
	falls int // in a row
	since time.Time
	last  error
	next  time.Time         // when the fourth rung is worth a pause of others
	wait  time.Duration     // from then to the time after
	steps [len(rungs)]int64 // how often each rung was taken
}

// The rungs, as steps counts them.
const (
	rungSession = iota
	rungLogin
	rungKey
	rungModule
)

// rungs are their names, for reports.
var rungs = [...]string{"session", "login", "key", "module"}

func (l *ladder) fell(why error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = why
	if l.falls++; l.falls == 1 {
		l.since = now
	}
}

// rose notes that something was signed.
func (l *ladder) rose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.falls, l.wait = 0, 0
}

// mayDisturb reports whether the fourth rung may be taken although others sign.
// Some modules find a token again in no other way.
func (l *ladder) mayDisturb(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wait == 0 {
		l.wait, l.next = othersMin, now.Add(othersMin)
	}
	if now.Before(l.next) {
		return false
	}
	l.wait = min(2*l.wait, othersMax)
	l.next = now.Add(l.wait)
	return true
}

func (l *ladder) took(rung int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps[rung]++
}

// down reports whether the token has failed so often, with nothing signed in
// between, that the next signature should wait for the ladder.
func (l *ladder) down() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.falls >= 3
}

// climb tries those who wait again and again, until none does.
func (b *Backend) climb() {
	pause, good := pauseMin, b.module.good.Load()
	for step := 0; ; step++ {
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
		}
		now := b.module.good.Load()
		if step%2 == 1 && b.ladder.down() {
			b.renew(good)
		}
		good = now
		n := 1 // a probe
		if !b.ladder.down() {
			n = b.cfg.Queue
		}
		if !b.pool.unpark(n) {
			return
		}
		pause = min(2*pause, pauseMax)
	}
}

// renew takes the fourth rung, if nothing on the module has signed since good.
func (b *Backend) renew(good int64) {
	if b.module.good.Load() != good && !b.ladder.mayDisturb(b.cfg.Now()) {
		return
	}
	life := b.module.life.Load()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	if err := b.module.renew(ctx, life); err != nil {
		b.cfg.Log.Error("pkcs11 module could not be initialised again", slog.Any("error", err))
		return
	}
	b.ladder.took(rungModule)
	b.cfg.Log.Warn("pkcs11 module initialised again")
}

// mend gives a session a new handle and sees that it is logged in. The gate
// must be held in part.
func (b *Backend) mend(s *session) error {
	if err := b.replace(s); err != nil {
		return err
	}
	b.ladder.took(rungSession)
	return b.relogin(s)
}

// replace opens a new session in the place of one that failed, and only then
// closes the old one: the login goes with the last session.
func (b *Backend) replace(s *session) error {
	life := b.module.life.Load()
	if err := b.arrive(life); err != nil {
		return err
	}
	fresh, err := b.openSession()
	if is(err, pkcs11.CKR_SESSION_COUNT) && s.life == life {
		// There is no room for both. The others keep the login, if there are any.
		b.closeSession(s)
		s.life = 0 // the handle may be another's soon
		fresh, err = b.openSession()
	}
	if err != nil {
		b.arrived.Store(0) // the token may have another slot by now
		return err
	}
	b.closeSession(s)
	s.handle, s.life = fresh, life
	return nil
}

// arrive finds the token again in a new life of the module.
func (b *Backend) arrive(life int64) error {
	b.loginMu.Lock()
	defer b.loginMu.Unlock()
	if b.arrived.Load() == life {
		return nil
	}
	if err := b.findToken(); err != nil {
		return err
	}
	b.arrived.Store(life)
	return nil
}

// closeSession closes a session's handle, if it still is the session's: in
// another life of the module the same number may be anybody's.
func (b *Backend) closeSession(s *session) {
	if s.life == b.module.life.Load() {
		_ = b.module.ctx.CloseSession(s.handle) // it may be gone already
	}
}

// relogin logs in if the session is not logged in any more.
func (b *Backend) relogin(s *session) error {
	b.loginMu.Lock()
	defer b.loginMu.Unlock()
	in, err := b.loggedIn(s.handle)
	if err != nil {
		return err
	}
	if !in || b.cfg.Quirks.LoginEachSession {
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		defer cancel()
		if err := b.login(ctx, s.handle); err != nil {
			return err
		}
		b.ladder.took(rungLogin)
		// Object handles die with a login on some modules, and may then
		// name other objects; not where each session has its own.
		if !b.cfg.Quirks.LoginEachSession {
			b.logins.Add(1)
		}
	}
	s.login = b.logins.Load()
	return nil
}

// loggedIn asks the token.
func (b *Backend) loggedIn(s pkcs11.SessionHandle) (bool, error) {
	info, err := b.module.ctx.GetSessionInfo(s)
	if err != nil {
		return false, fmt.Errorf("pkcs11: %w", failed("C_GetSessionInfo", err))
	}
	return info.State == pkcs11.CKS_RW_USER_FUNCTIONS || info.State == pkcs11.CKS_RO_USER_FUNCTIONS, nil
}

// A place is where a key was found: a handle is good for one login in one life
// of the module.
type place struct {
	handle      pkcs11.ObjectHandle
	life, login int64
}

// resolve finds a key again if it must be. What is found must be the key that
// was lost: a stale handle may name another.
func (b *Backend) resolve(s *session, k *Key) (*place, error) {
	if at := k.place.Load(); at != nil && at.life == s.life && at.login == s.login {
		return at, nil
	}
	found, err := b.find(s, k.id, k.mech)
	if errors.Is(err, signers.ErrNotFound) || errors.Is(err, errHalf) {
		// It was there: a login that was lost hides it, and a token that was
		// reset has nothing until the module is initialised again.
		err = fmt.Errorf("%w: the token does not have it now", signers.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("pkcs11: key %q: find it again: %w", k.id, err)
	}
	pub, err := b.public(s.handle, found.public, k.alg)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: key %q: read it again: %w", k.id, err)
	}
	if !equalKeys(k.public, pub) {
		return nil, fmt.Errorf("pkcs11: key %q: the token has another key by this id now: %w", k.id, signers.ErrMismatch)
	}
	b.ladder.took(rungKey)
	at := &place{found.private, s.life, s.login}
	k.place.Store(at)
	return at, nil
}

// keepAlive looks at each session that nobody needs, so that a token that
// drops idle ones is met here and not by a caller.
func (b *Backend) keepAlive() {
	every := time.NewTicker(b.cfg.KeepAlive)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-b.ctx.Done():
			return
		}
		for range b.cfg.Sessions {
			if s := b.pool.borrow(); s != nil {
				b.look(s)
				b.pool.giveBack(s)
			}
		}
	}
}

// look mends a session that is not what it was.
func (b *Backend) look(s *session) {
	b.module.enter()
	defer b.module.leave()
	if s.life == b.module.life.Load() && s.login == b.logins.Load() {
		if in, err := b.loggedIn(s.handle); in && err == nil {
			return
		}
	}
	if err := b.mend(s); err != nil {
		b.cfg.Log.Warn("pkcs11 session could not be replaced", slog.Any("error", err))
		return
	}
	b.cfg.Log.Info("pkcs11 session replaced")
}
