package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/plugins/host"
)

// foreignReader starts the second process for a format that the daemon can't
// read: of the same pinned program, or of another. Without one, every key of
// the format must have been made to be signed with unread.
func (d *Daemon) foreignReader(ctx context.Context, format string, p *host.Process) (server.Reader, error) {
	spec, err := d.issuerSpec(format)
	if err != nil {
		return nil, err
	}
	spec.Name += "-inspector"
	if spec.Confine, err = d.issuerConfinement(spec.Name, format); err != nil {
		return nil, err
	}
	plugin, _ := d.cfg.PluginOf(format)
	about, err := p.Describe(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case plugin.Inspector != nil:
		run(&spec, *plugin.Inspector)
	case !about.Inspects:
		return d.blindReader(format)
	}
	i, err := host.LaunchInspector(ctx, spec)
	if err != nil {
		return nil, err
	}
	d.atStop(i.Close)
	return server.Foreign{Inspector: i, Resembles: resembles}, nil
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
