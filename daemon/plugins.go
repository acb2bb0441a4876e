package daemon

import (
	"slices"
	"strings"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/plugins/host/sandbox"
)

// plugins says which processes work for the daemon, and what contains each: as
// the kernel says of the process that runs, where it says it.
func (d *Daemon) plugins() []*signetv1.Plugin {
	var all []*signetv1.Plugin
	for format, p := range d.issuers {
		all = append(all, plugin("issuer", format, p.Status()))
		if i := inspectorOf(d.readers[format]); i != nil {
			all = append(all, plugin("inspector", format, i.Process().Status()))
		}
	}
	for name, l := range d.modules {
		r := d.guards[name].Report()
		all = append(all, plugin("backend", "", host.Status{
			Name: name, PID: l.PID(), State: r.State, Restarts: int(r.Recoveries["process"]), Contains: sandbox.Observe(l.PID(), l.Measures()),
		}))
	}
	slices.SortFunc(all, func(a, b *signetv1.Plugin) int {
		return strings.Compare(a.GetKind()+a.GetName(), b.GetKind()+b.GetName())
	})
	return all
}

func plugin(kind, format string, s host.Status) *signetv1.Plugin {
	p := &signetv1.Plugin{
		Kind: kind, Name: s.Name, Format: format, Pid: int32(s.PID), State: s.State, Restarts: int64(s.Restarts), Digest: s.Digest, //nolint:gosec // pids fit
	}
	for _, m := range s.Contains {
		p.Containments = append(p.Containments, &signetv1.Containment{Name: m.Name, InForce: m.InForce, Detail: m.Detail})
	}
	return p
}
