package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/signers"
)

// open starts one issuer process and asks what it is.
func (p *Process) open(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, p.spec.StartTimeout)
	defer cancel()
	link, err := p.launcher.Start(ctx)
	if err != nil {
		return nil, err
	}
	s := p.newSession(link)
	if err := s.talk(ctx, p.spec); err != nil {
		s.fail(errors.New("it did not start"))
		s.close()
		return nil, explain(ctx, p.spec.Name, link.output, err)
	}
	if s.stream != nil {
		s.run()
	}
	return s, nil
}

// newSession makes the session, without its stream.
func (p *Process) newSession(link *Link) *session {
	ctx, cancel := context.WithCancel(p.ctx)
	s := &session{
		link: link, ctx: ctx, cancel: cancel,
		most: p.spec.MaxAnswer, tickEvery: max(p.spec.Deadline/ticks, time.Millisecond),
		wake: make(chan struct{}, 1), over: make(chan struct{}), calls: map[uint64]*call{},
	}
	s.watchdog = time.AfterFunc(time.Hour, s.watch)
	s.watchdog.Stop()
	return s
}

// talk checks what the issuer says about itself and opens the stream.
func (s *session) talk(ctx context.Context, spec Spec) error {
	client := pluginsv1.NewIssuerClient(s.link.conn)
	reply, err := client.Describe(ctx, &pluginsv1.DescribeRequest{})
	if err != nil {
		return fmt.Errorf("describe: %s", clean(err.Error()))
	}
	if s.described, err = described(reply, spec.Format); err != nil {
		return err
	}
	if spec.inspects {
		s.inspector = client
		return mustInspect(s.described)
	}
	// Opened now, so that the first caller does not wait for it.
	s.stream, err = client.Prepare(s.ctx) //nolint:contextcheck // the stream outlives the launch
	if err != nil {
		return fmt.Errorf("prepare: %s", clean(err.Error()))
	}
	return nil
}

func mustInspect(d plugins.Description) error {
	if d.Inspects {
		return nil
	}
	return errors.New("it does not serve Inspect\nhint: its author has to add it, or pin another program under inspector")
}

// described reads a description and refuses what it cannot explain.
func described(reply *pluginsv1.DescribeReply, format string) (plugins.Description, error) {
	if format == AnyFormat {
		format = clean(reply.GetFormat())
	}
	if reply.GetFormat() != format || format == "" {
		return plugins.Description{}, fmt.Errorf("it makes %q, not %q", clean(reply.GetFormat()), format)
	}
	d := plugins.Description{Format: format, Inspects: reply.GetInspects()}
	seen := map[string]bool{}
	for _, name := range reply.GetAlgorithms() {
		a := signers.Algorithm(name)
		if _, err := a.Params(); err != nil || seen[name] {
			return plugins.Description{}, fmt.Errorf("it names the algorithm %q, which is unknown or named twice", clean(name))
		}
		seen[name] = true
		d.Algorithms = append(d.Algorithms, a)
	}
	if len(d.Algorithms) == 0 {
		return plugins.Description{}, errors.New("it names no algorithm")
	}
	return d, nil
}
