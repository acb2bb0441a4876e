// Package daemon puts signet together: the parts know nothing of each other,
// and this package starts them in order, hands each what it needs, and stops
// them in the opposite order.
package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/metrics"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/daemon/tokens"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/keyring/filestore"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/plugins/host/sandbox"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/guard"
)

// Options are what the configuration does not say.
type Options struct {
	Version string    // shown by `signet status`
	Stderr  io.Writer // where the log goes
}

// now is the daemon's clock: the only place that reads it.
func now() time.Time { return time.Now() } //nolint:forbidigo // the one place

// A Daemon is the parts, as the steps of start-up fill them in.
type Daemon struct {
	cfg     *config.Config
	opts    Options
	log     *slog.Logger
	metrics *metrics.Metrics
	started time.Time

	ledger   *audit.Log
	self     *os.File // our own binary, which runs issuers and back-ends
	sockDir  string   // where their sockets are
	children sandbox.Children
	launcher *sandbox.Remote // of processes with a uid of their own; nil: there are none
	uids     uids
	cgroup   *cgroup // nil: none is delegated
	backends map[string]signers.Backend
	guards   map[string]*guard.Backend // the same
	modules  map[string]*host.Launcher // of those that have a process of their own
	ring     *keyring.Ring
	gate     *policy.Gate
	serials  *tokens.Serials // nil where no key makes certificates
	tokens   *tokens.Store
	issuers  map[string]*host.Process
	readers  map[string]server.Reader // by format, as issuers
	pipeline *server.Pipeline
	sockets  sockets

	lifetimes map[string]time.Duration // the longest that a profile gives, by key

	mu   sync.Mutex     // some steps have parts that run at the same time
	undo []func() error // in the order of the steps; run backwards
}

// Run starts the daemon and serves until ctx ends, then stops it: requests
// under way are answered, and the ledger is ended cleanly.
func Run(ctx context.Context, cfg *config.Config, opts Options) error {
	d := &Daemon{
		cfg: cfg, opts: opts, started: now(), metrics: newMetrics(cfg, opts.Version),
		log: newLog(opts.Stderr, cfg.Log), backends: map[string]signers.Backend{},
		guards: map[string]*guard.Backend{}, modules: map[string]*host.Launcher{}, issuers: map[string]*host.Process{}, readers: map[string]server.Reader{},
		lifetimes: lifetimes(cfg.Profiles),
	}
	err := d.start(ctx)
	if err == nil {
		err = d.serve(ctx)
	}
	return errors.Join(err, d.stop())
}

// start takes the steps of start-up in order. Nothing is served before the
// last; the first that fails ends the daemon.
func (d *Daemon) start(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"directories", d.directories},
		{"policy", d.openGate},
		{"ledger", d.openLedger},
		{"serial numbers", d.openSerials},
		{"tokens", d.openTokens},
		{"own binary", d.openSelf},
		{"issuers and back-ends", d.openParts},
		{"keys", d.openRing},
		{"sockets", d.openSockets},
	} {
		begun := now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("start: %s: %w", step.name, err)
		}
		d.log.LogAttrs(ctx, slog.LevelDebug, "started", slog.String("step", step.name), slog.Duration("took", now().Sub(begun)))
	}
	return nil
}

// atStop registers what undoes a step.
func (d *Daemon) atStop(undo func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo = append(d.undo, undo)
}

// stop undoes the steps, last first. Each is undone, whatever the others say.
func (d *Daemon) stop() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	return errors.Join(errs...)
}

// serve answers until ctx ends or a listener fails.
func (d *Daemon) serve(ctx context.Context) error {
	failed := d.sockets.serve()
	d.log.LogAttrs(ctx, slog.LevelInfo, "ready", slog.String("version", d.opts.Version),
		slog.String("runtime_dir", d.cfg.RuntimeDir), slog.Duration("took", now().Sub(d.started)))
	d.notify(systemd.SdNotifyReady)
	defer d.notify(systemd.SdNotifyStopping)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		d.log.LogAttrs(context.WithoutCancel(ctx), slog.LevelInfo, "stopping")
		return nil
	}
}

// notify tells systemd (sd_notify(3)); without systemd it does nothing.
func (d *Daemon) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.log.Warn("systemd could not be told", slog.Any("error", err))
	}
}

// directories makes the daemon's own directories, or refuses ones that others
// may write in.
func (d *Daemon) directories(context.Context) error {
	if err := prepareDir(d.cfg.StateDir, 0o700); err != nil {
		return err
	}
	return prepareDir(d.cfg.RuntimeDir, 0o755)
}

// openLedger opens the ledger and writes that the daemon started.
func (d *Daemon) openLedger(context.Context) error {
	sink, tail, err := audit.OpenFile(audit.FileOptions{
		Dir: d.cfg.LedgerDir(), SegmentBytes: d.cfg.Ledger.SegmentSize.Bytes(), UnsafeNoSync: d.cfg.Ledger.UnsafeNoSync,
	})
	if err != nil {
		return err
	}
	d.ledger, err = audit.Open(sink, audit.Options{Tail: tail, Now: now})
	if err != nil {
		return errors.Join(err, sink.Close())
	}
	d.atStop(d.ledger.Close)
	return nil
}

func (d *Daemon) openRing(ctx context.Context) error {
	store, err := filestore.Open(filepath.Join(d.cfg.StateDir, "keyring"), filestore.Options{})
	if err != nil {
		return err
	}
	d.atStop(store.Close)
	d.ring, err = keyring.Open(ctx, store, d.backends, keyring.Options{
		Now: now, Rand: rand.Reader, Specs: specs(d.cfg), Kid: kidOf, LeadTime: d.cfg.Lifecycle.LeadTime.Or(10 * time.Minute),
		Drain: d.cfg.Lifecycle.Drain.Or(30 * time.Second), Log: d.log, Journal: d.pinAttestation,
	})
	if err != nil {
		return err
	}
	d.atStop(d.ring.Close)
	for _, e := range d.ring.List() {
		if err := d.ring.Outlive(ctx, e.Name, d.longest(e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// pinAttestation writes what a back-end said of a key into the ledger before
// the key is published. Other moves are on record with who asked for them, and
// a revocation waits for nothing.
func (d *Daemon) pinAttestation(ctx context.Context, m keyring.Move) error {
	if m.To != keyring.Published || len(m.Attested) == 0 {
		return nil
	}
	return d.ledger.Record(ctx, audit.Event{
		Op: "key.attested", Caller: "daemon", Key: m.Name, Version: m.Version, Kid: m.Kid, Reason: strings.Join(m.Attested, " "),
	})
}

// newLog makes the log that the configuration asks for.
func newLog(w io.Writer, c config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.SlogLevel()}
	if w == nil {
		w = os.Stderr
	}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
