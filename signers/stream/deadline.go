package stream

import (
	"context"
	"time"
)

// shared gives requests that begin within a second the same deadline: a timer
// for each would wake the poller for each, which costs more than all checks.
// Their deadline is timeout, or a second more.
type shared struct {
	now     func() time.Time
	timeout time.Duration
	ctx     context.Context //nolint:containedctx // it is what this type is for
	cancel  context.CancelFunc
	until   time.Time
}

// next returns a context that ends with parent, or at the shared deadline.
func (s *shared) next(parent context.Context) context.Context {
	now := s.now()
	if s.ctx != nil && now.Before(s.until) {
		return s.ctx
	}
	// The old deadline stays for those that have it, and goes with parent.
	s.ctx, s.cancel = context.WithTimeout(parent, s.timeout+time.Second)
	s.until = now.Add(time.Second)
	return s.ctx
}

// end releases the deadline in use.
func (s *shared) end() {
	if s.cancel != nil {
		s.cancel()
	}
}
