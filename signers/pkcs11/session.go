package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/signers"
)

// A request is one signature that somebody waits for.
type request struct {
	ctx   context.Context
	key   *Key
	input []byte
	done  chan struct{}
	sig   []byte
	err   error
}

// A session is one PKCS #11 session, used by one goroutine at a time: modules
// crash otherwise.
type session struct {
	handle pkcs11.SessionHandle
	batch  *batch
}

// A pool lends a fixed number of sessions. A caller that finds one idle signs
// by itself, with no hand-over; when all are busy, requests wait in line, and
// whoever gives a session back starts a goroutine that works the line off, up
// to batchMost in one crossing, so that a busy session never waits for Go.
type pool struct {
	backend *Backend
	limit   int // of the line

	mu     sync.Mutex
	idle   []*session
	size   int // sessions there should be
	line   []*request
	closed bool
	busy   sync.WaitGroup // sessions lent out
}

// sign makes one signature, or waits in line for it.
func (p *pool) sign(r *request) ([]byte, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, signers.ErrClosed
	}
	if len(p.idle) > 0 && len(p.line) == 0 {
		s := p.lend()
		p.mu.Unlock()
		p.backend.work(s, []*request{r})
		p.giveBack(s)
		return r.sig, r.err
	}
	if len(p.line) >= p.limit {
		p.mu.Unlock()
		return nil, fmt.Errorf("pkcs11: %d signatures wait for a session: %w", p.limit, signers.ErrUnavailable)
	}
	r.done = make(chan struct{})
	p.line = append(p.line, r)
	p.mu.Unlock()
	select {
	case <-r.done:
		return r.sig, r.err
	case <-r.ctx.Done():
		return nil, fmt.Errorf("pkcs11: waiting for a session: %w", r.ctx.Err())
	}
}

// lend takes an idle session. Called with mu held.
func (p *pool) lend() *session {
	s := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	p.busy.Add(1)
	return s
}

// giveBack returns a session, or keeps it at work while there is a line.
func (p *pool) giveBack(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) > 0 {
		go p.workOff(s)
		return
	}
	p.idle = append(p.idle, s)
	p.busy.Done()
}

// workOff signs for the line until it is empty.
func (p *pool) workOff(s *session) {
	for {
		p.mu.Lock()
		// A fair share: with many sessions and a slow token, a long batch
		// would leave other sessions without work.
		n := min(len(p.line), max(1, min(batchMost, len(p.line)/p.size)))
		if n == 0 {
			p.idle = append(p.idle, s)
			p.busy.Done()
			p.mu.Unlock()
			return
		}
		batch := p.line[:n:n]
		p.line = p.line[n:]
		p.mu.Unlock()
		p.backend.work(s, batch)
		for _, r := range batch {
			close(r.done)
		}
	}
}

// close lets signatures under way and in line end, and closes the sessions.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.busy.Wait()
	for _, s := range p.idle {
		s.batch.free()
		_ = p.backend.module.ctx.CloseSession(s.handle) // it may be gone already
	}
	p.idle = nil
}

// work makes a batch of signatures on a session. What failed in a way that a
// fresh session may mend is tried once more.
func (b *Backend) work(s *session, batch []*request) {
	todo := b.round(s, batch)
	for len(todo) > 0 {
		first := todo[0]
		if err := b.recover(first.ctx, s, first.key); err != nil {
			for _, r := range todo {
				r.err = err
			}
			return
		}
		// One at a time now: each has one more try, whatever the others do.
		b.round(s, todo[:1])
		if errors.Is(first.err, errNotReached) || first.err != nil && recoverable(first.err) {
			first.err = fmt.Errorf("pkcs11: again after a new session: %w: %w", signers.ErrUnavailable, first.err)
		}
		todo = todo[1:]
		if len(todo) > 0 {
			todo = b.round(s, todo)
		}
	}
}

// round makes signatures in one crossing and returns those to try again.
func (b *Backend) round(s *session, batch []*request) []*request {
	live := make([]*request, 0, len(batch))
	for _, r := range batch {
		if r.err = r.key.usable(r.ctx); r.err == nil {
			s.batch.set(len(live), r)
			live = append(live, r)
		}
	}
	if len(live) == 0 {
		return nil
	}
	b.module.sign(s.handle, s.batch, len(live))
	var again []*request
	for i, r := range live {
		if r.sig, r.err = s.batch.get(i); r.err != nil && (errors.Is(r.err, errNotReached) || recoverable(r.err)) {
			again = append(again, r)
		}
	}
	if len(again) == 0 && live[len(live)-1].err != nil {
		// An error leaves an operation open on some modules: never lend such
		// a session again.
		if err := b.replace(s); err != nil {
			b.cfg.Log.Error("pkcs11 session could not be replaced", slog.Any("error", err))
		}
	}
	return again
}
