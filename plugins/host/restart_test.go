package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stacks is every goroutine's.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

func TestAKilledIssuerComesBack(t *testing.T) {
	t.Parallel()
	p := launch(t, testSpec(t, "honest"))
	for i := range 2 {
		pid := p.PID()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "the process is seen to be gone", func() bool { return p.PID() != pid })
		mustPrepare(t, p, "alice") // waits for the next one
		if p.Restarts() != i+1 || p.Healthy() != nil || p.PID() == pid {
			t.Errorf("after kill %d: %d restarts, %v, pid %d (was %d)", i+1, p.Restarts(), p.Healthy(), p.PID(), pid)
		}
	}
}

func TestCallsUnderWayFailWhenTheProcessDies(t *testing.T) {
	t.Parallel()
	p := launch(t, testSpec(t, "hold"))
	ended := hold(t, context.Background(), p, 5)
	if err := unix.Kill(p.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := <-ended; !errors.Is(err, ErrDown) {
			t.Errorf("Prepare: got %v, want ErrDown", err)
		}
	}
}

// down launches an issuer, kills it and leaves it down for an hour.
func down(t *testing.T, deadline time.Duration) *Process {
	t.Helper()
	s := testSpec(t, "honest")
	s.Restart.Min, s.Restart.Max, s.Deadline = time.Hour, time.Hour, deadline
	p := launch(t, s)
	if err := unix.Kill(p.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the process is seen to be gone", func() bool { return p.PID() == 0 })
	return p
}

func TestWhileItIsDownCallsWaitAsLongAsTheyMay(t *testing.T) {
	p := down(t, time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		_, err := p.Prepare(ctx, grant("alice"), testKey)
		ended <- err
	}()
	until(t, "the call waits", func() bool { return strings.Contains(stacks(), "host.(*Process).session") })
	cancel()
	if err := <-ended; !errors.Is(err, ErrDown) || !errors.Is(err, context.Canceled) {
		t.Errorf("Prepare, left while the issuer is down: got %v, want ErrDown and Canceled", err)
	}
	if err := p.Healthy(); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("Healthy: got %v, want ErrDown and that it is being restarted", err)
	}
	p = down(t, 10*time.Millisecond)
	if _, err := prepare(p, "alice"); !errors.Is(err, ErrDown) {
		t.Errorf("Prepare, with the deadline over: got %v, want ErrDown", err)
	}
}

func TestAnIssuerThatKeepsEndingStaysDown(t *testing.T) {
	rows := []struct {
		mode     string
		restarts int
	}{
		{"die on stream", 3}, // starts each time
		{"once", 0},          // never starts again
	}
	for _, row := range rows {
		t.Run(row.mode, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			s := testSpec(t, row.mode)
			s.Restart.Crashes, s.Log = 3, log.logger()
			p := launch(t, s)
			if row.mode == "once" {
				_, _ = prepare(p, "die")
			}
			until(t, "it stays down", func() bool { return strings.Contains(log.String(), "stays down") })
			if p.Restarts() != row.restarts || p.Faults() != 4 {
				t.Errorf("got %d restarts and %d faults, want %d and 4", p.Restarts(), p.Faults(), row.restarts)
			}
			if err := p.Healthy(); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "more than 3 times") {
				t.Errorf("Healthy: got %v, want ErrDown and why", err)
			}
			if _, err := prepare(p, "alice"); !errors.Is(err, ErrDown) {
				t.Errorf("Prepare: got %v, want ErrDown at once", err)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	now := time.Unix(1e9, 0)
	zero := bytes.NewReader(make([]byte, 1000)) // no jitter
	b := &budget{
		restart: Restart{Min: time.Second, Max: 10 * time.Second, Crashes: 6, Window: time.Minute},
		now:     func() time.Time { return now }, rand: zero,
	}
	for i, want := range []string{"1s", "2s", "4s", "8s", "10s", "10s"} {
		if got, ok := b.crash(); got.String() != want || !ok {
			t.Errorf("crash %d: got %v, %v, want %v", i+1, got, ok, want)
		}
	}
	if _, ok := b.crash(); ok {
		t.Error("crash 7 within a minute: got a restart, want none")
	}
	now = now.Add(time.Minute)
	if got, ok := b.crash(); got != time.Second || !ok {
		t.Errorf("a crash after a quiet minute: got %v, %v, want 1s", got, ok)
	}
}

func TestJitterTakesUpToHalfAway(t *testing.T) {
	for _, d := range []time.Duration{1, 100 * time.Millisecond, 10 * time.Second, 24 * time.Hour} {
		most := &budget{rand: bytes.NewReader([]byte{0xff, 0xff})}
		none := &budget{rand: bytes.NewReader([]byte{0, 0})}
		empty := &budget{rand: bytes.NewReader(nil)}
		if got := most.jitter(d); got < d/2 || got > d/2+d/1000+1 {
			t.Errorf("jitter(%v) at most: got %v, want about half", d, got)
		}
		if a, b := none.jitter(d), empty.jitter(d); a != d || b != d {
			t.Errorf("jitter(%v) without randomness: got %v and %v", d, a, b)
		}
		var seen []time.Duration
		random := &budget{rand: rand.Reader}
		for range 20 {
			seen = append(seen, random.jitter(d))
		}
		if d > 1 && slices.Min(seen) == slices.Max(seen) {
			t.Errorf("jitter(%v): got %v twenty times", d, seen[0])
		}
	}
}
