package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// A request is one signature that somebody waits for.
type request struct {
	ctx   context.Context
	key   *Key
	input []byte
	begun time.Time
	at    *place        // of the key, for this try
	done  chan struct{} // closed when sig and err stand
	sig   []byte
	err   error
	cause atomic.Pointer[error] // of the last try that failed
}

// answer ends a request.
func (r *request) answer(sig []byte, err error) {
	r.sig, r.err = sig, err
	close(r.done)
}

// A session is one PKCS #11 session, used by one goroutine at a time: modules
// crash otherwise.
type session struct {
	handle pkcs11.SessionHandle
	life   int64        // of the module, in which it was opened
	login  int64        // of the token, that it has seen
	due    atomic.Int64 // when what it does now must be done, as monotonic has it; 0: it does nothing
	batch  *batch
}

// expect says how long what the session does next may take.
func (s *session) expect(within time.Duration) { s.due.Store(monotonic() + int64(within)) }

func (s *session) rest() { s.due.Store(0) }

// late is for how long the session has done nothing that it should have.
func (s *session) late(patience time.Duration) time.Duration {
	due := s.due.Load()
	if due == 0 {
		return 0
	}
	if s.batch != nil {
		if began := s.batch.began(); began != 0 {
			due = max(due, began+int64(patience))
		}
	}
	return time.Duration(max(0, monotonic()-due))
}

// A pool lends a fixed number of sessions to goroutines that work off a line,
// up to batchMost signatures in one crossing. A caller never enters the module
// itself: a C call can't be cancelled, and a caller must be able to leave.
type pool struct {
	backend *Backend
	limit   int // of the line

	slow atomic.Bool // the token takes its time: one signature a crossing

	mu       sync.Mutex
	idle     []*session
	all      []*session
	size     int        // sessions there should be
	line     []*request // oldest first
	parked   []*request // to be tried again when the ladder says so
	climbing bool       // the ladder is at work
	closed   bool
	busy     sync.WaitGroup // sessions lent out, and the ladder
}

// sign makes one signature: it waits in line for it until ctx ends.
func (p *pool) sign(r *request) ([]byte, error) {
	if err := p.join(r); err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r.sig, r.err
	case <-r.ctx.Done():
		p.leave(r)
		err := fmt.Errorf("pkcs11: waiting for a session: %w", r.ctx.Err())
		if why := r.why(); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		return nil, err
	}
}

// join puts a request in line, or with those that the token has failed.
func (p *pool) join(r *request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return signers.ErrClosed
	case len(p.line)+len(p.parked) >= p.limit:
		return fmt.Errorf("pkcs11: %d signatures wait for a session: %w", p.limit, signers.ErrBusy)
	}
	r.done = make(chan struct{})
	if p.climbing && p.backend.ladder.down() {
		p.parked = append(p.parked, r)
		return nil
	}
	p.line = append(p.line, r)
	p.start(1)
	return nil
}

// leave takes a request out of line; one that is being worked on ends unseen.
func (p *pool) leave(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := func(x *request) bool { return x == r }
	p.line = slices.DeleteFunc(p.line, same)
	p.parked = slices.DeleteFunc(p.parked, same)
}

// start puts up to n idle sessions to work. Called with mu held.
func (p *pool) start(n int) {
	for ; n > 0 && len(p.idle) > 0 && len(p.line) > 0; n-- {
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.busy.Add(1)
		go p.workOff(s)
	}
}

// workOff signs for the line until it is empty.
func (p *pool) workOff(s *session) {
	for {
		batch := p.take(s)
		if len(batch) == 0 {
			return
		}
		if failed := p.backend.work(s, batch); len(failed) > 0 {
			p.park(failed)
		}
	}
}

// take takes a batch from the line, or gives the session back.
func (p *pool) take(s *session) []*request {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A fair share: with many sessions, a long batch would leave others
	// without work. With a slow token a crossing costs nothing beside the
	// signature, and answers that come in bunches leave gaps behind them.
	n := min(len(p.line), max(1, min(batchMost, len(p.line)/p.size)))
	if p.slow.Load() {
		n = min(n, 1)
	}
	if n == 0 {
		p.idle = append(p.idle, s)
		p.busy.Done()
		return nil
	}
	batch := p.line[:n:n]
	p.line = p.line[n:]
	return batch
}

// park keeps requests that failed on a fresh session, and has the ladder
// climbed until there are none.
func (p *pool) park(failed []*request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		orphaned(failed)
		return
	}
	p.parked = append(p.parked, failed...)
	if !p.climbing {
		p.climbing = true
		p.busy.Add(1)
		go p.backend.climb()
	}
}

// unpark puts up to n parked requests back in line, oldest first, and reports
// whether any were left.
func (p *pool) unpark(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(n, len(p.parked))
	p.line = append(slices.Clone(p.parked[:n]), p.line...)
	p.parked = p.parked[n:]
	p.start(n)
	if n == 0 {
		p.climbing = false
		p.busy.Done()
	}
	return n > 0
}

// borrow takes an idle session that is not needed, nil if there is none.
func (p *pool) borrow() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == 0 || len(p.line) > 0 {
		return nil
	}
	s := p.idle[0]
	p.idle = p.idle[1:]
	p.busy.Add(1)
	return s
}

// giveBack returns a borrowed session, or puts it to work.
func (p *pool) giveBack(s *session) {
	go p.workOff(s)
}

// close lets signatures under way and in line end, and closes the sessions.
// What the token has failed is not waited for.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	orphans := p.parked
	p.parked = nil
	p.mu.Unlock()
	orphaned(orphans)
	ended := make(chan struct{})
	go func() { p.busy.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(stuckAfter):
		return errStuck
	}
	for _, s := range p.idle {
		s.batch.free()
		p.backend.closeSession(s)
	}
	p.idle = nil
	return nil
}

// stuckAfter is how long Close waits for calls into the module.
const stuckAfter = 10 * time.Second

// errStuck is Close's answer when a call into the module does not come back.
var errStuck = errors.New("pkcs11: a call into the module does not come back; it is left as it is")

func orphaned(requests []*request) {
	for _, r := range requests {
		r.answer(nil, signers.ErrClosed)
	}
}
