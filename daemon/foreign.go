package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host"
)

// foreignReader starts the second process for a format that the daemon can't
// read: of the same pinned program, or of another. Without one, every key of
// the format must have been made to be signed with unread.
func (d *Daemon) foreignReader(ctx context.Context, format string, p *host.Process) (server.Reader, error) {
	spec, err := d.inspectorSpec(format)
	if err != nil {
		return nil, err
	}
	plugin, _ := d.cfg.PluginOf(format)
	about, err := p.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if plugin.Inspector == nil && !about.Inspects {
		return d.blindReader(format)
	}
	i, err := host.LaunchInspector(ctx, spec)
	if err != nil {
		return nil, err
	}
	d.atStop(i.Close)
	return server.Foreign{Inspector: i, Resembles: resembles}, nil
}

// inspectorSpec is how the second process is run: of the plug-in's own program,
// or the other one that the configuration names.
func (d *Daemon) inspectorSpec(format string) (host.Spec, error) {
	spec, err := d.issuerSpec(format)
	if err != nil {
		return spec, err
	}
	spec.Name += "-inspector"
	if p, _ := d.cfg.PluginOf(format); p.Inspector != nil {
		run(&spec, *p.Inspector)
	}
	spec.Confine, err = d.issuerConfinement(spec.Name, format)
	return spec, err
}

var errUnread = errors.New("nothing reads its drafts back")

// blindReader is for a format that nothing reads.
func (d *Daemon) blindReader(format string) (server.Reader, error) {
	for _, k := range d.cfg.Keys {
		if k.Format == format && !k.AllowBlindSigning {
			return nil, fmt.Errorf("key %q: %w\nhint: have the plug-in serve Inspect, or name another program under inspector; if its author is to be trusted with the key, make one with allow_blind_signing: true", k.Name, errUnread)
		}
		if k.Format == format {
			d.log.Warn("a key signs what nothing has read", slog.String("key", k.Name), slog.String("issuer", format))
		}
	}
	return server.Foreign{Blind: true, Resembles: resembles}, nil
}

// run has a spec run a pinned program.
func run(s *host.Spec, p config.Program) {
	s.Path, s.SHA256, s.Args, s.Runtime, s.PlainGRPC = p.Path, p.SHA256, p.Args, p.Runtime, p.PlainGRPC
}

// inspectorOf is the process behind a reader, nil if there is none.
func inspectorOf(r server.Reader) *host.Inspector {
	f, _ := r.(server.Foreign)
	i, _ := f.Inspector.(*host.Inspector)
	return i
}

// A Plugin is a pinned issuer that was started without a daemon, for a suite.
type Plugin struct{ d *Daemon }

// OpenPlugin makes ready to start a plug-in, contained as the daemon would
// contain it. Its format is what the plug-in says it is. Close it.
func OpenPlugin(p config.Plugin, limits config.Issuers, log *slog.Logger) (*Plugin, error) {
	p.Format = host.AnyFormat
	return openPlugin(&config.Config{Plugins: []config.Plugin{p}, Issuers: limits}, log)
}

// OpenStock is OpenPlugin for the issuer of a format that is compiled in.
func OpenStock(limits config.Issuers, log *slog.Logger) (*Plugin, error) {
	return openPlugin(&config.Config{Issuers: limits}, log)
}

func openPlugin(cfg *config.Config, log *slog.Logger) (*Plugin, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("own binary: %w", err)
	}
	return &Plugin{&Daemon{cfg: cfg, log: log, self: self}}, nil
}

// Close gives back what OpenPlugin took; processes are closed one by one.
func (p *Plugin) Close() error { return p.d.self.Close() }

// Launch starts a process that drafts; format is host.AnyFormat for a plug-in.
func (p *Plugin) Launch(ctx context.Context, format string) (*host.Process, error) {
	spec, err := p.d.issuerSpec(format)
	if err != nil {
		return nil, err
	}
	return host.Launch(ctx, spec)
}

// LaunchInspector starts a process that reads back: the plug-in's other program,
// or one more of its own.
func (p *Plugin) LaunchInspector(ctx context.Context) (*host.Inspector, error) {
	spec, err := p.d.inspectorSpec(host.AnyFormat)
	if err != nil {
		return nil, err
	}
	return host.LaunchInspector(ctx, spec)
}

// StockInspector reads a compiled-in format back as a second process reads a
// foreign one, and reports whether there is such a format.
func StockInspector(format string) (plugins.ForeignInspector, bool) {
	s, ok := stocks[format]
	if !ok {
		return nil, false
	}
	return stockInspector{s.inspector()}, true
}

// StockKid is how a compiled-in format names a public key, "" where it takes any.
func StockKid(format string, pub crypto.PublicKey) (string, error) { return kidOf(format, pub) }

type stockInspector struct{ in plugins.Inspector }

// Inspect implements plugins.ForeignInspector.
func (s stockInspector) Inspect(ctx context.Context, d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) (plugins.Grant, error) {
	g, err := s.in.Inspect(d.ToBeSigned, k)
	if err != nil {
		return plugins.Grant{}, err
	}
	b := server.BuiltIn{Inspector: s.in}
	if err := b.Draft(ctx, d, g, k); err != nil {
		return plugins.Grant{}, fmt.Errorf("%w: %w", err, plugins.ErrRefused)
	}
	if t == nil {
		return g, nil
	}
	if err := b.Token(ctx, t, server.Joined{Draft: d, Grant: g, Key: k}); err != nil {
		return plugins.Grant{}, fmt.Errorf("%w: %w", err, plugins.ErrRefused)
	}
	return g, nil
}
