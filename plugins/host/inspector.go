package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

// An Inspector is a process that reads drafts of a foreign format back. It is
// never the one that drafted, and has no method to be told a grant with. It
// implements plugins.ForeignInspector.
type Inspector struct{ p *Process }

var _ plugins.ForeignInspector = (*Inspector)(nil)

// LaunchInspector starts a process that reads back, as Launch does one that
// drafts. Its program must serve Inspect.
func LaunchInspector(ctx context.Context, spec Spec) (*Inspector, error) {
	spec.inspects = true
	p, err := Launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &Inspector{p}, nil
}

// Inspect has the process read a draft, and the token that was made of it if
// there is one. It returns ErrRefused, ErrDown, or the context's error if that
// ends first; what it returns has no profile. A process that does not answer
// within the deadline, or not as it should, is ended and started again.
func (i *Inspector) Inspect(ctx context.Context, d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) (plugins.Grant, error) {
	key, err := i.p.keys.Message(k)
	if err != nil {
		return plugins.Grant{}, i.p.wrap(err)
	}
	request, err := wire.NewInspect(d, key, t)
	if err != nil {
		return plugins.Grant{}, i.p.wrap(err)
	}
	s, err := i.p.session(ctx)
	if err != nil {
		return plugins.Grant{}, i.p.wrap(err)
	}
	reply, err := s.inspect(ctx, request, i.p)
	if err != nil {
		return plugins.Grant{}, i.p.wrap(err)
	}
	if reply.GetGrant() == nil {
		return plugins.Grant{}, i.p.wrap(fmt.Errorf("%s: %w", clean(reply.GetRefused()), plugins.ErrRefused))
	}
	g := wire.Grant(reply.GetGrant())
	g.Profile = "" // no token carries it
	return g, nil
}

// Close ends the process; calls under way and later ones return ErrDown.
func (i *Inspector) Close() error { return i.p.Close() }

// Process is what looks after it: its health, its restarts, and where it runs.
func (i *Inspector) Process() Health { return i.p }

// Health is what can be asked of any process.
type Health interface {
	Healthy() error
	PID() int
	Restarts() int
	Faults() int
	Status() Status
}

// inspect asks and holds the process to its answer, whether or not the caller
// waits for it: a process that hangs must not live on impatient callers.
func (s *session) inspect(ctx context.Context, r *pluginsv1.InspectRequest, p *Process) (*pluginsv1.InspectReply, error) { //nolint:contextcheck // the process owes an answer to us, not to the caller
	type answer struct {
		reply *pluginsv1.InspectReply
		err   error
	}
	done := make(chan answer, 1)
	own, cancel := context.WithTimeout(s.ctx, p.spec.Deadline)
	go func() {
		defer cancel()
		reply, err := s.inspector.Inspect(own, r)
		if err == nil && (reply.GetGrant() == nil) == (reply.GetRefused() == "") {
			err = errors.New("neither grant nor refusal, or both")
		}
		if err != nil {
			s.fail(fmt.Errorf("inspect: %s", clean(err.Error())))
			err = ErrDown
		}
		done <- answer{reply, err}
	}()
	select {
	case a := <-done:
		return a.reply, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
