package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
)

// Each of these breaks the protocol at its first answer. The process must end
// and be counted, and nobody may wait for ever.
func TestFaultsEndTheProcess(t *testing.T) {
	rows := []struct {
		mode, why string
		answered  bool // the caller may have its answer before the fault
	}{
		{"unasked", "nobody asked", false},
		{"zero id", "nobody asked", false},
		{"twice", "answered before", true},
		{"twice at once", "answered before", false},
		{"many", "answered before", true},
		{"empty", "neither draft nor refusal", false},
		{"both", "neither draft nor refusal, or both", false},
		{"form 257", "form 257", false},
		{"giant", "larger than max", false},
	}
	for _, row := range rows {
		t.Run(row.mode, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			s := testSpec(t, row.mode)
			s.Log, s.Restart.Min, s.Restart.Max = log.logger(), time.Hour, time.Hour
			p := launch(t, s)
			pid := p.PID()
			_, err := prepare(p, "alice")
			if !errors.Is(err, ErrDown) && (!row.answered || err != nil) {
				t.Errorf("Prepare: got %v, want ErrDown", err)
			}
			until(t, "the fault is counted", func() bool { return p.Faults() == 1 })
			if alive(pid) || p.PID() != 0 || !strings.Contains(log.String(), row.why) {
				t.Errorf("process %d alive: %v, want a dead one and %q in the log:\n%s", pid, alive(pid), row.why, log.String())
			}
		})
	}
}

func TestAnIssuerThatNeverAnswersIsReplaced(t *testing.T) {
	t.Parallel()
	s := testSpec(t, "never")
	s.Deadline = 50 * time.Millisecond
	p := launch(t, s)
	pid := p.PID()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := prepare(p, "alice"); !errors.Is(err, ErrDown) {
				t.Errorf("Prepare: got %v, want ErrDown", err)
			}
		})
	}
	wg.Wait()
	until(t, "the process is replaced", func() bool { return p.Restarts() > 0 && !alive(pid) })
}

// hold keeps n requests back at the issuer and returns how they end.
func hold(t *testing.T, ctx context.Context, p *Process, n int) <-chan error { //nolint:revive // t first, as in every test helper
	t.Helper()
	ended := make(chan error, n)
	s := p.live.Load()
	for i := range n {
		go func() {
			_, err := p.Prepare(ctx, grant(fmt.Sprint("held ", i)), testKey)
			ended <- err
		}()
		until(t, "the request is sent", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.calls) == i+1
		})
	}
	mustPrepare(t, p, "ping") // the stream is in order: the issuer has them all
	return ended
}

func TestACallerMayLeave(t *testing.T) {
	t.Parallel()
	p := launch(t, testSpec(t, "hold"))
	pid := p.PID()
	ctx, cancel := context.WithCancel(context.Background())
	ended := hold(t, ctx, p, 3)
	cancel()
	for range 3 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Prepare: got %v, want context.Canceled", err)
		}
	}
	mustPrepare(t, p, "release") // the three answers come now, before this one
	if p.PID() != pid || p.Faults() != 0 {
		t.Errorf("after answers to callers that left: pid %d, %d faults, want pid %d and none", p.PID(), p.Faults(), pid)
	}
	if n := len(p.live.Load().calls); n != 0 {
		t.Errorf("%d calls are still kept", n)
	}
}

// An answer after the deadline would be one too late: the process is gone.
func TestALateAnswerIsAFault(t *testing.T) {
	t.Parallel()
	s := testSpec(t, "hold")
	p := launch(t, s)
	pid := p.PID()
	ended := hold(t, context.Background(), p, 2)
	p.live.Load().expire(t)
	for range 2 {
		if err := <-ended; !errors.Is(err, ErrDown) {
			t.Errorf("Prepare: got %v, want ErrDown", err)
		}
	}
	until(t, "the process is replaced", func() bool { return p.Restarts() == 1 })
	if alive(pid) {
		t.Errorf("process %d still runs", pid)
	}
	mustPrepare(t, p, "release") // to the new one, which holds nothing
}

// expire lets the deadline pass, tick by tick, as the timer would: at the last
// tick but one nothing may have happened.
func (s *session) expire(t *testing.T) {
	for range ticks {
		s.watch()
	}
	if err := s.why(); err != nil {
		t.Errorf("a tick early: got %v, want nothing", err)
	}
	s.watch()
}

// A stream on which nothing can be encoded.
type deaf struct {
	grpc.BidiStreamingClient[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch]
}

func (deaf) Context() context.Context { return context.Background() }

// An issuer may guess the next id. If that were good for an answer before the
// request is encoded, the caller would use the call again under the encoder.
func TestAnIDIsGoodForAnAnswerOnlyAfterItsRequestIsEncoded(t *testing.T) {
	s := &session{stream: deaf{}, calls: map[uint64]*call{}, wake: make(chan struct{}, 1)}
	c := newCall()
	s.queue(c)
	if err := s.ship(s.take(nil)); err == nil {
		t.Fatal("ship: got no error from a stream that cannot encode")
	}
	if len(s.calls) > 0 {
		t.Errorf("%d ids are good for an answer, want none", len(s.calls))
	}
	if <-c.done; !errors.Is(c.err, ErrDown) {
		t.Errorf("the call: got %v, want ErrDown", c.err)
	}
}

// The host cannot know what a draft should say. It hands each caller what
// bears its id, once; that the draft is another grant's, the inspector finds.
func TestSwappedAnswersAreLeftToTheInspector(t *testing.T) {
	t.Parallel()
	p := launch(t, testSpec(t, "swap"))
	var wg sync.WaitGroup
	for _, subject := range []string{"alice", "bob"} {
		wg.Go(func() {
			if got, err := prepare(p, subject); got == subject || err != nil {
				t.Errorf("Prepare(%q): got %q, %v, want the other's", subject, got, err)
			}
		})
	}
	wg.Wait()
}

func TestIssuersThatDoNotStart(t *testing.T) {
	rows := []struct{ mode, want string }{
		{"exit", "hint: it wrote: no licence?[2J found"},
		{"garbage", "Unrecognized remote plugin message"},
		{"endless", "Unrecognized remote plugin message"},
		{"tcp", "outside its directory"},
		{"elsewhere", "outside its directory"},
		{"climbing", "outside its directory"},
		{"netrpc", "unsupported plugin protocol"},
		{"no cert", "no certificate"},
		{"bad cert", "cert"},
		{"impostor", "listens on the issuer's socket"},
		{"other format", `it makes "jwt?[2J", not "test"`},
		{"no algorithm", "names no algorithm"},
		{"unknown algorithm", `algorithm "none"`},
		{"algorithm twice", "named twice"},
	}
	for _, row := range rows {
		t.Run(row.mode, func(t *testing.T) {
			t.Parallel()
			p, err := Launch(context.Background(), testSpec(t, row.mode))
			if err == nil {
				p.Close()
			}
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("Launch: got %v, want an error with %q", err, row.want)
			}
		})
	}
}

func TestAnIssuerThatIsSlowToStartIsKilled(t *testing.T) {
	t.Parallel()
	s := testSpec(t, "silent")
	s.StartTimeout = 300 * time.Millisecond
	if _, err := Launch(context.Background(), s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Launch: got %v, want DeadlineExceeded", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := Launch(ctx, testSpec(t, "silent")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Launch with a context that ends: got %v, want its error", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	var log logBuffer
	s := testSpec(t, "flood")
	s.Log = log.logger()
	s.Now = func() time.Time { return time.Unix(1e9, 0) } // one window
	p := launch(t, s)                                     // after 10 MB of lines and one of 1 MB
	mustPrepare(t, p, "alice")
	mustPrepare(t, p, "chatter") // through os.Stdout and os.Stderr, which go-plugin redirects
	mustPrepare(t, p, "alice")
	p.Close()
	if n := strings.Count(log.String(), "issuer wrote"); n < maxLines || n > maxLines+1 {
		t.Errorf("the log has %d lines of the issuer's, want %d and how many were dropped", n, maxLines)
	}
	for line := range strings.Lines(log.String()) {
		if len(line) > maxLine+200 {
			t.Errorf("the log has a line of %d bytes", len(line))
		}
	}
	if !strings.Contains(log.String(), "lines_dropped") {
		t.Errorf("the log does not say that lines were dropped:\n%s", log.String())
	}
}

func TestALineWithoutEndIsNotKept(t *testing.T) {
	var log logBuffer
	l := &lines{to: newOutput(Spec{Log: log.logger(), Now: time.Now})}
	for range 1000 {
		_, _ = l.Write(bytes.Repeat([]byte("x"), 1000))
	}
	if len(l.buf) > maxLine+1 {
		t.Errorf("%d bytes of one line are kept, want at most %d", len(l.buf), maxLine+1)
	}
	_, _ = l.Write([]byte("\nnext\n"))
	if got := l.to.last(); got != "next" {
		t.Errorf("the line after it: got %q, want next", got)
	}
}

func TestWhatAnIssuerForkedEndsWithIt(t *testing.T) {
	t.Parallel()
	p := launch(t, testSpec(t, "fork"))
	forked, _ := strconv.Atoi(mustPrepare(t, p, "forked"))
	if forked == 0 || !alive(forked) {
		t.Fatalf("forked process %d does not run", forked)
	}
	p.Close()
	until(t, "the forked process is gone", func() bool { return !alive(forked) })
}

// A process that left the group lives on (an issuer can't fork, a back-end's
// library may), but the daemon must not wait for the output it holds on to.
func TestCloseDoesNotWaitForWhatGotAway(t *testing.T) {
	p := launch(t, testSpec(t, "fork escape"))
	forked, _ := strconv.Atoi(mustPrepare(t, p, "forked"))
	if forked == 0 {
		t.Fatal("no forked process")
	}
	defer unix.Kill(forked, unix.SIGKILL)
	p.Close()
	if !alive(forked) {
		t.Errorf("process %d, which left the group, is gone: this test shows nothing", forked)
	}
	until(t, "go-plugin has stopped reading", func() bool { return !strings.Contains(stacks(), "go-plugin.(*Client)") })
}

func TestCloseEndsTheProcess(t *testing.T) {
	t.Parallel()
	s := testSpec(t, "hold")
	p := launch(t, s)
	pid := p.PID()
	ended := hold(t, context.Background(), p, 1)
	p.Close()
	p.Close()
	if err := <-ended; !errors.Is(err, ErrDown) {
		t.Errorf("Prepare under way: got %v, want ErrDown", err)
	}
	if _, err := prepare(p, "alice"); !errors.Is(err, ErrDown) {
		t.Errorf("Prepare after Close: got %v, want ErrDown", err)
	}
	if alive(pid) || p.PID() != 0 || !errors.Is(p.Healthy(), ErrDown) || p.Faults() != 0 {
		t.Errorf("after Close: process %d alive %v, PID %d, %v", pid, alive(pid), p.PID(), p.Healthy())
	}
	if files, err := os.ReadDir(s.TempDir); err != nil || len(files) > 0 {
		t.Errorf("after Close: %v are left, %v", files, err)
	}
}
