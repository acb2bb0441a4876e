package pkcs11

import (
	"fmt"
	"time"

	"github.com/signetd/signet/signers"
)

// Report says how the token fares. It implements signers.Reporter.
func (b *Backend) Report() signers.Report {
	r := signers.Report{Where: "in-process", State: "ready", Recoveries: map[string]int64{}}
	b.pool.report(&r)
	b.ladder.report(&r, b.cfg.Now())
	b.loginMu.Lock()
	defer b.loginMu.Unlock()
	if b.denied != nil {
		r.State, r.Why = "refused", b.denied.Error()
	}
	return r
}

func (p *pool) report(r *signers.Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Sessions, r.Busy, r.Waiting = p.size, p.size-len(p.idle), len(p.line)+len(p.parked)
	patience := p.backend.cfg.HangAfter
	late := p.backend.admin.late(patience)
	for _, s := range p.all {
		late = max(late, s.late(patience))
	}
	if late > 0 {
		r.State, r.Why = "stuck", fmt.Sprintf("a call into the module has not come back for %v", (late+patience).Round(100*time.Millisecond))
	}
}

func (l *ladder) report(r *signers.Report, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, name := range rungs {
		r.Recoveries[name] = l.steps[i]
	}
	if l.falls > 0 && r.State == "ready" {
		r.State, r.Why = "recovering", fmt.Sprintf("for %v; see the log", now.Sub(l.since).Round(time.Millisecond))
		if l.last != nil {
			r.Why = l.last.Error()
		}
	}
}
