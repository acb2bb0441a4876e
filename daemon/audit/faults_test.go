package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/daemon/audit"
)

// acknowledged issues tokens until n were tried, and returns the jtis of those
// whose Done returned nil.
func acknowledged(l *audit.Log, c *clock, n int) []string {
	var good []string
	for i := range n {
		if issue(l, i) == nil {
			good = append(good, event(i).TokenID)
		}
		c.advance(2 * time.Second) // past the time a broken ledger waits
	}
	return good
}

// recorded wants each jti in the stored ledger with intent and outcome.
func recorded(t *testing.T, at string, jtis []string) {
	t.Helper()
	lines, err := stored(at)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Join(lines, []byte("\n"))
	for _, jti := range jtis {
		if n := bytes.Count(all, []byte(`"jti":"`+jti+`"`)); n != 2 {
			t.Errorf("%s was acknowledged and is on record %d times, want 2", jti, n)
		}
	}
}

// TestAFaultAtEveryStepLosesNothing fails the N-th write, fsync, truncation,
// creation or reservation, for every N, and goes on.
func TestAFaultAtEveryStepLosesNothing(t *testing.T) {
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := 0; ; n++ {
			at, c, step := dir(t), newClock(), 0
			sink, tail, err := audit.OpenFile(audit.FileOptions{Dir: at, SegmentBytes: 3 << 10, Fault: func(string) error {
				if step++; step == n+1 {
					return fault
				}
				return nil
			}})
			if err != nil {
				continue // the fault met the opening: nothing was promised
			}
			l, err := audit.Open(sink, audit.Options{Tail: tail, Now: c.Now})
			if err != nil {
				_ = sink.Close()
				continue
			}
			good := acknowledged(l, c, 8)
			if len(good) < 7 {
				t.Errorf("%v at step %d: %d of 8 tokens, want at least 7", fault, n, len(good))
			}
			_ = l.Close() // may meet the fault
			recorded(t, at, good)
			if _, err := audit.Verify(at); err != nil {
				t.Errorf("%v at step %d: %v", fault, n, err)
			}
			if step <= n {
				break // the last step was passed
			}
		}
	}
}

func TestAFullDiskMeansNoTokenButRevocation(t *testing.T) {
	at, c, full := dir(t), newClock(), false
	l := open(t, audit.FileOptions{Dir: at, Fault: func(op string) error {
		if full && (op == "reserve" || op == "write" && !reserveGone(at)) {
			return syscall.ENOSPC
		}
		return nil
	}}, c)
	if err := issue(l, 1); err != nil {
		t.Fatal(err)
	}
	full = true
	if err := issue(l, 2); !errors.Is(err, audit.ErrDown) {
		t.Errorf("a token on a full disk: got %v, want ErrDown", err)
	}
	if l.Healthy() == nil {
		t.Error("Healthy: got nil on a full disk")
	}
	if err := l.RecordUrgent(context.Background(), audit.Event{Op: "key.revoke", Key: "ci"}); err != nil {
		t.Errorf("revocation on a full disk: %v", err)
	}
	c.advance(5 * time.Second)
	if err := issue(l, 3); !errors.Is(err, audit.ErrDown) {
		t.Errorf("a token after the revocation, still full: got %v, want ErrDown", err)
	}
	full = false
	c.advance(5 * time.Second)
	if err := issue(l, 4); err != nil {
		t.Errorf("a token after space returned: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	recorded(t, at, []string{"jti-1", "jti-4"})
	r, err := audit.Verify(at)
	if err != nil || r.Kinds[audit.KindRecord] != 1 || r.Kinds[audit.KindRepair] == 0 {
		t.Errorf("Verify: got %+v, %v; want the revocation and a repair on record", r, err)
	}
}

// TestCallersShareWrites has many callers at once: each is answered after its
// own records are stored, and they share writes.
func TestCallersShareWrites(t *testing.T) {
	at, c := dir(t), newClock()
	var mu sync.Mutex
	syncs := 0
	l := open(t, audit.FileOptions{Dir: at, Fault: func(op string) error {
		if op == "fsync" {
			mu.Lock()
			syncs++
			mu.Unlock()
		}
		return nil
	}}, c)
	const callers, each = 32, 20
	var wg sync.WaitGroup
	var jtis []string
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				if err := issue(l, i*each+j); err != nil {
					t.Error(err)
				}
			}
		})
		for j := range each {
			jtis = append(jtis, event(i*each+j).TokenID)
		}
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	recorded(t, at, jtis)
	if r, err := audit.Verify(at); err != nil || r.OpenIntents != 0 {
		t.Errorf("Verify: %+v, %v", r, err)
	}
	if syncs >= callers*each {
		t.Errorf("%d syncs for %d tokens: nothing was shared", syncs, callers*each)
	}
}

func TestAClosedLedgerTakesNothing(t *testing.T) {
	l := open(t, audit.FileOptions{Dir: dir(t)}, newClock())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := issue(l, 1); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestOneProcessWritesALedger(t *testing.T) {
	at := dir(t)
	l := open(t, audit.FileOptions{Dir: at}, newClock())
	defer l.Close()
	if _, _, err := audit.OpenFile(audit.FileOptions{Dir: at}); err == nil {
		t.Error("a second OpenFile: got no error")
	}
}

func TestFollowTellsEachRecordOnce(t *testing.T) {
	at, c := dir(t), newClock()
	l := open(t, audit.FileOptions{Dir: at, SegmentBytes: 1 << 10}, c)
	ctx, cancel := context.WithCancel(context.Background())
	tick := make(chan time.Time)
	var seen []uint64
	done := make(chan error)
	go func() {
		done <- audit.Follow(ctx, at, 0, tick, func(r audit.Record) error {
			seen = append(seen, r.Seq)
			return nil
		})
	}()
	for i := range 10 {
		if err := issue(l, i); err != nil {
			t.Fatal(err)
		}
		tick <- time.Time{}
	}
	tick <- time.Time{}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint(seen); len(seen) < 20 || seen[len(seen)-1] != uint64(len(seen)) {
		t.Errorf("Follow told %s, want 1 to 21 once each", want)
	}
	_ = l.Close()
}

func BenchmarkIssue(b *testing.B) {
	sink, tail, err := audit.OpenFile(audit.FileOptions{Dir: b.TempDir() + "/l", UnsafeNoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	l, err := audit.Open(sink, audit.Options{Tail: tail, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := issue(l, 1); err != nil {
				b.Error(err)
			}
		}
	})
}

// reserveGone reports whether the space held back was given up.
func reserveGone(at string) bool {
	_, err := os.Stat(filepath.Join(at, "reserve"))
	return err != nil
}
