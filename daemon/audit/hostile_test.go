package audit_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/daemon/audit"
)

// TestNoRequestMakesARecordThatCantBeRead writes the largest records that a
// caller could bring about.
func TestNoRequestMakesARecordThatCantBeRead(t *testing.T) {
	at := dir(t)
	l := open(t, audit.FileOptions{Dir: at}, newClock())
	long := strings.Repeat("\u2028", 5000)
	for _, audience := range [][]string{make([]string, 30_000), {long, long}, strings.Split(strings.Repeat("a,", 30_000), ",")} {
		e := audit.Event{Op: long, Caller: long, Profile: long, Key: long, Kid: long, TokenID: long, Subject: long, Audience: audience, Rule: long, Reason: long}
		if err := l.Deny(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Verify(at); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := open(t, audit.FileOptions{Dir: at}, newClock()).Close(); err != nil {
		t.Errorf("a start afterwards: %v", err)
	}
}

// TestAFullDiskAndAKillDoNotForkTheChain fails every write for a while, as a
// full disk does, and starts again without a stop.
func TestAFullDiskAndAKillDoNotForkTheChain(t *testing.T) {
	at, c, full := dir(t), newClock(), false
	sink, tail, err := audit.OpenFile(audit.FileOptions{Dir: at, Fault: func(op string) error {
		if full && op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(sink, audit.Options{Tail: tail, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := issue(l, 1); err != nil {
		t.Fatal(err)
	}
	full = true
	for i := range 6 {
		c.advance(2 * time.Second)
		if issue(l, 2+i) == nil {
			t.Fatal("a token without a record")
		}
	}
	if err := sink.Close(); err != nil { // killed
		t.Fatal(err)
	}
	// As an earlier version left it: a trail of empty segments.
	if err := os.WriteFile(filepath.Join(at, "ledger-00000003.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, audit.FileOptions{Dir: at}, c)
	if err := errors.Join(issue(l, 10), l.Close()); err != nil {
		t.Fatal(err)
	}
	if r, err := audit.Verify(at); err != nil || r.Kinds[audit.KindUncleanStop] != 1 {
		t.Errorf("Verify: %+v, %v; want one chain with one unclean stop", r, err)
	}
}

func TestALedgerFileThatWasRemovedIsNoticed(t *testing.T) {
	at := dir(t)
	l := open(t, audit.FileOptions{Dir: at}, newClock())
	if err := os.Remove(filepath.Join(at, "ledger-00000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := issue(l, 1); !errors.Is(err, audit.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
}

// A slowSink takes its time, and fails when it is told to.
type slowSink struct {
	mu   sync.Mutex
	fail bool
}

func (s *slowSink) Append([][]byte) error {
	time.Sleep(1500 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		s.fail = false
		return syscall.ENOSPC
	}
	return nil
}

func (s *slowSink) Mend(bool) error { return nil }

// TestManyWhoMendAtOnceMendOnce has several callers find the ledger down while
// one of them writes already.
func TestManyWhoMendAtOnceMendOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowSink{}
		l, err := audit.Open(s, audit.Options{Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		s.fail = true
		_ = l.Record(context.Background(), event(1))
		var wg sync.WaitGroup
		for _, after := range []int{0, 500, 2700, 2700, 2800} {
			wg.Go(func() {
				time.Sleep(time.Duration(after) * time.Millisecond)
				if after == 0 {
					_ = l.RecordUrgent(context.Background(), event(2))
					return
				}
				_ = l.Record(context.Background(), event(3))
			})
		}
		wg.Wait()
	})
}
