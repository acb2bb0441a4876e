package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/sinktest"
	"github.com/signetd/signet/daemon/audit"
)

// clock is a time that tests move by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)} }

// open opens a ledger in dir.
func open(t *testing.T, o audit.FileOptions, c *clock) *audit.Log {
	t.Helper()
	sink, tail, err := audit.OpenFile(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(sink, audit.Options{Tail: tail, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func event(i int) audit.Event {
	return audit.Event{
		Op: "issue", Caller: "uid=1000 gid=1000 pid=7", Profile: "ci", Key: "ci", Version: 1, Kid: "kid",
		TokenID: fmt.Sprintf("jti-%d", i), Subject: "alice@example", Audience: []string{"https://api.example"},
		Expires: 1767323345, Rule: "ci.callers[0]", Hash: bytes.Repeat([]byte{byte(i)}, 32),
	}
}

// issue records one token.
func issue(l *audit.Log, i int) error {
	en, err := l.Intend(context.Background(), event(i))
	if err != nil {
		return err
	}
	return en.Done(context.Background(), bytes.Repeat([]byte{1}, 32))
}

func dir(t *testing.T) string { return filepath.Join(t.TempDir(), "ledger") }

// filled makes a ledger with some tokens and returns its directory.
func filled(t *testing.T, tokens int) string {
	t.Helper()
	at := dir(t)
	l := open(t, audit.FileOptions{Dir: at, SegmentBytes: 2 << 10}, newClock())
	for i := range tokens {
		if err := issue(l, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return at
}

// stored reads the raw lines of a ledger.
func stored(at string) ([][]byte, error) {
	files, err := filepath.Glob(filepath.Join(at, "ledger-*.jsonl"))
	var all [][]byte
	for _, f := range files {
		data, readErr := os.ReadFile(f)
		err = errors.Join(err, readErr)
		for line := range bytes.Lines(data) {
			all = append(all, bytes.TrimSuffix(line, []byte("\n")))
		}
	}
	return all, err
}

func TestTheFileSinkKeepsThePromisesOfASink(t *testing.T) {
	conformance.Run(t, sinktest.Checks(), func(t *testing.T) sinktest.Subject {
		at, broken := dir(t), false
		sink, _, err := audit.OpenFile(audit.FileOptions{Dir: at, Fault: func(op string) error {
			if broken && op == "fsync" {
				broken = false
				return syscall.EIO
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sink.Close() })
		return sinktest.Subject{
			Sink:   sink,
			Stored: func() ([][]byte, error) { return stored(at) },
			Break:  func() { broken = true },
		}
	})
}

// TestAnIndependentReaderAgrees checks the chain with none of our code.
func TestAnIndependentReaderAgrees(t *testing.T) {
	lines, err := stored(filled(t, 20))
	if err != nil {
		t.Fatal(err)
	}
	prev := strings.Repeat("0", 64)
	for i, line := range lines {
		var r struct {
			Seq        int
			Prev, Hash string
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		body, _, _ := bytes.Cut(line, []byte(`,"hash":"`))
		sum := sha256.Sum256(body)
		if r.Seq != i+1 || r.Prev != prev || r.Hash != hex.EncodeToString(sum[:]) {
			t.Fatalf("record %d is not in its place: %s", i+1, line)
		}
		prev = r.Hash
	}
	if len(lines) != 42 { // start, 20 pairs, stop
		t.Errorf("%d records, want 42", len(lines))
	}
}

func TestNoPersonalDataIsWritten(t *testing.T) {
	lines, err := stored(filled(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if all := bytes.Join(lines, nil); bytes.Contains(all, []byte("alice")) {
		t.Errorf("the subject stands in the ledger: %s", all)
	}
}

func TestACallerCanNotForgeALine(t *testing.T) {
	at := dir(t)
	l := open(t, audit.FileOptions{Dir: at}, newClock())
	e := event(1)
	e.Profile = "x\",\"kind\":\"outcome\"}\n{\"seq\":3,\x00\xff\u2028" + strings.Repeat("y", 9000)
	if err := l.Deny(context.Background(), e); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Verify(at)
	if err != nil || r.Records != 3 || r.Kinds[audit.KindOutcome] != 0 {
		t.Errorf("Verify: got %+v, %v; want 3 records and no outcome", r, err)
	}
}

func TestEveryChangeIsFound(t *testing.T) {
	at := filled(t, 6)
	files, err := filepath.Glob(filepath.Join(at, "ledger-*.jsonl"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d segments, %v; want several", len(files), err)
	}
	for _, f := range files {
		whole, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole { // one bit of each byte, another at each place
			changed := bytes.Clone(whole)
			changed[i] ^= 1 << (i % 8)
			expectFound(t, at, f, changed, whole, fmt.Sprintf("bit of byte %d flipped", i))
		}
		lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
		for i := range len(lines) - 1 {
			gone := bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
			expectFound(t, at, f, append(gone, '\n'), whole, fmt.Sprintf("line %d removed", i+1))
			swapped := append([][]byte{}, lines...)
			swapped[i], swapped[i+1] = append(bytes.TrimSuffix(lines[i+1], []byte("\n")), '\n'), bytes.TrimSuffix(lines[i], []byte("\n"))
			if i == len(lines)-2 {
				continue // handled by removal; the last line has no newline here
			}
			swapped[i+1] = append(swapped[i+1], '\n')
			expectFound(t, at, f, append(bytes.Join(swapped, nil), '\n'), whole, fmt.Sprintf("line %d swapped with the next", i+1))
		}
	}
	if _, err := audit.Verify(at); err != nil {
		t.Errorf("the ledger itself: %v", err)
	}
}

// expectFound writes a changed file, verifies, and puts the file back.
func expectFound(t *testing.T, at, file string, changed, whole []byte, what string) {
	t.Helper()
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Verify(at)
	if err == nil && !r.Unfinished {
		t.Errorf("%s: %s: not found", filepath.Base(file), what)
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAMissingSegmentIsFound(t *testing.T) {
	at := filled(t, 30)
	files, _ := filepath.Glob(filepath.Join(at, "ledger-*.jsonl"))
	for _, f := range files[:len(files)-1] {
		whole, _ := os.ReadFile(f)
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Verify(at); err == nil {
			t.Errorf("%s removed: not found", filepath.Base(f))
		}
		if err := os.WriteFile(f, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACutEndIsFoundByAHeadThatWasNoted(t *testing.T) {
	at := filled(t, 2)
	r, err := audit.Verify(at)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(at, "ledger-*.jsonl"))
	last := files[len(files)-1]
	whole, _ := os.ReadFile(last)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	if err := os.WriteFile(last, bytes.Join(lines[:len(lines)-2], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Verify(at); err != nil {
		t.Errorf("without a head: got %v, want nothing to be seen", err)
	}
	if _, err := audit.VerifyWith(at, audit.VerifyOptions{Head: r.Head}); !errors.Is(err, audit.ErrHead) {
		t.Errorf("with the head that was noted: got %v, want ErrHead", err)
	}
}

func TestAnUncleanStopIsOnRecord(t *testing.T) {
	at, c := dir(t), newClock()
	sink, tail, err := audit.OpenFile(audit.FileOptions{Dir: at})
	if err != nil || !tail.Clean {
		t.Fatalf("a new ledger: %+v, %v; want clean", tail, err)
	}
	l, err := audit.Open(sink, audit.Options{Tail: tail, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Intend(context.Background(), event(1)); err != nil {
		t.Fatal(err)
	}
	if err := issue(l, 2); err != nil {
		t.Fatal(err)
	}
	// The process dies: no stop record, half a line at the end.
	_ = sink.Close()
	f, err := os.OpenFile(filepath.Join(at, "ledger-00000001.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"seq":5,"ti`)
	_ = f.Close()
	l = open(t, audit.FileOptions{Dir: at}, c)
	defer l.Close()
	last, err := audit.ReadTail(at, 1)
	if err != nil || last[0].Kind != audit.KindUncleanStop || !strings.HasPrefix(last[0].Reason, "1 intents") || !strings.Contains(last[0].Reason, "12 bytes") {
		t.Errorf("last record: got %+v, %v; want unclean_stop with 1 intent and 12 bytes", last, err)
	}
	if _, err := audit.Verify(at); err != nil {
		t.Errorf("Verify: %v", err)
	}
}
