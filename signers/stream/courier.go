package stream

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// inFlight bounds the requests that one stream may have unanswered. Past it
// the stream is not read, and the client's own flow control holds it back.
const inFlight = 256

// A Courier carries one pipelined stream: batches of items in, batches of
// outcomes out, each item handled on its own so that none waits for another.
type Courier[I, O any] struct {
	Recv    func() ([]I, error)
	Send    func([]O) error
	Handle  func(context.Context, I) O
	Now     func() time.Time
	Timeout time.Duration // of one item

	slots chan struct{}  // one for each item, until its answer was sent
	wg    sync.WaitGroup // items being handled
	busy  atomic.Int32   // how many

	mu      sync.Mutex
	closed  bool
	ready   []O
	sending bool
	err     error
}

// Run carries items until the client ends the stream or stopping is closed, and
// returns when every item that was begun has been answered.
func (c *Courier[I, O]) Run(ctx context.Context, stopping <-chan struct{}) error {
	ended := make(chan error, 1)
	go func() { ended <- c.carry(ctx) }()
	var err error
	select {
	case err = <-ended:
	case <-stopping:
		// Returning ends the stream, which ends carry.
		err = status.Error(codes.Unavailable, "the daemon is stopping\nhint: retry with back-off")
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
	if err == nil {
		err = c.err
	}
	return err
}

// carry hands items on until the stream ends.
func (c *Courier[I, O]) carry(ctx context.Context) error {
	c.slots = make(chan struct{}, inFlight)
	deadlines := shared{now: c.Now, timeout: c.Timeout}
	defer deadlines.end()
	work := make(chan job[I])
	defer close(work)
	for {
		items, err := c.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		within := deadlines.next(ctx)
		for _, item := range items {
			c.slots <- struct{}{}
			if !c.begin() {
				return nil
			}
			next := job[I]{within, item}
			select {
			case work <- next: // somebody is idle, with a stack that has grown
			default:
				go c.work(next, work)
			}
		}
	}
}

// A job is one item to handle.
type job[I any] struct {
	ctx  context.Context //nolint:containedctx // it goes with the item
	item I
}

// work handles a job, and then others until there will be none.
func (c *Courier[I, O]) work(j job[I], more <-chan job[I]) {
	for ok := true; ok; j, ok = <-more {
		c.answer(c.Handle(j.ctx, j.item))
		c.busy.Add(-1)
		c.wg.Done()
	}
}

// begin counts an item in, unless the stream is closing: what is not begun is
// not answered, and its caller learns that the daemon stops.
func (c *Courier[I, O]) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Add(1)
		c.busy.Add(1)
	}
	return !c.closed
}

// answer queues an outcome. Whoever finds nobody sending sends, for itself and
// for all that came meanwhile: no goroutine to wake, and under load many
// answers share one message.
func (c *Courier[I, O]) answer(o O) {
	c.mu.Lock()
	c.ready = append(c.ready, o)
	if c.sending {
		c.mu.Unlock()
		return
	}
	c.sending = true
	c.mu.Unlock()
	if c.busy.Load() > 1 {
		runtime.Gosched() // let answers that are nearly there come along
	}
	for c.flush() {
	}
}

// flush sends what is ready and reports whether it sent anything.
func (c *Courier[I, O]) flush() bool {
	c.mu.Lock()
	batch := c.ready
	c.ready = nil
	if len(batch) == 0 {
		c.sending = false
		c.mu.Unlock()
		return false
	}
	c.mu.Unlock()
	err := c.Send(batch)
	for range batch {
		<-c.slots // now, not before: a client that does not read is held back
	}
	if err != nil {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}
	return true
}
