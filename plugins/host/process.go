package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host/sandbox"
	"github.com/signetd/signet/plugins/wire"
)

// errClosed is why a process is down after Close.
var errClosed = errors.New("closed")

// A Process is an issuer in a process of its own, which is started again when
// it ends. It implements plugins.Issuer; its methods may be called at the same
// time.
type Process struct {
	spec      Spec
	launcher  *Launcher
	described plugins.Description
	keys      wire.KeyWriter
	calls     sync.Pool

	live     atomic.Pointer[session] // nil while there is none
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when live or down changes
	down     error         // why it stays down; nil while it is kept running
	restarts atomic.Int64
	faults   atomic.Int64

	stop    context.CancelFunc
	ctx     context.Context // ended by stop
	running sync.WaitGroup
}

var _ plugins.Issuer = (*Process)(nil)

func newProcess(spec Spec) (*Process, error) {
	if spec.Rand == nil {
		spec.Rand = rand.Reader
	}
	launcher, err := NewLauncher(spec)
	if err != nil {
		return nil, err
	}
	p := &Process{spec: launcher.spec, launcher: launcher, changed: make(chan struct{})}
	p.calls.New = func() any { return newCall() }
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// Describe returns what the issuer said when it was started.
func (p *Process) Describe(context.Context) (plugins.Description, error) {
	d := p.described
	d.Algorithms = slices.Clone(d.Algorithms)
	return d, nil
}

// Prepare has the issuer draft a token. It returns ErrRefused, ErrDown, or the
// context's error if that ends first. While the issuer is being restarted it
// waits, for at most the deadline. What g points to must not be changed later.
func (p *Process) Prepare(ctx context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	key, err := p.keys.Message(k)
	if err != nil {
		return plugins.Draft{}, p.wrap(err)
	}
	c := p.calls.Get().(*call)
	n, err := wire.PutGrant(&c.grant, g)
	if err != nil {
		p.putBack(c)
		return plugins.Draft{}, p.wrap(err)
	}
	c.request.Key, c.size = key, n+proto.Size(key)+wire.MaxOverhead
	return p.do(ctx, c)
}

func (p *Process) do(ctx context.Context, c *call) (plugins.Draft, error) {
	s, err := p.session(ctx)
	if err != nil {
		p.putBack(c)
		return plugins.Draft{}, p.wrap(err)
	}
	if !s.ask(ctx, c) {
		return plugins.Draft{}, p.wrap(ctx.Err()) // and c is the session's, never put back
	}
	draft, err := c.draft, c.err
	p.putBack(c)
	if err != nil {
		return plugins.Draft{}, p.wrap(err)
	}
	return draft, nil
}

func (p *Process) putBack(c *call) {
	c.forget()
	p.calls.Put(c)
}

func (p *Process) wrap(err error) error { return fmt.Errorf("issuer %q: %w", p.spec.Name, err) }

// session returns the live session; it waits for one if the issuer is being
// restarted.
func (p *Process) session(ctx context.Context) (*session, error) {
	if s := p.live.Load(); s != nil {
		return s, nil
	}
	patience := time.NewTimer(p.spec.Deadline)
	defer patience.Stop()
	for {
		p.mu.Lock()
		s, changed, down := p.live.Load(), p.changed, p.down
		p.mu.Unlock()
		if s != nil {
			return s, nil
		}
		if down != nil {
			return nil, ErrDown
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDown, ctx.Err())
		case <-patience.C:
			return nil, ErrDown
		}
	}
}

// publish makes s the live session, nil for none.
func (p *Process) publish(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live.Store(s)
	p.wake()
}

// giveUp leaves the issuer down for good.
func (p *Process) giveUp(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live.Store(nil)
	if p.down == nil {
		p.down = why
	}
	p.wake()
}

// wake must be called with mu held.
func (p *Process) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// keepRunning waits for s to end and starts the next one, until there are too
// many or Close is called.
func (p *Process) keepRunning(s *session) {
	b := &budget{restart: p.spec.Restart, now: p.spec.Now, rand: p.spec.Rand}
	for s != nil {
		why := p.outlive(s)
		if p.ctx.Err() != nil {
			return
		}
		p.spec.Log.Warn("issuer process ended", slog.String("issuer", p.spec.Name), slog.Int("pid", s.link.child.PID()),
			slog.String("why", why.Error()), slog.String("how", s.link.child.How()))
		p.faults.Add(1)
		s = p.again(b)
	}
}

// outlive waits until s is over, cleans up after it and says why it ended.
func (p *Process) outlive(s *session) error {
	select {
	case <-s.over:
	case <-s.link.child.Ended():
		s.fail(errors.New("it ended"))
	case <-p.ctx.Done():
		s.fail(errClosed)
	}
	p.publish(nil) // first: who comes now should wait for the next one
	s.close()
	return s.why()
}

// again starts the issuer once more, after a pause, until it runs. It returns
// nil when it is not to be started again.
func (p *Process) again(b *budget) *session {
	for {
		pause, ok := b.crash()
		if !ok {
			p.giveUp(fmt.Errorf("it ended more than %d times in %v", b.restart.Crashes, b.restart.Window))
			p.spec.Log.Error("issuer process stays down", slog.String("issuer", p.spec.Name), slog.Int("crashes", len(b.crashes)),
				slog.String("hint", "see why it ends in the lines above, then restart signet"))
			return nil
		}
		select {
		case <-time.After(pause):
		case <-p.ctx.Done():
			return nil
		}
		s, err := p.relaunch()
		if err == nil {
			return s
		}
		p.spec.Log.Warn("issuer process did not start", slog.String("issuer", p.spec.Name), slog.String("why", err.Error()))
		p.faults.Add(1)
	}
}

// relaunch starts the issuer, which must describe itself as it did before.
func (p *Process) relaunch() (*session, error) {
	s, err := p.open(p.ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(s.described.Algorithms, p.described.Algorithms) || s.described.Inspects != p.described.Inspects {
		s.fail(errors.New("it describes itself differently"))
		s.close()
		return nil, s.why()
	}
	p.restarts.Add(1)
	p.publish(s)
	p.spec.Log.Info("issuer process restarted", slog.String("issuer", p.spec.Name), slog.Int("pid", s.link.child.PID()))
	return s, nil
}

// Healthy returns nil while the issuer can answer, else an error that wraps
// ErrDown and says why.
func (p *Process) Healthy() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return p.wrap(fmt.Errorf("%w: %w", ErrDown, p.down))
	}
	if p.live.Load() == nil {
		return p.wrap(fmt.Errorf("%w: it is being restarted", ErrDown))
	}
	return nil
}

// PID returns the process id of the issuer at present, 0 for none.
func (p *Process) PID() int {
	if s := p.live.Load(); s != nil {
		return s.link.child.PID()
	}
	return 0
}

// A Status is what a process is at present.
type Status struct {
	Name     string
	PID      int    // 0 while there is none
	State    string // "ready", "restarting" or "down"
	Restarts int
	Digest   string // SHA-256 that pins it, in hex; "" for the daemon's own binary
	Contains []sandbox.Measure
}

// Status returns what the process is at present, and what contains it.
func (p *Process) Status() Status {
	s := Status{Name: p.spec.Name, PID: p.PID(), State: "ready", Restarts: p.Restarts(), Digest: p.spec.SHA256}
	p.mu.Lock()
	switch {
	case p.down != nil:
		s.State = "down"
	case s.PID == 0:
		s.State = "restarting"
	}
	p.mu.Unlock()
	s.Contains = sandbox.Observe(s.PID, p.launcher.Measures())
	return s
}

// Restarts returns how many times the issuer was started again.
func (p *Process) Restarts() int { return int(p.restarts.Load()) }

// Faults returns how many times the issuer ended, was ended, or failed to
// start again.
func (p *Process) Faults() int { return int(p.faults.Load()) }

// Close ends the issuer; calls under way and later ones return ErrDown. A
// second Close does nothing.
func (p *Process) Close() error {
	p.giveUp(errClosed)
	p.release()
	return nil
}

// release gives back what newProcess took.
func (p *Process) release() {
	p.stop()
	p.running.Wait()
	p.launcher.Close()
}
