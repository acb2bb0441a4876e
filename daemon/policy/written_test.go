package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins"
)

func TestApproveWrittenChangesNothing(t *testing.T) {
	w := written()
	w.Claims = []byte(`{"env":"prod", "tier":2}`) // not the form that we would write
	w.NotBefore = w.IssuedAt.Add(-3 * time.Second)
	a, err := gate(t).ApproveWritten(t.Context(), self(t), "pay", w)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Use()
	if err != nil {
		t.Fatal(err)
	}
	want := w
	want.Profile = "pay"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	if a.Rule() != "pay.callers[1]" {
		t.Errorf("Rule: got %q", a.Rule())
	}
}

// writtenDenials has a row, or more, for each rule of the Sign lane; see denials.
var writtenDenials = []struct {
	name, rule, says string
	edit             func(*plugins.Grant)
	without          string
}{
	{"issuer of another", RuleIssuer, `"https://evil.example"`, func(g *plugins.Grant) { g.Issuer = "https://evil.example" }, ""},
	{"no issuer", RuleIssuer, `issuer ""`, func(g *plugins.Grant) { g.Issuer = "" }, ""},
	{"type of another", RuleType, `type "JWT"`, func(g *plugins.Grant) { g.Type = "JWT" }, ""},
	{"type in another case", RuleType, `type "AT+JWT"`, func(g *plugins.Grant) { g.Type = "AT+JWT" }, ""},
	{"no subject", RuleSubject, "missing", func(g *plugins.Grant) { g.Subject = "" }, ""},
	{"subject not listed", RuleSubject, "not one that", func(g *plugins.Grant) { g.Subject = "root" }, ""},
	{"no audience", RuleAudience, "missing", func(g *plugins.Grant) { g.Audience = nil }, ""},
	{"audience not listed", RuleAudience, "not allowed", func(g *plugins.Grant) { g.Audience = []string{"https://evil.example"} }, ""},
	{"scope not listed", RuleScope, "not allowed", func(g *plugins.Grant) { g.Scope = []string{"admin"} }, ""},
	{"no id", RuleTokenID, "missing", func(g *plugins.Grant) { g.TokenID = "" }, ""},
	{"id with a newline", RuleTokenID, "control characters", func(g *plugins.Grant) { g.TokenID = "a\nb" }, ""},
	{"id too long", RuleTokenID, "over 255", func(g *plugins.Grant) { g.TokenID = strings.Repeat("x", 256) }, ""},
	{"issued in the past", RuleIssuedAt, "6s off", func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(-6 * time.Second) }, ""},
	{"issued in the future", RuleIssuedAt, "6s off", func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(6 * time.Second); g.NotBefore = g.IssuedAt }, ""},
	{"never issued", RuleIssuedAt, "missing", func(g *plugins.Grant) { g.IssuedAt = time.Time{} }, RuleLifetime},
	{"issued between seconds", RuleIssuedAt, "whole seconds", func(g *plugins.Grant) {
		g.IssuedAt = g.IssuedAt.Add(time.Millisecond)
		g.Expires = g.Expires.Add(time.Millisecond)
	}, RuleExpires},
	{"valid before issue", RuleNotBefore, "before its issue", func(g *plugins.Grant) { g.NotBefore = g.IssuedAt.Add(-6 * time.Second) }, ""},
	{"valid only at its end", RuleNotBefore, "would expire", func(g *plugins.Grant) { g.NotBefore = g.Expires }, ""},
	{"valid between seconds", RuleNotBefore, "whole seconds", func(g *plugins.Grant) { g.NotBefore = g.NotBefore.Add(time.Nanosecond) }, ""},
	{"no end", RuleExpires, "missing", func(g *plugins.Grant) { g.Expires = time.Time{} }, RuleNotBefore},
	{"expired", RuleExpires, "already", func(g *plugins.Grant) {
		g.IssuedAt, g.Expires, g.NotBefore = g.IssuedAt.Add(-5*time.Second), g.IssuedAt, time.Time{}
	}, ""},
	{"ending between seconds", RuleExpires, "whole seconds", func(g *plugins.Grant) { g.Expires = g.Expires.Add(time.Millisecond) }, RuleLifetime},
	{"ending before issue", RuleLifetime, "over zero", func(g *plugins.Grant) {
		g.IssuedAt, g.Expires, g.NotBefore = g.IssuedAt.Add(5*time.Second), g.IssuedAt.Add(time.Second), time.Time{}
	}, ""},
	{"too long a life", RuleLifetime, "ceiling 15m0s", func(g *plugins.Grant) { g.Expires = g.IssuedAt.Add(15*time.Minute + time.Second) }, ""},
	{"a life of ages", RuleExpires, "ceiling", func(g *plugins.Grant) { g.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, RuleLifetime},
	{"serial", RuleSerial, "serial", func(g *plugins.Grant) { g.Serial = 1 }, ""},
	{"principals", RulePrincipals, "principals", func(g *plugins.Grant) { g.Principals = []string{"root"} }, ""},
	{"options", RuleOptions, "options", func(g *plugins.Grant) { g.Options = map[string]string{"force-command": "sh"} }, ""},
	{"extensions", RuleExtensions, "extensions", func(g *plugins.Grant) { g.Extensions = map[string]string{"permit-pty": ""} }, ""},
	{"assertion", RuleAssertion, "assertion", func(g *plugins.Grant) { g.Assertion = []byte("x") }, ""},
	{"claim not listed", RuleClaims, `"role" is not allowed`, func(g *plugins.Grant) { g.Claims = []byte(`{"env":"prod","role":1,"tier":2}`) }, ""},
	{"fixed claim missing", RuleClaims, `"tier"`, func(g *plugins.Grant) { g.Claims = []byte(`{"env":"prod"}`) }, ""},
	{"all claims missing", RuleClaims, "is missing", func(g *plugins.Grant) { g.Claims = nil }, ""},
	{"fixed claim, other value", RuleClaims, `"tier" is fixed`, func(g *plugins.Grant) { g.Claims = []byte(`{"env":"prod","tier":3}`) }, ""},
	{"reserved claim", RuleClaims, `"cnf" is reserved`, func(g *plugins.Grant) { g.Claims = []byte(`{"cnf":{},"env":"prod","tier":2}`) }, ""},
	{"holder of unknown kind", RuleHolder, "not known", func(g *plugins.Grant) { g.Holder = plugins.Holder{Kind: "sshkey", Value: "x"} }, ""},
}

func TestEachRuleDeniesWhatIsWritten(t *testing.T) {
	g, me := gate(t), self(t)
	for _, c := range writtenDenials {
		t.Run(c.name, func(t *testing.T) {
			w := written()
			c.edit(&w)
			a, err := g.ApproveWritten(t.Context(), me, "pay", w)
			d := denied(t, a, err)
			if d.Rule != c.rule || !strings.Contains(d.Error(), c.says) {
				t.Errorf("got %v; want rule %s, saying %q", d, c.rule, c.says)
			}
			a, err = g.Without(c.rule).ApproveWritten(t.Context(), me, "pay", w)
			switch {
			case c.without == "" && err != nil:
				t.Errorf("without the check: got %v; want the fault to show", err)
			case c.without != "" && denied(t, a, err).Rule != c.without:
				t.Errorf("without the check: got %v; want rule %q", err, c.without)
			}
		})
	}
}

func TestWrittenNeedsProfileAndCallerToo(t *testing.T) {
	g := gate(t)
	for _, c := range []struct {
		who     peer.Caller
		profile string
		rule    string
	}{
		{self(t), "nope", RuleProfile},
		{self(t), "hidden", RuleCaller},
		{peer.Caller{}, "pay", RuleCaller},
		{peer.Hypothetical(*myUID(), 0, "", ""), "pay", RuleCaller},
	} {
		a, err := g.ApproveWritten(t.Context(), c.who, c.profile, written())
		if d := denied(t, a, err); d.Rule != c.rule {
			t.Errorf("%v, %s: got %v; want rule %s", c.who, c.profile, d, c.rule)
		}
	}
}

func TestWhatIsWrittenMayLackAStart(t *testing.T) {
	w := written()
	w.NotBefore = time.Time{}
	if _, err := gate(t).ApproveWritten(t.Context(), self(t), "pay", w); err != nil {
		t.Error(err)
	}
}

func TestSkewIsTolerated(t *testing.T) {
	for _, off := range []time.Duration{-5 * time.Second, 5 * time.Second} {
		w := written()
		w.IssuedAt, w.NotBefore = w.IssuedAt.Add(off), w.NotBefore.Add(off)
		w.Expires = w.IssuedAt.Add(15 * time.Minute)
		if _, err := gate(t).ApproveWritten(t.Context(), self(t), "pay", w); err != nil {
			t.Errorf("%v off: %v", off, err)
		}
	}
}

func TestNoWrittenTokenOutlivesTheCeilingFromNow(t *testing.T) {
	// What judgeLifetime allows by itself, judgeExpires must not, if the
	// skew of issue were not looked at.
	w := written()
	w.IssuedAt = w.IssuedAt.Add(6 * time.Second)
	w.NotBefore, w.Expires = time.Time{}, w.IssuedAt.Add(15*time.Minute)
	a, err := gate(t).Without(RuleIssuedAt).ApproveWritten(t.Context(), self(t), "pay", w)
	if d := denied(t, a, err); d.Rule != RuleExpires {
		t.Errorf("got %v; want rule %s", d, RuleExpires)
	}
}
