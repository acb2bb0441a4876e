package client

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

// most bounds the items that travel in one message, so that it stays far
// under maxMessage.
const most = 32

// outcome is an answer that says which item it belongs to.
type outcome interface{ GetId() uint64 }

// A stream is one pipelined gRPC stream. Send takes a batch; Recv gives one.
type stream[Item any, Outcome outcome] struct {
	send func([]Item) error
	recv func() ([]Outcome, error)
	end  context.CancelFunc
}

// A pipe shares one stream between goroutines: each call gets an id, waiting
// calls are sent together, answers find their call by id.
type pipe[Item any, Outcome outcome] struct {
	open func(context.Context) (stream[Item, Outcome], error)

	mu     sync.Mutex
	live   *session[Item, Outcome]
	closed bool
	lastID uint64
}

// A session is one life of the stream. When it ends, its calls fail and the
// next call opens another. The pipe's mutex guards it.
type session[Item any, Outcome outcome] struct {
	stream  stream[Item, Outcome]
	open    bool
	sending bool
	pending []Item
	waiting map[uint64]chan answer[Outcome]
}

type answer[Outcome outcome] struct {
	out Outcome
	err error
}

func newPipe[Item any, Outcome outcome](open func(context.Context) (stream[Item, Outcome], error)) *pipe[Item, Outcome] {
	return &pipe[Item, Outcome]{open: open}
}

// call sends one item and waits for its outcome, ctx's end or the stream's.
func (p *pipe[Item, Outcome]) call(ctx context.Context, item func(id uint64) Item) (Outcome, error) {
	var none Outcome
	if err := ctx.Err(); err != nil {
		return none, status.FromContextError(err).Err()
	}
	wait := make(chan answer[Outcome], 1)
	s, id, err := p.enqueue(item, wait)
	if err != nil {
		return none, err
	}
	p.drain(s)
	select {
	case a := <-wait:
		return a.out, a.err
	case <-ctx.Done():
		p.forget(s, id)
		return none, status.FromContextError(ctx.Err()).Err()
	}
}

// enqueue registers a call and puts its item in line.
func (p *pipe[Item, Outcome]) enqueue(item func(id uint64) Item, wait chan answer[Outcome]) (*session[Item, Outcome], uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, 0, status.Error(codes.Canceled, "the client is closed")
	}
	if p.live == nil {
		p.live = &session[Item, Outcome]{waiting: map[uint64]chan answer[Outcome]{}}
		go p.run(p.live)
	}
	p.lastID++
	p.live.waiting[p.lastID] = wait
	p.live.pending = append(p.live.pending, item(p.lastID))
	return p.live, p.lastID, nil
}

// run lives as long as a session. It takes no caller's context: the stream
// outlives the call that needed it first.
func (p *pipe[Item, Outcome]) run(s *session[Item, Outcome]) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, err := p.open(ctx)
	if err != nil {
		p.fail(s, err)
		return
	}
	st.end = cancel
	p.mu.Lock()
	s.stream, s.open = st, true
	ended := p.closed
	p.mu.Unlock()
	if ended {
		cancel()
	}
	p.drain(s)
	p.fail(s, p.receive(s))
}

// drain sends what is in line, unless another call is doing so: whoever sends
// also takes what came meanwhile.
func (p *pipe[Item, Outcome]) drain(s *session[Item, Outcome]) {
	p.mu.Lock()
	if s.sending || !s.open {
		p.mu.Unlock()
		return
	}
	s.sending = true
	alone := len(s.waiting) == 1
	p.mu.Unlock()
	if !alone {
		runtime.Gosched() // let calls that are nearly here come along
	}
	for {
		batch := p.take(s)
		if len(batch) == 0 {
			return
		}
		if err := s.stream.send(batch); err != nil {
			s.stream.end() // receive learns the cause and fails the calls
		}
	}
}

func (p *pipe[Item, Outcome]) take(s *session[Item, Outcome]) []Item {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(s.pending), most)
	batch := s.pending[:n:n]
	s.pending = s.pending[n:]
	if n == 0 {
		s.pending, s.sending = nil, false
	}
	return batch
}

// receive gives outcomes to their calls until the stream ends.
func (p *pipe[Item, Outcome]) receive(s *session[Item, Outcome]) error {
	for {
		outcomes, err := s.stream.recv()
		if err != nil {
			return err
		}
		p.deliver(s, outcomes)
	}
}

func (p *pipe[Item, Outcome]) deliver(s *session[Item, Outcome], outcomes []Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range outcomes {
		if wait, ok := s.waiting[o.GetId()]; ok {
			delete(s.waiting, o.GetId())
			wait <- answer[Outcome]{out: o}
		}
	}
}

// fail ends a session: every call that waits on it gets err.
func (p *pipe[Item, Outcome]) fail(s *session[Item, Outcome], err error) {
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unavailable, "the daemon ended the connection\nhint: retry with back-off")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == s {
		p.live = nil
	}
	for id, wait := range s.waiting {
		delete(s.waiting, id)
		wait <- answer[Outcome]{err: err}
	}
}

func (p *pipe[Item, Outcome]) forget(s *session[Item, Outcome], id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(s.waiting, id)
}

func (p *pipe[Item, Outcome]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if s := p.live; s != nil && s.open {
		s.stream.end()
	}
}

func (c *Client) openIssue(ctx context.Context) (stream[*signetv1.IssueItem, *signetv1.IssueOutcome], error) {
	st, err := c.api.IssueStream(ctx)
	return stream[*signetv1.IssueItem, *signetv1.IssueOutcome]{
		send: func(items []*signetv1.IssueItem) error { return st.Send(&signetv1.IssueBatch{Items: items}) },
		recv: func() ([]*signetv1.IssueOutcome, error) {
			b, err := st.Recv()
			return b.GetOutcomes(), err
		},
	}, err
}

func (c *Client) openSign(ctx context.Context) (stream[*signetv1.SignItem, *signetv1.SignOutcome], error) {
	st, err := c.api.SignStream(ctx)
	return stream[*signetv1.SignItem, *signetv1.SignOutcome]{
		send: func(items []*signetv1.SignItem) error { return st.Send(&signetv1.SignBatch{Items: items}) },
		recv: func() ([]*signetv1.SignOutcome, error) {
			b, err := st.Recv()
			return b.GetOutcomes(), err
		},
	}, err
}
