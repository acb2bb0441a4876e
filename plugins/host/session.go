package host

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

// ticks is how many parts the deadline is watched in. Each call then ends
// between one deadline and one and a quarter, and no call needs a timer.
const ticks = 4

// A session is the life of one issuer process, from launch to its first
// fault. One stream carries every request: whatever waits when the stream is
// free travels together.
type session struct {
	link      *Link
	stream    grpc.BidiStreamingClient[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch] // nil for one that reads back
	inspector pluginsv1.IssuerClient                                                        // nil for one that drafts
	ctx       context.Context                                                               // of everything on conn
	cancel    context.CancelFunc
	described plugins.Description
	most      int // one draft, in bytes
	tickEvery time.Duration
	running   sync.WaitGroup
	message   pluginsv1.PrepareBatch // the sender's, used again and again

	wake chan struct{} // holds one
	over chan struct{} // closed by the first fail

	mu       sync.Mutex
	fault    error            // why it is over
	waiting  []*call          // not taken by the sender yet
	calls    map[uint64]*call // registered, not answered
	lastID   uint64
	tick     int
	ticking  bool
	watchdog *time.Timer
}

// run starts the two goroutines that work the stream.
func (s *session) run() {
	s.running.Go(s.send)
	s.running.Go(s.receive)
}

// ask hands c to the issuer and waits for the answer. It returns false if ctx
// ended first: the session then keeps c.
func (s *session) ask(ctx context.Context, c *call) bool {
	if !s.queue(c) {
		c.err = ErrDown
		return true
	}
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		if s.leave(c) {
			return false
		}
		<-c.done // the answer was just being handed over
		return true
	}
}

func (s *session) queue(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return false
	}
	s.waiting = append(s.waiting, c)
	select {
	case s.wake <- struct{}{}:
	default: // the sender will look anyway
	}
	return true
}

// leave says that nobody waits for c any more. An answer may still come and is
// then dropped; only one that comes after the deadline is a fault.
func (s *session) leave(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.left = !c.answered
	return c.left
}

// send is the one writer of the stream.
func (s *session) send() {
	var batch []*call
	for {
		select {
		case <-s.wake:
		case <-s.over:
			return
		}
		// Callers that were answered together ask again together: let them
		// get in line before the first of them travels alone.
		if s.crowded() {
			runtime.Gosched()
		}
		for {
			batch = s.take(batch[:0])
			if len(batch) == 0 {
				break
			}
			if err := s.ship(batch); err != nil {
				s.fail(fmt.Errorf("send: %s", clean(err.Error())))
				return
			}
		}
		clear(batch[:cap(batch)])
	}
}

// crowded reports whether others are under way: only then may more be near,
// and a lone caller need not wait for them.
func (s *session) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)+len(s.calls) > 1
}

// take removes from the line what fits one message.
func (s *session) take(batch []*call) []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, n := 0, 0
	for _, c := range s.waiting {
		if len(batch) == wire.MaxBatch || (len(batch) > 0 && size+c.size > wire.MaxMessage) {
			break
		}
		n++
		if !c.left {
			s.lastID++
			c.request.Id = s.lastID
			batch, size = append(batch, c), size+c.size
		}
	}
	rest := copy(s.waiting, s.waiting[n:])
	clear(s.waiting[rest:])
	s.waiting = s.waiting[:rest]
	return batch
}

// ship encodes a batch, then makes its ids good for an answer, then sends it.
// In this order an issuer that guesses an id cannot have a call handed back,
// and used again, while it is still being encoded.
func (s *session) ship(batch []*call) error {
	s.message.Requests = s.message.Requests[:0]
	for _, c := range batch {
		s.message.Requests = append(s.message.Requests, &c.request)
	}
	var encoded grpc.PreparedMsg
	err := encoded.Encode(s.stream, &s.message)
	if !s.register(batch, err == nil) {
		return err
	}
	return s.stream.SendMsg(&encoded)
}

// register makes the ids of a batch known. It returns false, and the callers
// have their errors, if the batch is not to be sent.
func (s *session) register(batch []*call, encoded bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range batch {
		if encoded && s.fault == nil {
			c.sent = s.tick
			s.calls[c.request.Id] = c
		} else if !c.left {
			c.answered = true
			c.finish(plugins.Draft{}, ErrDown)
		}
	}
	if !encoded || s.fault != nil {
		return false
	}
	if !s.ticking {
		s.ticking = true
		s.watchdog.Reset(s.tickEvery)
	}
	return true
}

// watch ends a session that owes an answer for longer than the deadline.
func (s *session) watch() {
	s.mu.Lock()
	s.tick++
	late := 0
	for _, c := range s.calls {
		if s.tick-c.sent > ticks {
			late++
		}
	}
	s.ticking = len(s.calls) > 0 && s.fault == nil
	if s.ticking && late == 0 {
		s.watchdog.Reset(s.tickEvery)
	}
	s.mu.Unlock()
	if late > 0 {
		s.fail(fmt.Errorf("%d requests had no answer within %v", late, ticks*s.tickEvery))
	}
}

// receive is the one reader of the stream.
func (s *session) receive() {
	var batch pluginsv1.PrepareReplyBatch
	var asked []*call
	for {
		if err := s.stream.RecvMsg(&batch); err != nil {
			s.fail(fmt.Errorf("receive: %s", clean(err.Error())))
			return
		}
		replies := batch.GetReplies()
		var err error
		if asked, err = s.match(replies, asked[:0]); err == nil {
			err = s.deliver(replies, asked)
		}
		clear(asked)
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// match finds the call that each answer belongs to, nil for one whose caller
// has left. Each id is good for one answer. What was found before a fault is
// left in calls, for fail to finish.
func (s *session) match(replies []*pluginsv1.PrepareReply, asked []*call) ([]*call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range replies {
		c := s.calls[r.GetId()]
		if c == nil {
			s.giveBack(replies, asked)
			return asked, fmt.Errorf("answer %d: nobody asked, or it was answered before", r.GetId())
		}
		delete(s.calls, r.GetId())
		asked = append(asked, c)
	}
	for i, c := range asked {
		if c.left {
			asked[i] = nil
			continue
		}
		c.answered = true
	}
	return asked, nil
}

func (s *session) giveBack(replies []*pluginsv1.PrepareReply, asked []*call) {
	for i, c := range asked {
		s.calls[replies[i].GetId()] = c
	}
}

// deliver hands the answers over. After a malformed one, those behind it fail
// with the session.
func (s *session) deliver(replies []*pluginsv1.PrepareReply, asked []*call) error {
	var fault error
	for i, c := range asked {
		draft, err := result(replies[i], s.most)
		if fault == nil && err != nil && !errors.Is(err, plugins.ErrRefused) {
			fault = err
		}
		if fault != nil {
			draft, err = plugins.Draft{}, ErrDown
		}
		if c != nil {
			c.finish(draft, err)
		}
	}
	return fault
}

// fail ends the session at its first fault: it kills the process, and every
// caller that waits gets ErrDown.
func (s *session) fail(fault error) {
	s.mu.Lock()
	if s.fault != nil {
		s.mu.Unlock()
		return
	}
	s.fault = fault
	orphans := s.waiting
	for _, c := range s.calls {
		orphans = append(orphans, c)
	}
	s.waiting, s.calls = nil, nil
	live := orphans[:0]
	for _, c := range orphans {
		if !c.left {
			c.answered = true
			live = append(live, c)
		}
	}
	s.mu.Unlock()
	close(s.over)
	s.link.Kill()
	s.cancel()
	for _, c := range live {
		c.finish(plugins.Draft{}, ErrDown)
	}
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// close cleans up after fail and returns when nothing of the session is left.
func (s *session) close() {
	<-s.link.Ended()
	s.watchdog.Stop()
	if s.link.conn != nil {
		_ = s.link.conn.Close() // ends the stream
	}
	s.running.Wait()
	s.link.Close()
}
