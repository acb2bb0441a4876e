package pkcs11

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/signers"
)

// A use is what all handles of one key share: whether it was destroyed, and how
// many calls into the module are using it. A module may crash when an object is
// destroyed under a signature by it (openCryptoki does).
type use struct {
	gone  atomic.Bool
	calls atomic.Int64
}

// enter reports whether the module may use the key; if so, leave must follow.
func (u *use) enter() bool {
	u.calls.Add(1) // before gone is read: end looks the other way round
	if u.gone.Load() {
		u.calls.Add(-1)
		return false
	}
	return true
}

func (u *use) leave() { u.calls.Add(-1) }

// end lets no call begin, and returns when none is under way.
func (u *use) end(ctx context.Context) error {
	u.gone.Store(true)
	ctx, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	for u.calls.Load() > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("a signature by it does not come back: %w: %w: %w", ctx.Err(), errGaveUp, signers.ErrUnavailable)
		}
	}
	return nil
}
