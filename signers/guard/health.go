package guard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/signetd/signet/signers"
)

// healthID is the key that only proves that its back-end signs. Daemons that
// share a back-end share the key: it vouches for nothing.
func healthID(alg signers.Algorithm) signers.KeyID {
	return signers.KeyID(signers.HealthPrefix + string(alg))
}

// healthMessage begins every message that such a key signs. No token begins
// so, and no token format has the key.
const healthMessage = "signet health check, worth nothing\x00"

// A Check says how a back-end is looked after.
type Check struct {
	Algorithm signers.Algorithm // of the key that is made for it
	Every     time.Duration     // 30 s if 0; it backs off to eight times that while it fails
	Timeout   time.Duration     // of one; 5 s if 0
	Now       func() time.Time  // required
}

// A health is what the last check found.
type health struct {
	at  time.Time
	err error
}

// Watch makes a signature with a key of its own, verifies it, and does so again
// and again until Close. Call it once.
func (b *Backend) Watch(c Check) {
	if c.Every == 0 {
		c.Every = 30 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	b.watched.Store(&c.Algorithm)
	b.opening.Go(func() { b.watch(c) })
}

func (b *Backend) watch(c Check) {
	var key signers.Key
	for pause := c.Every; ; {
		err := b.check(c, &key)
		if b.ctx.Err() != nil {
			return
		}
		if err != nil {
			pause = min(2*pause, 8*c.Every)
		} else {
			pause = c.Every
		}
		before := b.found.Swap(&health{c.Now(), err})
		b.tell(before, err)
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return
		}
	}
}

// tell logs what changed.
func (b *Backend) tell(before *health, err error) {
	was := before == nil || before.err == nil
	switch {
	case err != nil && was:
		b.cfg.Log.Error("back-end's health check failed", slog.String("backend", b.cfg.Name), slog.Any("error", err))
	case err == nil && !was:
		b.cfg.Log.Info("back-end is healthy again", slog.String("backend", b.cfg.Name))
	}
}

// check makes one signature and verifies it. It goes past the guard, which is
// for callers: a breaker that is open must not look like a sick back-end, and a
// full bulkhead is no sickness.
func (b *Backend) check(c Check, key *signers.Key) error {
	ctx, cancel := context.WithTimeout(b.ctx, c.Timeout)
	defer cancel()
	inner, err := b.opened()
	if err != nil {
		return err
	}
	if *key == nil {
		if *key, err = b.healthKey(ctx, inner, c.Algorithm); err != nil {
			return err
		}
	}
	message := []byte(healthMessage + rand.Text())
	sig, err := (*key).Sign(ctx, message)
	if err != nil {
		if errors.Is(err, signers.ErrNotFound) {
			*key = nil // somebody has tidied up: make another
		}
		return err
	}
	return c.Algorithm.Verify((*key).Public(), message, sig)
}

// healthKey opens the key that the checks sign with, or makes it.
func (b *Backend) healthKey(ctx context.Context, inner signers.Backend, alg signers.Algorithm) (signers.Key, error) {
	id := healthID(alg)
	key, err := inner.Open(ctx, id, alg)
	if errors.Is(err, signers.ErrNotFound) {
		if err = b.mayMake(); err == nil {
			key, err = inner.Create(ctx, id, alg)
		}
	}
	if errors.Is(err, signers.ErrExists) { // another daemon was faster
		key, err = inner.Open(ctx, id, alg)
	}
	if err != nil {
		return nil, fmt.Errorf("health check: %w", err)
	}
	return key, nil
}

// ours reports whether an id is of a key that the guard made.
func ours(id signers.KeyID) bool { return strings.HasPrefix(string(id), signers.HealthPrefix) }
