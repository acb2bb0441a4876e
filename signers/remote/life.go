package remote

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/signers"
	signersv1 "github.com/signetd/signet/signers/api/v1"
	"github.com/signetd/signet/signers/stream"
)

// A life is one process, from its start to its end.
type life struct {
	link   Link
	api    signersv1.BackendClient
	sign   *stream.Pipe[*signersv1.SignItem, *signersv1.SignatureItem]
	lists  bool
	adopts bool
	over   chan struct{} // closed when it has ended

	calls   sync.WaitGroup // signatures under way
	last    atomic.Pointer[signersv1.ReportReply]
	stopped atomic.Bool
}

// begin starts a process and opens the back-end in it.
func (b *Backend) begin(ctx context.Context) (*life, error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.OpenTimeout)
	defer cancel()
	link, err := b.opts.Start(ctx)
	if err != nil {
		return nil, fmt.Errorf("back-end %q: %w: %w", b.opts.Name, ErrDown, err)
	}
	l := &life{link: link, api: signersv1.NewBackendClient(link.Conn()), over: make(chan struct{})}
	reply, err := l.api.Open(ctx, &signersv1.OpenRequest{Type: b.opts.Type, Settings: b.opts.Settings})
	if err != nil {
		l.end()
		if err = fromCall(err); ended(err) {
			err = fmt.Errorf("%w: it ended while it opened: %w", ErrDown, err)
		}
		return nil, fmt.Errorf("back-end %q: %w", b.opts.Name, err)
	}
	l.lists, l.adopts = reply.GetLists(), reply.GetAdopts()
	l.sign = stream.NewPipe(l.openSign)
	l.last.Store(&signersv1.ReportReply{State: "ready"})
	return l, nil
}

func (l *life) openSign(ctx context.Context) (stream.Stream[*signersv1.SignItem, *signersv1.SignatureItem], error) {
	st, err := l.api.Sign(ctx)
	return stream.Stream[*signersv1.SignItem, *signersv1.SignatureItem]{
		Send: func(items []*signersv1.SignItem) error { return st.Send(&signersv1.SignBatch{Items: items}) },
		Recv: func() ([]*signersv1.SignatureItem, error) {
			b, err := st.Recv()
			return b.GetItems(), err
		},
	}, err
}

// watch returns when the process has ended, hangs, or ctx ends, and says which.
// A process hangs when it does not answer, or when it says itself that a call
// into its module does not come back: such a call can't be ended otherwise.
func (l *life) watch(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.link.Ended():
			return fmt.Errorf("%w: it ended by itself", ErrDown)
		case <-ctx.Done():
			return fmt.Errorf("%w: closed", ErrDown)
		case <-tick.C:
		}
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// answerWithin is how long a process may take to say how it fares.
const answerWithin = 2 * time.Second

// look asks the process how it fares.
func (l *life) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r, err := l.api.Report(ctx, &signersv1.ReportRequest{})
	if err != nil {
		return fmt.Errorf("%w: it does not answer: %w", ErrDown, err)
	}
	l.last.Store(r)
	if r.GetState() == "stuck" {
		return fmt.Errorf("%w: %s", ErrDown, r.GetWhy())
	}
	return nil
}

// end ends the process and returns when nothing is left of it.
func (l *life) end() {
	l.link.Kill()
	if l.sign != nil {
		l.sign.Close()
	}
	l.link.Close()
	close(l.over)
}

// drain waits until no signature is under way.
func (l *life) drain(atMost time.Duration) {
	l.stopped.Store(true)
	done := make(chan struct{})
	go func() { l.calls.Wait(); close(done) }()
	select {
	case <-done:
	case <-l.over:
	case <-time.After(atMost):
	}
}

// report is the process's last word on how it fares.
func (l *life) report() signers.Report {
	last := l.last.Load()
	r := signers.Report{
		Where: fmt.Sprintf("process %d", l.link.PID()), State: last.GetState(), Why: last.GetWhy(),
		Sessions: int(last.GetSessions()), Busy: int(last.GetBusy()), Waiting: int(last.GetWaiting()),
		Recoveries: maps.Clone(last.GetRecoveries()),
	}
	if r.Recoveries == nil {
		r.Recoveries = map[string]int64{}
	}
	return r
}
