package policy

import (
	"strings"
	"testing"

	"github.com/signetd/signet/daemon/peer"
)

const permitAll = "permit(principal, action, resource);\n"

func withPolicy(text string) func(*Profile) {
	return func(p *Profile) { p.Conditions = []Condition{{File: "/etc/signet/shop.cedar", Text: text}} }
}

func TestConditionsMustPermit(t *testing.T) {
	for _, c := range []struct {
		text string
		says string // "" is allowed
	}{
		{permitAll, ""},
		{`permit(principal, action == Action::"issue", resource == Profile::"pay");`, ""},
		{`permit(principal, action == Action::"sign", resource);`, "no condition of profile"},
		{`permit(principal, action, resource == Profile::"other");`, "no condition of profile"},
		{`permit(principal == Caller::"uid:4242", action, resource);`, "no condition of profile"},
		{`permit(principal, action, resource) when { context.hour == 12 && context.weekday == "Wednesday" };`, ""},
		{`permit(principal, action, resource) when { context.hour < 12 };`, "no condition of profile"},
		{`permit(principal, action, resource) when { context.ttl <= 300 };`, ""},
		{`permit(principal, action, resource) when { context.ttl < 300 };`, "no condition"},
		{`permit(principal, action, resource) when { context.subject like "svc-*" };`, ""},
		{`permit(principal, action, resource) when { context.audience.contains("https://pay.example") };`, ""},
		{`permit(principal, action, resource) when { context.scope.containsAny(["refund"]) };`, "no condition"},
		{`permit(principal, action, resource) when { context.claims.order == 17 };`, ""},
		{`permit(principal, action, resource) when { context.claims.amr.contains("pwd") };`, ""},
		{`permit(principal, action, resource) when { context.claims.env == "prod" };`, ""},
		{`permit(principal, action, resource) when { context.holder == "" };`, ""},
		{`permit(principal, action, resource) when { principal has uid && !(principal has unit) };`, ""},
		{permitAll + `forbid(principal, action, resource) when { context.claims.order > 10 };`, "forbids the request: shop.cedar:2"},
		{permitAll + `forbid(principal, action, resource) when { context.claims.order > 100 };`, ""},
		// A forbid that can't be evaluated would be skipped by Cedar itself.
		{permitAll + `forbid(principal, action, resource) when { context.claims.nope == 1 };`, "could not be evaluated: shop.cedar:2"},
		{permitAll + `forbid(principal, action, resource) when { context.ttl == principal.unit };`, "could not be evaluated"},
		{permitAll + `permit(principal, action, resource) when { context.hour > "a" };`, "could not be evaluated"},
	} {
		g, r := gate(t, withPolicy(c.text)), request(t)
		a, err := g.Approve(t.Context(), r)
		e := g.Explain(t.Context(), r)
		if c.says == "" {
			if err != nil || !e.Allowed || a.Rule() != "pay.callers[1] shop.cedar:1" || e.Rule != a.Rule() {
				t.Errorf("%s: got %v, explained %+v; want allowed", c.text, err, e)
			}
			continue
		}
		d := denied(t, a, err)
		if d.Rule != RuleConditions || !strings.Contains(d.Reason, c.says) || e.Allowed || e.Reason != d.Reason {
			t.Errorf("%s: got %v, explained %+v; want %q", c.text, d, e, c.says)
		}
		if strings.Contains(d.Error(), "/etc") {
			t.Errorf("%s: the denial tells a path: %v", c.text, d)
		}
		leftOut(t, g, RuleConditions, r, "")
	}
}

// A claim that Cedar has no type for must not slip past what forbids it. The
// strict decoder takes none today, so this looks at the check alone.
func TestAClaimThatCedarCannotReadDenies(t *testing.T) {
	g := gate(t, withPolicy(permitAll+`forbid(principal, action, resource) when { context.claims has order };`))
	for _, claims := range []string{`{"order":null}`, `{"order":[1,null]}`, `{"order":{"a":[null]}}`, `{"order":1.5}`, `{"order":1e400}`, `nonsense`} {
		j := g.judge(request(t))
		j.merged = []byte(claims)
		if d := j.judgeConditions(); d == nil || !strings.Contains(d.Reason, "null or a fraction") {
			t.Errorf("%s: got %v", claims, d)
		}
	}
}

func TestConditionsOfTheSignLane(t *testing.T) {
	sign := gate(t, withPolicy(`permit(principal, action == Action::"sign", resource) when { context.ttl == 300 && context.claims.order == 17 };`))
	if _, err := sign.ApproveWritten(t.Context(), self(t), "pay", written()); err != nil {
		t.Error(err)
	}
	issue := gate(t, withPolicy(`permit(principal, action == Action::"issue", resource);`))
	a, err := issue.ApproveWritten(t.Context(), self(t), "pay", written())
	if d := denied(t, a, err); d.Rule != RuleConditions {
		t.Errorf("got %v; want rule conditions", d)
	}
	if _, err := issue.Without(RuleConditions).ApproveWritten(t.Context(), self(t), "pay", written()); err != nil {
		t.Errorf("without the check: %v; want the fault to show", err)
	}
}

func TestConditionsSeeTheCaller(t *testing.T) {
	g := gate(t, withPolicy(`permit(principal, action, resource) when { principal.unit == "till.service" && principal.exe == "/bin/till" && principal.gid == 9 };`))
	r := request(t)
	r.Caller = peer.Hypothetical(*myUID(), 9, "till.service", "/bin/till")
	if e := g.Explain(t.Context(), r); !e.Allowed {
		t.Errorf("got %+v; want allowed", e)
	}
	r.Caller = peer.Hypothetical(*myUID(), 9, "", "/bin/till")
	e := g.Explain(t.Context(), r)
	if last := e.Steps[len(e.Steps)-1]; e.Allowed || !strings.Contains(last.Detail, "unit") {
		t.Errorf("got %+v; want the missing unit named", last)
	}
}

func TestAllConditionsOfAProfileCount(t *testing.T) {
	g := gate(t, func(p *Profile) {
		p.Conditions = []Condition{{"a.cedar", permitAll}, {"a.cedar", "forbid(principal, action, resource);"}}
	})
	a, err := g.Approve(t.Context(), request(t))
	if d := denied(t, a, err); d.Rule != RuleConditions {
		t.Errorf("got %v; want the second file to forbid", d)
	}
}
