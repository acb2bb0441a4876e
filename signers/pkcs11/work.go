package pkcs11

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/signetd/signet/signers"
)

// work makes a batch of signatures on a session and answers those who wait. It
// returns those that failed on a fresh session too.
func (b *Backend) work(s *session, batch []*request) []*request {
	b.module.enter()
	defer b.module.leave()
	defer s.rest()
	s.expect(b.cfg.HangAfter)
	todo := b.round(s, batch)
	for len(todo) > 0 {
		s.expect(b.cfg.HangAfter)
		if err := b.mend(s); err != nil {
			return b.settle(todo, err)
		}
		// One at a time now: each has one more try, whatever the others do.
		first := todo[:1]
		todo = todo[1:]
		if again := b.round(s, first); len(again) > 0 {
			b.ladder.fell(again[0].why(), b.cfg.Now())
			return append(todo, again...) // last: it may be this key's fault alone
		}
		todo = b.round(s, todo)
	}
	return nil
}

// settle answers requests with err if nothing can mend it, and returns them
// otherwise.
func (b *Backend) settle(batch []*request, err error) []*request {
	if !errors.Is(err, signers.ErrDenied) {
		b.ladder.fell(err, b.cfg.Now())
		for _, r := range batch {
			r.cause.Store(&err)
		}
		return batch
	}
	for _, r := range batch {
		r.answer(nil, err)
	}
	return nil
}

// round makes signatures in one crossing and answers those who wait. It
// returns those that failed in a way that a fresh session may mend.
func (b *Backend) round(s *session, batch []*request) []*request {
	var again []*request
	live := make([]*request, 0, len(batch))
	for _, r := range batch {
		if err := b.ready(s, r); err == nil {
			s.batch.set(len(live), r)
			live = append(live, r)
		} else if b.failed(r, err) {
			again = append(again, r)
		}
	}
	if len(live) == 0 {
		return again
	}
	s.expect(b.cfg.HangAfter)
	begun := monotonic()
	b.module.sign(s.handle, s.batch, len(live))
	b.pool.slow.Store(time.Duration(monotonic()-begun) > slowSignature*time.Duration(len(live)))
	return append(again, b.collect(s, live)...)
}

// slowSignature is what a signature takes where a crossing, of some
// microseconds, is not worth sharing.
const slowSignature = time.Millisecond

// collect takes the results of a crossing.
func (b *Backend) collect(s *session, live []*request) (again []*request) {
	var last error
	good := false
	for i, r := range live {
		sig, err := s.batch.get(i)
		r.key.use.leave()
		if err == nil {
			sig, err = r.key.mech.output(r.key.alg, sig)
		}
		if err == nil {
			if !good { // before the first of them knows
				b.module.good.Add(1)
				b.ladder.rose()
			}
			good = true
			r.answer(sig, nil)
			continue
		}
		last = err
		if b.failed(r, err) {
			again = append(again, r)
		}
	}
	if last != nil {
		// An error leaves an operation open on some modules: never sign with
		// such a session again.
		s.login = stale
	}
	return again
}

// ready says whether a request may be put to the module on this session. If so,
// its key is in use until collect.
func (b *Backend) ready(s *session, r *request) error {
	if err := r.key.usable(r.ctx); err != nil {
		return err
	}
	if b.cfg.Now().Sub(r.begun) > b.cfg.Patience {
		return r.gaveUp(b.cfg.Patience)
	}
	if s.life != b.module.life.Load() || s.login != b.logins.Load() { // or it is stale
		return errStale
	}
	if !r.key.use.enter() {
		return signers.ErrNotFound
	}
	var err error
	if r.at, err = b.resolve(s, r.key); err != nil {
		r.key.use.leave()
	}
	return err
}

// stale is the login of a session that is to be replaced before it is used.
const stale = -1

// errStale marks a session of an earlier life of the module or login.
var errStale = errors.New("pkcs11: the session is of an earlier login")

// why is the cause of the last try's failure, nil for none.
func (r *request) why() error {
	if cause := r.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// gaveUp is the end of a request whose caller has set no deadline of its own.
func (r *request) gaveUp(after time.Duration) error {
	return fmt.Errorf("pkcs11: no signature within %v: %w: %w", after, errGaveUp, cmp.Or(r.why(), signers.ErrUnavailable))
}

var errGaveUp = errors.New("gave up")

// failed answers a request with err, or reports that it should be tried again.
func (b *Backend) failed(r *request, err error) bool {
	if r.key.use.gone.Load() {
		// A key that is being destroyed fails in ways of the module's own.
		err = signers.ErrNotFound
	} else if !final(err) {
		r.key.place.Store(nil) // find it again
		if !errors.Is(err, errNotReached) {
			r.cause.Store(&err)
		}
		return true
	}
	r.answer(nil, err)
	return false
}
