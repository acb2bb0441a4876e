package pkcs11

import (
	"fmt"
	"time"

	"github.com/signetd/signet/signers"
)

// slow is how long a call into the module may take before it counts as stuck.
const slow = 10 * time.Second

// Report says how the token fares. It implements signers.Reporter.
func (b *Backend) Report() signers.Report {
	r := signers.Report{Where: "in-process", State: "ready", Recoveries: map[string]int64{}}
	b.pool.report(&r, b.cfg.Now())
	b.ladder.report(&r, b.cfg.Now())
	b.loginMu.Lock()
	defer b.loginMu.Unlock()
	if b.denied != nil {
		r.State, r.Why = "refused", b.denied.Error()
	}
	return r
}

func (p *pool) report(r *signers.Report, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Sessions, r.Busy, r.Waiting = p.size, p.size-len(p.idle), len(p.line)+len(p.parked)
	if at := p.oldest(); !at.IsZero() && now.Sub(at) > slow {
		r.State, r.Why = "stuck", fmt.Sprintf("a call into the module has not come back for %v", now.Sub(at).Round(time.Second))
	}
}

// oldest is when the call that has been under way the longest began.
func (p *pool) oldest() time.Time {
	var oldest int64
	for _, s := range p.all {
		if at := s.since.Load(); at != 0 && (oldest == 0 || at < oldest) {
			oldest = at
		}
	}
	if oldest == 0 {
		return time.Time{}
	}
	return time.Unix(0, oldest)
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
