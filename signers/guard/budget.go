package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/signers"
)

// window is what a budget is for.
const window = time.Hour

// A Budget bounds how many keys a back-end is asked to make in any hour. It is
// kept in a file, since what it is there for is a daemon that starts again and
// again: each request is on record before it is made, and counts whatever came
// of it. An answer that was lost may have been a key that costs money.
type Budget struct {
	path string
	most int
	now  func() time.Time

	mu    sync.Mutex
	spent []time.Time // oldest first
}

// OpenBudget opens the budget that is kept at path, in a directory that is
// there, of most keys an hour. A file that can't be read whole is an error: it
// would be as if nothing had been made.
func OpenBudget(path string, most int, now func() time.Time) (*Budget, error) {
	b := &Budget{path: path, most: most, now: now}
	text, err := os.ReadFile(path) //nolint:gosec // the daemon's own
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("budget of key creations: %w", err)
	}
	for line := range bytes.Lines(text) {
		at, err := time.Parse(time.RFC3339Nano, string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			return nil, fmt.Errorf("budget of key creations: %s: %w\nhint: it lists when keys were made, one time a line; mend it, or remove it if none was made in the last hour", path, err)
		}
		// A clock that was ahead must not hold the budget for longer.
		if now := now(); at.After(now) {
			at = now
		}
		b.spent = append(b.spent, at)
	}
	slices.SortFunc(b.spent, time.Time.Compare)
	return b, nil
}

// Left is how many keys may be asked for now.
func (b *Budget) Left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.most-len(b.recent()))
}

// recent is what counts now. Called with mu held.
func (b *Budget) recent() []time.Time {
	from := b.now().Add(-window)
	i := slices.IndexFunc(b.spent, func(at time.Time) bool { return at.After(from) })
	if i < 0 {
		return nil
	}
	return b.spent[i:]
}

// spend puts one request on record, durably, or returns an error: ErrBudget, or
// why it could not. Then none may be made.
func (b *Budget) spend() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	spent := b.recent()
	if len(spent) >= b.most {
		again := spent[len(spent)-b.most].Add(window).UTC().Format(time.RFC3339)
		return fmt.Errorf("%d keys were asked for in an hour: %w\nhint: see why with `signet key list` and `signet key orphans`; the next may be made after %s, and limits.creations_per_hour allows more", len(spent), signers.ErrBudget, again)
	}
	spent = append(slices.Clone(spent), b.now())
	if err := b.save(spent); err != nil {
		return fmt.Errorf("budget of key creations: %w: %w", signers.ErrUnavailable, err)
	}
	b.spent = spent
	return nil
}

// save replaces the file so that it survives a power cut.
func (b *Budget) save(spent []time.Time) error {
	var text []byte
	for _, at := range spent {
		text = append(at.UTC().AppendFormat(text, time.RFC3339Nano), '\n')
	}
	f, err := os.OpenFile(b.path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), b.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// CreationsLeft is how many keys the back-end may be asked to make now; false
// if there is no bound.
func (b *Backend) CreationsLeft() (int, bool) {
	if b.cfg.Budget == nil {
		return 0, false
	}
	return b.cfg.Budget.Left(), true
}

// mayMake counts a key that is about to be asked for.
func (b *Backend) mayMake() error {
	if b.cfg.Budget == nil {
		return nil
	}
	if err := b.cfg.Budget.spend(); err != nil {
		return fmt.Errorf("back-end %q: %w", b.cfg.Name, err)
	}
	return nil
}
