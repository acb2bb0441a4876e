package daemon

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/plugins/sshcert"
)

// A stock is a token format that is compiled in. Its issuer still runs as a
// process of its own; its inspector runs in the daemon.
type stock struct {
	issuer    func() plugins.Issuer
	inspector func() plugins.Inspector
	kid       func(crypto.PublicKey) (string, error) // nil: the RFC 7638 thumbprint
}

// stocks is the table of formats: a new one is one line.
var stocks = map[string]stock{
	jwt.Format:     {jwt.New, jwt.NewInspector, nil},
	paseto.Format:  {paseto.New, paseto.NewInspector, paseto.Kid},
	sshcert.Format: {sshcert.New, sshcert.NewInspector, sshcert.Kid},
}

// StockIssuer returns the issuer of a compiled-in format, for the process that
// serves it.
func StockIssuer(format string) (plugins.Issuer, bool) {
	s, ok := stocks[format]
	if !ok {
		return nil, false
	}
	return s.issuer(), true
}

// kidOf is how a format names a public key, "" where it takes the thumbprint.
func kidOf(format string, pub crypto.PublicKey) (string, error) {
	if f := stocks[format].kid; f != nil {
		return f(pub)
	}
	return "", nil
}

// launchIssuers starts an issuer process for each format that a key has.
func (d *Daemon) launchIssuers(ctx context.Context) error {
	for _, k := range d.cfg.Keys {
		if d.issuers[k.Format] != nil {
			continue
		}
		spec, err := d.issuerSpec(k.Format)
		if err != nil {
			return fmt.Errorf("issuer %q: %w", k.Format, err)
		}
		p, err := host.Launch(ctx, spec)
		if err != nil {
			return fmt.Errorf("issuer %q: %w", k.Format, err)
		}
		d.issuers[k.Format] = p
		d.atStop(p.Close)
		if d.readers[k.Format], err = d.reader(ctx, k.Format, p); err != nil {
			return fmt.Errorf("issuer %q: %w", k.Format, err)
		}
	}
	return nil
}

// reader is who reads a format back: the daemon itself, or a second process.
func (d *Daemon) reader(ctx context.Context, format string, p *host.Process) (server.Reader, error) {
	if s, ok := stocks[format]; ok {
		return server.BuiltIn{Inspector: s.inspector()}, nil
	}
	return d.foreignReader(ctx, format, p)
}

// issuerSpec is how the issuer of a format is run: from our own binary, or a
// plug-in's.
func (d *Daemon) issuerSpec(format string) (host.Spec, error) {
	s := host.Spec{
		Name: format, Self: d.self, Args: []string{"issuer", format},
		Deadline: d.cfg.Issuers.Deadline.Or(time.Second), TempDir: d.sockDir, Log: d.log, Now: now,
		Children: &d.children, Launcher: d.launcher,
	}
	if p, ok := d.cfg.PluginOf(format); ok {
		s.Name, s.Format = p.Name, format
		run(&s, p.Program())
	}
	var err error
	s.Confine, err = d.issuerConfinement(s.Name, format)
	return s, err
}

// openSelf opens what processes of ours run.
func (d *Daemon) openSelf(context.Context) (err error) {
	// Opened once and executed by descriptor: there is no path to swap.
	if d.self, err = os.Open("/proc/self/exe"); err != nil {
		return fmt.Errorf("the daemon's own binary: %w", err)
	}
	d.atStop(d.self.Close)
	if d.sockDir, err = d.issuerDir(); err != nil {
		return err
	}
	if err := d.openLauncher(); err != nil {
		return err
	}
	return d.openCgroup()
}

// issuerDir is where issuer processes have their sockets, the daemon's alone.
// What a daemon that was killed has left in it goes. Where its path would be
// too long for a socket with go-plugin's names, the host's own choice has to do.
func (d *Daemon) issuerDir() (string, error) {
	dir := filepath.Join(d.cfg.RuntimeDir, "issuers")
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("issuers' sockets: %w", err)
	}
	if len(dir) > host.MaxTempDir {
		return "", nil
	}
	mode := os.FileMode(0o700)
	if d.cfg.Issuers.UIDs != "" {
		mode = 0o711 // each has a directory of its own in it, which the others can't enter
	}
	return dir, prepareDir(dir, mode)
}

// formats is each format with its process and its reader.
func (d *Daemon) formats() map[string]server.Format {
	all := map[string]server.Format{}
	for name, p := range d.issuers {
		all[name] = server.Format{Issuer: p, Reader: d.readers[name]}
	}
	return all
}

// openParts starts issuers and opens back-ends at the same time: both wait
// for something outside.
func (d *Daemon) openParts(ctx context.Context) error {
	var wg sync.WaitGroup
	var issuers error
	wg.Go(func() { issuers = d.launchIssuers(ctx) })
	err := d.openBackends(ctx)
	wg.Wait()
	if err != nil {
		return err
	}
	return issuers
}
