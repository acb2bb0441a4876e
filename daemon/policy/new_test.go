package policy

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/daemon/peer"
)

func TestNewNamesEachMistake(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, c := range []struct {
		path, says string
		edit       func(*Profile)
	}{
		{"name", "is not a name", func(p *Profile) { p.Name = "" }},
		{"name", "is not a name", func(p *Profile) { p.Name = "Pay" }},
		{"name", "is not a name", func(p *Profile) { p.Name = "-pay" }},
		{"name", "is not a name", func(p *Profile) { p.Name = "pay\n" }},
		{"key", "missing", func(p *Profile) { p.Key = "" }},
		{"format", "missing", func(p *Profile) { p.Format = "" }},
		{"type", "missing", func(p *Profile) { p.Type = "" }},
		{"issuer", "missing", func(p *Profile) { p.Issuer = "" }},
		{"callers", "nobody is allowed", func(p *Profile) { p.Callers = nil }},
		{"callers[0]", "names no uid, gid, unit or cgroup", func(p *Profile) { p.Callers = []CallerRule{{}} }},
		{"callers[0]", "names no uid, gid, unit or cgroup", func(p *Profile) { p.Callers = []CallerRule{{Exe: "/bin/x"}} }},
		{"callers[1]", "nobody's id", func(p *Profile) { p.Callers[1].UID = ptr(peer.NoID) }},
		{"callers[1]", "nobody's id", func(p *Profile) { p.Callers[1].GID = ptr(peer.NoID) }},
		{"callers[1]", "neither a service nor a scope", func(p *Profile) { p.Callers[1].Unit = "build" }},
		{"callers[1]", "not a path below the root", func(p *Profile) { p.Callers[1].Cgroup = "/" }},
		{"callers[1]", "not a path below the root", func(p *Profile) { p.Callers[1].Cgroup = "/a/../b" }},
		{"callers[1]", "not an absolute path", func(p *Profile) { p.Callers[1].Exe = "x" }},
		{"audiences", "the list is empty", func(p *Profile) { p.Audiences = nil }},
		{"audiences[1]", "is empty", func(p *Profile) { p.Audiences[1] = "" }},
		{"audiences[1]", "named twice", func(p *Profile) { p.Audiences[1] = p.Audiences[0] }},
		{"scopes[0]", "characters that do not belong", func(p *Profile) { p.Scopes[0] = "a b" }},
		{"scopes[1]", "named twice", func(p *Profile) { p.Scopes[1] = p.Scopes[0] }},
		{"subjects", "the list is empty", func(p *Profile) { p.Subjects = nil }},
		{"subjects[0]", "not its last character", func(p *Profile) { p.Subjects[0] = "a*b" }},
		{"subjects[0]", "not its last character", func(p *Profile) { p.Subjects[0] = "a**" }},
		{"max_ttl", "over zero", func(p *Profile) { p.MaxTTL = 0 }},
		{"max_ttl", "over zero", func(p *Profile) { p.MaxTTL = -time.Second }},
		{"max_ttl", "over 24h0m0s", func(p *Profile) { p.MaxTTL = 24*time.Hour + time.Second }},
		{"max_ttl", "whole seconds", func(p *Profile) { p.MaxTTL = time.Second + time.Millisecond }},
		{"claims.allowed[0]", `"exp" is reserved`, func(p *Profile) { p.AllowedClaims[0] = "exp" }},
		{"claims.allowed[0]", `"Aud" is reserved`, func(p *Profile) { p.AllowedClaims[0] = "Aud" }},
		{"claims.allowed[0]", "not a claim's name", func(p *Profile) { p.AllowedClaims[0] = "a\"b" }},
		{"claims.allowed[1]", "differ in case only", func(p *Profile) { p.AllowedClaims[1] = "AMR" }},
		{"claims.fixed.iss", "is reserved", func(p *Profile) { p.FixedClaims["iss"] = raw(`"x"`) }},
		{"claims.fixed.ORDER", "differ in case only", func(p *Profile) { p.FixedClaims["ORDER"] = raw(`1`) }},
		{"claims.fixed.env", "not strict JSON", func(p *Profile) { p.FixedClaims["env"] = raw(`{"a":1,"a":2}`) }},
		{"claims.fixed.env", "not strict JSON", func(p *Profile) { p.FixedClaims["env"] = raw(``) }},
		{"claims.fixed.env", "more than one value", func(p *Profile) { p.FixedClaims["env"] = raw(`1,"b":2`) }},
		{"claims.fixed.env", "not strict JSON", func(p *Profile) { p.FixedClaims["env"] = raw(`1}`) }},
		{"claims.required[0]", "is reserved", func(p *Profile) { p.RequiredClaims = []string{"sub"} }},
		{"claims.required[0]", "differ in case only", func(p *Profile) { p.RequiredClaims = []string{"order"} }},
		{"claims.required[0]", "differ in case only", func(p *Profile) { p.RequiredClaims = []string{"env"} }},
		{"principals", `format "jwt" has no principals`, func(p *Profile) { p.Principals = []string{"root"} }},
		{"options", `format "jwt" has no options`, func(p *Profile) { p.RequiredOptions = []string{"source-address"} }},
		{"extensions", `format "jwt" has no extensions`, func(p *Profile) { p.FixedExtensions = map[string]string{"permit-pty": ""} }},
		{"assertion", `format "jwt" has no assertion`, func(p *Profile) { p.AllowAssertion = true }},
		{"assertion", `format "jwt" has no assertion`, func(p *Profile) { p.FixedAssertion = []byte("x") }},
		{"conditions[0]", "hours.cedar:2", func(p *Profile) {
			p.Conditions = []Condition{{"hours.cedar", "permit(principal, action, resource);\nfrobid();"}}
		}},
		{"conditions", "no policy permits", func(p *Profile) { p.Conditions = []Condition{{"f.cedar", "forbid(principal, action, resource);"}} }},
		{"conditions", "no policy permits", func(p *Profile) { p.Conditions = []Condition{{"empty.cedar", ""}} }},
	} {
		p := pay()
		c.edit(&p)
		g, err := New([]Profile{pay(), p}, options())
		var f *FieldError
		if g != nil || !errors.As(err, &f) {
			t.Errorf("%s %q: got %v, %v; want a FieldError", c.path, c.says, g, err)
			continue
		}
		if want := "profiles[1]." + c.path; f.Path != want || !strings.Contains(f.Error(), c.says) {
			t.Errorf("got %v; want %s saying %q", f, want, c.says)
		}
	}
}

func TestNewCollectsAllMistakes(t *testing.T) {
	one, two := pay(), pay()
	one.MaxTTL, one.Audiences = 0, nil
	two.Callers = nil
	_, err := New([]Profile{one, two}, options())
	for _, want := range []string{
		`profiles[0].max_ttl (profile "pay")`, "profiles[0].audiences", "profiles[1].callers", "profiles[1].name (profile \"pay\"): used by two",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %v; want it to name %s", err, want)
		}
	}
}

func TestNewWantsClockRandomnessAndABoundedSkew(t *testing.T) {
	for name, edit := range map[string]func(*Options){
		"no clock":      func(o *Options) { o.Now = nil },
		"no randomness": func(o *Options) { o.Rand = nil },
		"negative skew": func(o *Options) { o.Skew = -1 },
		"endless skew":  func(o *Options) { o.Skew = MaxSkew + 1 },
	} {
		o := options()
		edit(&o)
		if g, err := New([]Profile{pay()}, o); g != nil || err == nil {
			t.Errorf("%s: got %v, %v; want an error", name, g, err)
		}
	}
	o := options()
	o.Skew = 0
	if g, err := New(nil, o); err != nil || g.skew != DefaultSkew {
		t.Errorf("no skew: got %v, want the default", err)
	}
}

func TestAGateWithoutProfilesDeniesAll(t *testing.T) {
	g, err := New(nil, options())
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Approve(t.Context(), request(t))
	if d := denied(t, a, err); d.Rule != RuleProfile {
		t.Errorf("got %v", d)
	}
	if p, ok := g.Profile("pay"); ok || p.Name != "" {
		t.Errorf("Profile: got %+v", p)
	}
}

func TestRulesNamesEveryCheck(t *testing.T) {
	named := map[string]bool{}
	for _, c := range slices.Concat(issueChecks(), signChecks(), redeemChecks()) {
		named[c.rule] = true
		if !contains(Rules(), c.rule) {
			t.Errorf("check %q is not in Rules()", c.rule)
		}
	}
	if len(named) != len(Rules()) {
		t.Errorf("Rules() has %d names, the lanes have %d", len(Rules()), len(named))
	}
	for _, c := range issueChecks() {
		if c.tell == nil {
			t.Errorf("check %q of the Issue lane can't be explained", c.rule)
		}
	}
}

func TestCheckHostFindsRulesThatCanNeverHold(t *testing.T) {
	broken := errors.New("not here")
	for _, c := range []struct {
		rule     CallerRule
		pin, exe error
		want     bool // a complaint
	}{
		{CallerRule{UID: ptr(1)}, broken, broken, false},
		{CallerRule{GID: ptr(1)}, broken, broken, false},
		{CallerRule{Unit: "a.service"}, broken, nil, true},
		{CallerRule{Cgroup: "/a"}, broken, nil, true},
		{CallerRule{UID: ptr(1), Exe: "/a"}, broken, nil, true},
		{CallerRule{Unit: "a.service"}, nil, broken, false},
		{CallerRule{UID: ptr(1), Exe: "/a"}, nil, broken, true},
		{CallerRule{UID: ptr(9), Exe: "/a"}, nil, broken, false}, // our own uid's
		{CallerRule{Unit: "a.service", Exe: "/a"}, nil, nil, false},
	} {
		g := gate(t, func(p *Profile) { p.Callers = []CallerRule{c.rule} })
		if err := g.checkHost(c.pin, c.exe, 9); (err != nil) != c.want || c.want && !errors.Is(err, broken) {
			t.Errorf("%v: got %v, want a complaint: %v", c.rule, err, c.want)
		}
	}
	if err := gate(t).CheckHost(); err != nil {
		t.Errorf("rules by uid: got %v", err)
	}
}
