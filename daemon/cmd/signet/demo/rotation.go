package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
)

// A load issues tokens all the time and counts what it got by kid.
type load struct {
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	byKid  map[string]int
	failed []error
}

// startLoad keeps four callers busy until the load is ended.
func (w *walk) startLoad(ctx context.Context) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{stop: cancel, byKid: map[string]int{}}
	for range 4 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				// The request itself is not cut off: a cancelled one would
				// look like a failed one.
				t, err := w.issuer.Issue(context.WithoutCancel(ctx), wanted())
				l.count(t.Kid, err)
			}
		})
	}
	return l
}

func (l *load) count(kid string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, err)
		return
	}
	l.byKid[kid]++
}

// until waits until n tokens of kid were issued.
func (l *load) until(ctx context.Context, kid string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		l.mu.Lock()
		enough := l.byKid[kid] >= n
		l.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no %d tokens under kid %s in 20 s", n, kid)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// end stops the load and returns its count, or the first failure.
func (l *load) end() (int, error) {
	l.stop()
	l.wg.Wait()
	total := 0
	for _, n := range l.byKid {
		total += n
	}
	if len(l.failed) > 0 {
		return total, fmt.Errorf("%d of %d requests failed, the first with: %w", len(l.failed), total+len(l.failed), l.failed[0])
	}
	return total, nil
}

func (w *walk) rotate(ctx context.Context) (figures, error) {
	l := w.startLoad(ctx)
	kid, err := w.rotateUnder(ctx, l)
	total, loadErr := l.end()
	if err := errors.Join(err, loadErr); err != nil {
		return nil, err
	}
	if _, err := w.check(ctx, w.first.Value); err != nil {
		return nil, fmt.Errorf("the first token, signed before the rotation: %w", err)
	}
	w.show("%d tokens, none failed: %d by the old version, %d by the new (kid %s)", total, total-l.byKid[kid], l.byKid[kid], kid)
	w.show("the first token, of the old version, still verifies")
	return figures{"tokens": total, "failed": 0, "by_new_version": l.byKid[kid], "kid": kid}, nil
}

// rotateUnder publishes a new version, waits its lead time and activates it,
// with tokens issued before, between and after.
func (w *walk) rotateUnder(ctx context.Context, l *load) (string, error) {
	if err := l.until(ctx, w.first.Kid, 50); err != nil {
		return "", err
	}
	reply, err := w.admin.Rotate(ctx, &signetv1.KeyRequest{Name: "demo", Reason: "signet demo"})
	if err != nil {
		return "", err
	}
	kid := ""
	for _, v := range reply.GetKey().GetVersions() {
		if v.GetNumber() == reply.GetVersion() {
			kid = v.GetKid()
		}
	}
	// Times on record are whole seconds, so the lead time can end a second late.
	select {
	case <-time.After(leadTime + time.Second):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if _, err := w.admin.Activate(ctx, &signetv1.KeyRequest{Name: "demo", Version: reply.GetVersion(), Reason: "signet demo"}); err != nil {
		return "", err
	}
	return kid, l.until(ctx, kid, 50)
}

func (w *walk) ledgerDir() string { return filepath.Join(w.dir, "state", "ledger") }

func (w *walk) ledger(context.Context) (figures, error) {
	r, err := audit.Verify(w.ledgerDir())
	if err != nil {
		return nil, err
	}
	w.show("%d records: every link holds; head %.16s…", r.Records, r.Head)
	return figures{"records": r.Records, "head": r.Head}, nil
}

// tamper flips the lowest bit of one byte in the middle of a copy.
func (w *walk) tamper(context.Context) (figures, error) {
	fake := filepath.Join(w.dir, "tampered")
	if err := os.CopyFS(fake, os.DirFS(w.ledgerDir())); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(fake, "*.jsonl"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, errors.New("the ledger has no segment"))
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil { //nolint:gosec // in the demo's own directory
		return nil, err
	}
	_, err = audit.Verify(fake)
	if err == nil {
		return nil, errors.New("the check did not notice")
	}
	w.show("found: %s", words(err))
	return figures{"byte": len(data) / 2, "found": words(err)}, nil
}
