package daemon

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/tokens"
)

// pruneEvery is how often what ended is forgotten.
const pruneEvery = time.Minute

// openTokens opens what is remembered of tokens, and has what ended forgotten.
func (d *Daemon) openTokens(ctx context.Context) error {
	store, err := tokens.OpenStore(tokens.StoreOptions{
		Path: filepath.Join(d.cfg.StateDir, "tokens.db"), Now: now, Most: d.cfg.Tokens.Most,
	})
	if err != nil {
		return err
	}
	d.tokens = store
	d.metrics.WatchTokens(store.Live)
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.forget(ctx)
	}()
	d.atStop(func() error {
		stop()
		<-done
		return store.Close()
	})
	return nil
}

// forget forgets what ended, for as long as ctx.
func (d *Daemon) forget(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if gone, err := d.tokens.Prune(); err != nil {
			d.log.ErrorContext(ctx, "ended tokens could not be forgotten", slog.Any("error", err))
		} else if gone > 0 {
			d.log.DebugContext(ctx, "ended tokens forgotten", slog.Int("tokens", gone))
		}
	}
}

var errNoSerials = errors.New("no serial numbers")

// serial is the next serial number of an SSH certificate.
func (d *Daemon) serial() (uint64, error) {
	if d.serials == nil {
		return 0, errNoSerials
	}
	return d.serials.Next()
}

// openSerials opens the serial numbers, where a key makes certificates.
func (d *Daemon) openSerials(context.Context) error {
	if !slices.ContainsFunc(d.cfg.Keys, func(k config.Key) bool { return k.Format == "ssh" }) {
		return nil
	}
	serials, err := tokens.OpenSerials(tokens.SerialOptions{Dir: filepath.Join(d.cfg.StateDir, "serials")})
	if err != nil {
		return err
	}
	d.serials = serials
	d.atStop(serials.Close)
	return nil
}
