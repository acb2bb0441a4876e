package softkey

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/signers"
)

// Faults make a Backend misbehave on purpose, so that what stands above it can
// be tested without a broken HSM. The zero value behaves.
type Faults struct {
	// Delay is how long a signature takes, on one of Sessions: what a network
	// HSM looks like. It costs no processor time. Callers beyond Sessions wait
	// in line, first come first served; 0 sessions means no limit.
	Delay    time.Duration
	Sessions int

	FailEvery      int  // each n-th signature is ErrUnavailable
	WrongSignature bool // signatures have the right form and do not verify
	WrongKey       bool // another key of the same algorithm signs
	ErrAfterCreate bool // Create makes the key and loses the answer: ErrUnavailable
	Unavailable    bool // everything is ErrUnavailable
}

var errOnRequest = fmt.Errorf("fault on request: %w", signers.ErrUnavailable)

// SetFaults replaces the faults, while signatures may be under way: each one
// ends as it began.
func (b *Backend) SetFaults(f Faults) {
	if f == (Faults{}) {
		b.faults.Store(nil)
		return
	}
	// A stopwatch, not a clock: nothing here depends on the hour.
	s := &faultState{Faults: f, began: <-time.After(0)}
	for range f.Sessions {
		s.line.free = append(s.line.free, &session{})
	}
	b.faults.Store(s)
}

// A faultState is one set of faults at work.
type faultState struct {
	Faults
	began  time.Time
	signed atomic.Int64
	line   line
	wrong  sync.Map // signers.Algorithm -> *entry, for WrongKey
}

func (f *faultState) sign(ctx context.Context, e *entry, message []byte) ([]byte, error) {
	if f.Unavailable {
		return nil, errOnRequest
	}
	n := f.signed.Add(1)
	sig, err := f.delayed(ctx, func() ([]byte, error) { return f.signWrong(ctx, e, message) })
	if err == nil && f.FailEvery > 0 && n%int64(f.FailEvery) == 0 {
		return nil, errOnRequest
	}
	if err == nil && e.gone.Load() {
		return nil, signers.ErrNotFound // destroyed while it waited
	}
	return sig, err
}

func (f *faultState) signWrong(ctx context.Context, e *entry, message []byte) ([]byte, error) {
	if f.WrongKey {
		other, err := f.wrongKey(ctx, e.alg)
		if err != nil {
			return nil, err
		}
		e = other
	}
	sig, err := e.sign(message)
	if err == nil && f.WrongSignature {
		sig[len(sig)-1] ^= 1 // DER stays DER, and the length stays
	}
	return sig, err
}

// wrongKey makes one key for each algorithm and keeps it.
func (f *faultState) wrongKey(ctx context.Context, alg signers.Algorithm) (*entry, error) {
	if e, ok := f.wrong.Load(alg); ok {
		return e.(*entry), nil
	}
	e, err := generate(ctx, "wrong-key", alg)
	if err != nil {
		return nil, err
	}
	first, _ := f.wrong.LoadOrStore(alg, e)
	return first.(*entry), nil
}

// delayed computes the signature first and then waits, so that the delay is
// the whole time a signature takes.
func (f *faultState) delayed(ctx context.Context, sign func() ([]byte, error)) ([]byte, error) {
	if f.Delay <= 0 {
		return sign()
	}
	s := &session{}
	if f.Sessions > 0 {
		var err error
		if s, err = f.line.take(ctx); err != nil {
			return nil, err
		}
		defer f.line.give(s)
	}
	wait := f.begin(s)
	sig, err := sign()
	if err != nil {
		return nil, err
	}
	return sig, wait(ctx)
}

// A session signs one message at a time. Timers fire late, by a tenth of a
// millisecond when idle, so a session keeps a timetable: one whose timer was
// late begins the next signature as much earlier, and one with callers in line
// begins it when it became free, not when the caller awoke. So Sessions/Delay
// is met on average, and a caller that dawdles between two signatures still
// pays for it.
type session struct {
	until time.Duration // when the signature it has is due
	late  time.Duration // how much later than that its caller awoke
	line  bool          // the next caller was in line for it
}

// start is when a signature begins that is asked for at now. No more than one
// delay is made up for: what is later than that was not the timer.
func (s *session) start(now, delay time.Duration) time.Duration {
	credit := s.late
	if s.line {
		credit = now - s.until
	}
	// Not before until: its last caller may have gone away, and it is busy.
	return max(s.until, now-min(credit, delay))
}

// begin enters a signature in the timetable. It returns what waits until due.
func (f *faultState) begin(s *session) (wait func(context.Context) error) {
	s.until, s.late, s.line = s.start(time.Since(f.began), f.Delay)+f.Delay, 0, false
	return func(ctx context.Context) error {
		if err := sleep(ctx, s.until-time.Since(f.began)); err != nil {
			return err
		}
		s.late = max(0, time.Since(f.began)-s.until)
		return nil
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// A line hands free sessions to callers in the order they came.
type line struct {
	mu      sync.Mutex
	free    []*session
	waiting []chan *session
}

func (l *line) take(ctx context.Context) (*session, error) {
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		s := l.free[n-1]
		l.free = l.free[:n-1]
		l.mu.Unlock()
		return s, nil
	}
	turn := make(chan *session, 1)
	l.waiting = append(l.waiting, turn)
	l.mu.Unlock()
	select {
	case s := <-turn:
		return s, nil
	case <-ctx.Done():
		l.leave(turn)
		return nil, ctx.Err()
	}
}

// leave gives up a place in line, or passes on the session that came with it.
func (l *line) leave(turn chan *session) {
	l.mu.Lock()
	i := slices.Index(l.waiting, turn)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.mu.Unlock()
	if i < 0 {
		l.give(<-turn)
	}
}

func (l *line) give(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.free = append(l.free, s)
		return
	}
	turn := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	s.line = true
	turn <- s
}
