package policy

import (
	"strings"
	"testing"

	"github.com/signetd/signet/daemon/peer"
)

func TestExplainAgreesWithApprove(t *testing.T) {
	g := gate(t)
	for _, c := range denials {
		r := request(t)
		c.edit(&r)
		if r.Caller.Hypothetical() {
			continue // the one difference there is
		}
		_, err := g.Approve(t.Context(), r)
		d := denied(t, nil, err)
		e := g.Explain(t.Context(), r)
		if e.Allowed || e.Rule != d.Rule || e.Reason != d.Reason {
			t.Errorf("%s: got %+v, want %s: %s", c.name, e, d.Rule, d.Reason)
		}
		if !failed(e)[d.Rule] {
			t.Errorf("%s: no step says that %s failed: %+v", c.name, d.Rule, e.Steps)
		}
	}
}

func failed(e Explanation) map[string]bool {
	all := map[string]bool{}
	for _, s := range e.Steps {
		if !s.Held {
			all[s.Rule] = true
		}
	}
	return all
}

func TestExplainShowsEveryStep(t *testing.T) {
	e := gate(t).Explain(t.Context(), request(t))
	if !e.Allowed || e.Rule != "pay.callers[1]" || e.Reason != "" {
		t.Errorf("got %+v, want allowed by pay.callers[1]", e)
	}
	if len(e.Steps) != len(issueChecks()) {
		t.Errorf("got %d steps, want %d", len(e.Steps), len(issueChecks()))
	}
	for _, s := range e.Steps {
		if !s.Held || s.Detail == "" {
			t.Errorf("step %+v; want it held, with what was compared", s)
		}
	}
}

func TestExplainGoesOnAfterTheFirstRefusal(t *testing.T) {
	r := request(t)
	r.Audience, r.TTL, r.Claims = nil, 0, []byte(`{"role":1}`)
	e := gate(t).Explain(t.Context(), r)
	if got := failed(e); len(got) != 3 || !got[RuleAudience] || !got[RuleLifetime] || !got[RuleClaims] || e.Rule != RuleAudience {
		t.Errorf("got %v, decided by %s; want audience, lifetime and claims, by audience", got, e.Rule)
	}
}

func TestExplainOfNoProfileLooksAtNothingElse(t *testing.T) {
	e := gate(t).Explain(t.Context(), Request{Profile: "nope"})
	if e.Allowed || e.Rule != RuleProfile || len(e.Steps) != len(issueChecks()) {
		t.Errorf("got %+v", e)
	}
	for _, s := range e.Steps[1:] {
		if s.Held || !strings.Contains(s.Detail, "not looked at") {
			t.Errorf("step %+v; want not looked at", s)
		}
	}
}

func TestOnlyExplainTakesHypotheticalCallers(t *testing.T) {
	g, r := gate(t), request(t)
	r.Caller = peer.Hypothetical(*myUID(), 1, "", "")
	if e := g.Explain(t.Context(), r); !e.Allowed {
		t.Errorf("Explain: got %+v, want allowed", e)
	}
	a, err := g.Approve(t.Context(), r)
	if d := denied(t, a, err); d.Rule != RuleCaller {
		t.Errorf("Approve: got %v, want rule caller", d)
	}
}

func TestCallerRules(t *testing.T) {
	unit := func(u, exe string) peer.Caller { return peer.Hypothetical(1000, 100, u, exe) }
	for _, c := range []struct {
		rule CallerRule
		who  peer.Caller
		want string // what differs
	}{
		{CallerRule{UID: ptr(1000)}, unit("", ""), ""},
		{CallerRule{UID: ptr(1001)}, unit("", ""), "another uid"},
		{CallerRule{UID: ptr(0)}, peer.Caller{}, "nobody is there"},
		{CallerRule{UID: ptr(peer.NoID)}, peer.Caller{}, "nobody is there"},
		{CallerRule{GID: ptr(100)}, unit("", ""), ""},
		{CallerRule{GID: ptr(101)}, unit("", ""), "not in the group"},
		{CallerRule{UID: ptr(1000), GID: ptr(101)}, unit("", ""), "not in the group"},
		{CallerRule{Unit: "a.service"}, unit("a.service", ""), ""},
		{CallerRule{Unit: "a.service"}, unit("b.service", ""), "another unit"},
		{CallerRule{Unit: "a.service"}, unit("user@1000.service/a.service", ""), "another unit"},
		{CallerRule{Unit: "a.service"}, unit("", ""), "unit unknown"},
		{CallerRule{Cgroup: "/a.slice"}, unit("a.service", ""), "cgroup unknown"},
		{CallerRule{UID: ptr(1000), Exe: "/bin/a"}, unit("", "/bin/a"), ""},
		{CallerRule{UID: ptr(1000), Exe: "/bin/a"}, unit("", "/bin/b"), "another exe"},
		{CallerRule{UID: ptr(1000), Exe: "/bin/a"}, unit("", ""), "exe unknown"},
		{CallerRule{UID: ptr(1001), Exe: "/bin/a"}, unit("", "/bin/a"), "another uid"},
		{CallerRule{Exe: "/bin/a"}, unit("", "/bin/a"), "names no identity"},
		{CallerRule{}, unit("a.service", "/bin/a"), "names no identity"},
	} {
		if got := c.rule.mismatch(c.who); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v against %v: got %q, want %q", c.rule, c.who, got, c.want)
		}
		if c.rule.Matches(c.who) {
			t.Errorf("%v.Matches(%v): true of a caller that is not real", c.rule, c.who)
		}
	}
	if !(CallerRule{UID: myUID()}).Matches(self(t)) || (CallerRule{}).Matches(self(t)) {
		t.Error("Matches: wrong about ourselves")
	}
}

func TestACgroupRuleHoldsBelow(t *testing.T) {
	for have, want := range map[string]bool{"/ci.slice": true, "/ci.slice/a": true, "/ci.slice2": false, "/": false, "/a/ci.slice": false} {
		if got := within(have, "/ci.slice"); got != want {
			t.Errorf("within(%q, /ci.slice): got %v", have, got)
		}
	}
}

func TestExplainShowsEachCallerRule(t *testing.T) {
	r := request(t)
	r.Caller = peer.Hypothetical(5, 5, "x.service", "")
	e := gate(t, func(p *Profile) { p.Callers = append(p.Callers, CallerRule{Unit: "till.service"}) }).Explain(t.Context(), r)
	for _, want := range []string{"callers[0] uid=4242: another uid", `callers[2] unit="till.service": another unit`} {
		if !strings.Contains(e.Steps[1].Detail, want) {
			t.Errorf("got %q; want %q in it", e.Steps[1].Detail, want)
		}
	}
	if strings.Contains(e.Reason, "4242") {
		t.Errorf("the reason, which callers see too, tells a rule: %q", e.Reason)
	}
}
