package daemon

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/metrics"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/cost"
	"github.com/signetd/signet/signers/guard"
)

// newAdmin is the operators' service, from the configuration.
func (d *Daemon) newAdmin() *server.Admin {
	a := &server.Admin{
		Pipeline: d.pipeline, Keys: specs(d.cfg), Keep: d.longest, Parts: d.parts, Backend: d.backendState, Plugins: d.plugins,
		About: server.About{Version: d.opts.Version, Started: d.started, PricesAsOf: cost.AsOf, Profiles: profileNames(d.cfg)},
	}
	for _, r := range d.cfg.Admins {
		rule := server.AdminRule{Who: callerRule(r.Caller)}
		for _, right := range r.Rights {
			rule.Rights = append(rule.Rights, server.Right(right))
		}
		a.Rights = append(a.Rights, rule)
	}
	return a
}

// specs is what the configuration says each key is, for life.
func specs(cfg *config.Config) map[string]keyring.Spec {
	all := map[string]keyring.Spec{}
	for _, k := range cfg.Keys {
		all[k.Name] = keyring.Spec{Backend: k.Backend, Algorithm: signers.Algorithm(k.Algorithm), Format: k.Format, Blind: k.AllowBlindSigning}
	}
	return all
}

// longest is the longest lifetime that any profile gives a key's tokens: as
// long as that, its public half is needed after its last signature.
func (d *Daemon) longest(key string) time.Duration {
	// A caller that writes its own token may date it that much ahead.
	return d.lifetimes[key] + skew
}

// lifetimes is the longest lifetime in any profile, by key.
func lifetimes(all []config.Profile) map[string]time.Duration {
	longest := map[string]time.Duration{}
	for _, p := range all {
		longest[p.Key] = max(longest[p.Key], p.MaxTTL.D())
	}
	return longest
}

// parts says how each back-end, issuer process, key and the ledger are.
func (d *Daemon) parts(context.Context) []*signetv1.Part {
	all := []*signetv1.Part{part("ledger", d.cfg.LedgerDir(), d.ledger.Healthy())}
	for name, p := range d.issuers {
		all = append(all, part("issuer", name, p.Healthy()))
		if i := inspectorOf(d.readers[name]); i != nil {
			all = append(all, part("inspector", name, i.Process().Healthy()))
		}
	}
	for name, r := range d.reports() {
		all = append(all, backendPart(name, r))
	}
	for _, p := range d.ring.Problems() {
		all = append(all, &signetv1.Part{Kind: "key", Name: p.Name, Detail: p.Reason})
	}
	slices.SortFunc(all, func(a, b *signetv1.Part) int {
		return strings.Compare(a.GetKind()+a.GetName(), b.GetKind()+b.GetName())
	})
	return all
}

func part(kind, name string, err error) *signetv1.Part {
	p := &signetv1.Part{Kind: kind, Name: name, Healthy: err == nil}
	if err != nil {
		p.Detail, _, _ = strings.Cut(err.Error(), "\n")
	}
	return p
}

// reports says how each back-end fares.
func (d *Daemon) reports() map[string]signers.Report {
	all := map[string]signers.Report{}
	for name, g := range d.guards {
		all[name] = g.Report()
	}
	return all
}

// backendState is the state of one back-end, as `signet key list` shows it.
func (d *Daemon) backendState(name string) string {
	if g, ok := d.guards[name]; ok {
		return g.Report().State
	}
	return "not configured"
}

func backendPart(name string, r signers.Report) *signetv1.Part {
	p := &signetv1.Part{Kind: "backend", Name: name, Healthy: r.State == "ready" && r.CheckFailed == "", Detail: r.State}
	if r.Where != "" {
		p.Detail += ", " + r.Where
	}
	if why := cmp.Or(r.Why, r.CheckFailed); why != "" {
		why, _, _ = strings.Cut(why, "\n")
		p.Detail += ": " + why
	}
	return p
}

// newMetrics makes the metrics for the profiles there are.
func newMetrics(cfg *config.Config, version string) *metrics.Metrics {
	return metrics.New(version, profileNames(cfg)...)
}

func profileNames(cfg *config.Config) (names []string) {
	for _, p := range cfg.Profiles {
		names = append(names, p.Name)
	}
	return names
}

// measureParts shows the parts' health and the versions' states at each scrape.
func (d *Daemon) measureParts(ctx context.Context) {
	d.metrics.Watch(func() []metrics.Part {
		var all []metrics.Part
		for _, p := range d.parts(ctx) { // sorted: two versions of a key are one part
			if n := len(all); n > 0 && all[n-1].Kind == p.GetKind() && all[n-1].Name == p.GetName() {
				all[n-1].Healthy = all[n-1].Healthy && p.GetHealthy()
				continue
			}
			all = append(all, metrics.Part{Kind: p.GetKind(), Name: p.GetName(), Healthy: p.GetHealthy()})
		}
		return all
	}, func() []metrics.Version {
		var all []metrics.Version
		for _, e := range d.ring.List() {
			for _, v := range e.Versions {
				all = append(all, metrics.Version{Key: e.Name, Version: strconv.Itoa(v.Number), State: string(v.State)})
			}
		}
		return all
	})
}

// measureBackends shows how the back-ends fare at each scrape.
func (d *Daemon) measureBackends() {
	d.metrics.WatchBackends(func() []metrics.Backend {
		var all []metrics.Backend
		for name, g := range d.guards {
			all = append(all, measured(name, g))
		}
		return all
	})
}

func measured(name string, g *guard.Backend) metrics.Backend {
	r, u := g.Report(), g.Usage()
	b := metrics.Backend{
		Name: name, State: r.State, Sessions: r.Sessions, Busy: r.Busy, Waiting: r.Waiting, Refused: r.Refused,
		Recoveries: r.Recoveries, Checked: r.Checked, CheckFailed: r.CheckFailed != "",
		Metered: u.Requests != nil, Retries: u.Retries, USD: u.USD,
	}
	b.CreationsLeft, b.Budgeted = g.CreationsLeft()
	for kind, n := range u.Requests {
		b.Requests = append(b.Requests, metrics.Request{Operation: kind.Operation, Outcome: string(kind.Outcome), Count: n})
		if kind.Outcome == signers.Throttled {
			b.Throttled += n
		}
	}
	return b
}
