package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/signetd/signet/signers"
)

// A Link is a process that was started, and the connection to it.
type Link interface {
	Conn() grpc.ClientConnInterface
	PID() int
	Ended() <-chan struct{} // closed when the process has ended
	Kill()
	Close() // after Kill: returns when nothing of it is left
}

// Options say how to run a back-end's process.
type Options struct {
	Name     string // for logs and errors
	Type     string // what Opener gets
	Settings []byte

	// Start starts a process that calls Main. It is called again when the
	// process has ended.
	Start func(context.Context) (Link, error)

	OpenTimeout time.Duration    // from the start to an open back-end; 30 s if 0
	Poll        time.Duration    // between looks at whether it still moves; 500 ms if 0
	Now         func() time.Time // required
	Log         *slog.Logger     // required
}

// The pause before a process is started again: the key is to serve again
// within five seconds of a crash, and a crash at every start must not become a
// storm.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 2 * time.Second
)

// A Backend is a back-end in a process of its own, which is started again when
// it ends. Calls that meet its end wait for the next one, until their deadline.
// It implements signers.Backend, Lister, Adopter and Reporter.
type Backend struct {
	opts Options

	mu       sync.Mutex
	live     *life         // nil while there is none
	changed  chan struct{} // closed and replaced when live, why or closed changes
	why      error         // there is no live
	closed   bool
	restarts int64

	ctx     context.Context // ended by stop
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open starts the process and opens the back-end in it. It does not try twice:
// at start-up a person is watching.
func Open(ctx context.Context, opts Options) (*Backend, error) {
	if opts.OpenTimeout == 0 {
		opts.OpenTimeout = 30 * time.Second
	}
	if opts.Poll == 0 {
		opts.Poll = 500 * time.Millisecond
	}
	b := &Backend{opts: opts, changed: make(chan struct{})}
	b.ctx, b.stop = context.WithCancel(context.Background())
	first, err := b.begin(ctx)
	if err != nil {
		b.stop()
		return nil, err
	}
	b.publish(first, nil)
	b.running.Go(func() { b.keepRunning(first) })
	return b, nil
}

// publish makes l the live process, nil for none, and says why.
func (b *Backend) publish(l *life, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live, b.why = l, why
	close(b.changed)
	b.changed = make(chan struct{})
}

// keepRunning waits for a life to end and begins the next, until Close.
func (b *Backend) keepRunning(l *life) {
	pause := pauseMin
	for {
		begun := b.opts.Now()
		why := l.watch(b.ctx, b.opts.Poll)
		b.publish(nil, why)
		l.end()
		if b.ctx.Err() != nil {
			return
		}
		b.opts.Log.Error("back-end's process ended", slog.String("backend", b.opts.Name), slog.Any("why", why))
		if b.opts.Now().Sub(begun) > time.Minute {
			pause = pauseMin
		}
		if l = b.again(&pause); l == nil {
			return
		}
	}
}

// again begins a life, with pauses that double, until one comes up. A PIN that
// was refused is the end: nothing is tried again.
func (b *Backend) again(pause *time.Duration) *life {
	for {
		select {
		case <-time.After(*pause):
		case <-b.ctx.Done():
			return nil
		}
		*pause = min(2**pause, pauseMax)
		l, err := b.begin(b.ctx)
		if err == nil {
			b.mu.Lock()
			b.restarts++
			b.mu.Unlock()
			b.publish(l, nil)
			b.opts.Log.Warn("back-end's process started again", slog.String("backend", b.opts.Name), slog.Int("pid", l.link.PID()))
			return l
		}
		b.publish(nil, err)
		b.opts.Log.Error("back-end's process did not start", slog.String("backend", b.opts.Name), slog.Any("error", err))
		if errors.Is(err, signers.ErrDenied) {
			return nil
		}
	}
}

// process returns the live process, and waits for one until ctx ends.
func (b *Backend) process(ctx context.Context) (*life, error) {
	for {
		b.mu.Lock()
		l, why, closed, changed := b.live, b.why, b.closed, b.changed
		b.mu.Unlock()
		switch {
		case closed:
			return nil, fmt.Errorf("back-end %q: %w", b.opts.Name, signers.ErrClosed)
		case l != nil:
			return l, nil
		case errors.Is(why, signers.ErrDenied):
			return nil, why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("back-end %q: %w: %w", b.opts.Name, ErrDown, ctx.Err())
		}
	}
}

// call runs f against the live process, and again in the next if that one ends
// meanwhile.
func (b *Backend) call(ctx context.Context, f func(*life) error) error {
	for {
		l, err := b.process(ctx)
		if err != nil {
			return err
		}
		err = f(l)
		if !ended(err) {
			return err
		}
		select {
		case <-l.over:
		case <-ctx.Done():
			return fmt.Errorf("back-end %q: %w: %w", b.opts.Name, ErrDown, ctx.Err())
		}
	}
}

// Report says how the back-end fares. It implements signers.Reporter.
func (b *Backend) Report() signers.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := signers.Report{Where: "process", State: "down", Recoveries: map[string]int64{}}
	if b.why != nil {
		r.Why = b.why.Error()
	}
	if errors.Is(b.why, signers.ErrDenied) {
		r.State = "refused"
	}
	if b.live != nil {
		r = b.live.report()
	}
	r.Recoveries["process"] = b.restarts
	return r
}

// Close ends the process, when signatures under way have been answered.
func (b *Backend) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	close(b.changed)
	b.changed = make(chan struct{})
	live := b.live
	b.mu.Unlock()
	if live != nil {
		live.drain(closeTimeout)
	}
	b.stop()
	b.running.Wait()
	return nil
}

// closeTimeout is how long Close waits for signatures under way.
const closeTimeout = 10 * time.Second
