package policy

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins"
)

// denied returns the Denial that an error must be.
func denied(t *testing.T, a *Approval, err error) *Denial {
	t.Helper()
	var d *Denial
	if !errors.As(err, &d) {
		t.Fatalf("got %v, %v; want a denial", a, err)
	}
	if a != nil {
		t.Errorf("an approval came with the denial %v", d)
	}
	return d
}

func TestApproveCompletesTheGrant(t *testing.T) {
	r := request(t)
	r.Holder = plugins.Holder{Kind: "jkt", Value: thumbprint}
	a, err := gate(t).Approve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 3, 5, 12, 0, 0, 0, time.UTC)
	want := plugins.Grant{
		Profile: "pay", Type: "pay+jwt", Issuer: "https://issuer.example", TokenID: "AAECAwQFBgcICQoLDA0ODw",
		Subject: "svc-till", Audience: []string{"https://pay.example"}, Scope: []string{"charge"},
		IssuedAt: at, NotBefore: at, Expires: at.Add(5 * time.Minute), Holder: r.Holder,
		Claims: []byte(`{"amr":["pwd"],"env":"prod","order":17,"tier":2}`),
	}
	got, err := a.Use()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	if a.Rule() != "pay.callers[1]" || a.Profile().Key != "pay-key" || a.Shortened() {
		t.Errorf("got rule %q, key %q, shortened %v", a.Rule(), a.Profile().Key, a.Shortened())
	}
}

// denials has one row, or more, for each rule of the Issue lane. hint is part
// of what is said; without says what the row turns into when its check is left
// out: a planted fault must let the bad request through, or be caught by
// another rule's name.
var denials = []struct {
	name, rule, says string
	edit             func(*Request)
	without          string
}{
	{"no such profile", RuleProfile, `there is no profile "pya"`, func(r *Request) { r.Profile = "pya" }, RuleCaller},
	{"no profile named", RuleProfile, `there is no profile ""`, func(r *Request) { r.Profile = "" }, RuleCaller},
	{"nobody", RuleCaller, "nobody is not a caller", func(r *Request) { r.Caller = peer.Caller{} }, ""},
	{"another's profile", RuleCaller, "is not a caller", func(r *Request) { r.Profile = "hidden" }, RuleSubject},
	{"hypothetical caller", RuleCaller, "hypothetical", func(r *Request) { r.Caller = peer.Hypothetical(*myUID(), 0, "", "") }, ""},
	{"no subject", RuleSubject, "subject is missing", func(r *Request) { r.Subject = "" }, ""},
	{"subject not listed", RuleSubject, "signet explain", func(r *Request) { r.Subject = "till-2" }, ""},
	{"subject longer than an exact one", RuleSubject, "not one that", func(r *Request) { r.Subject = "till-11" }, ""},
	{"subject before the star", RuleSubject, "not one that", func(r *Request) { r.Subject = "xsvc-1" }, ""},
	{"subject in another case", RuleSubject, "not one that", func(r *Request) { r.Subject = "SVC-1" }, ""},
	{"subject with a newline", RuleSubject, "control characters", func(r *Request) { r.Subject = "svc-\n" }, ""},
	{"subject of invalid UTF-8", RuleSubject, "invalid UTF-8", func(r *Request) { r.Subject = "svc-\xff" }, ""},
	{"subject too long", RuleSubject, "over 1024 bytes", func(r *Request) { r.Subject = "svc-" + strings.Repeat("x", 1021) }, ""},
	{"no audience", RuleAudience, "audience is missing", func(r *Request) { r.Audience = nil }, ""},
	{"empty audience", RuleAudience, `"" is not allowed`, func(r *Request) { r.Audience = []string{""} }, ""},
	{"audience not listed", RuleAudience, `"https://evil.example" is not allowed`, func(r *Request) { r.Audience = []string{"https://evil.example"} }, ""},
	{"second audience not listed", RuleAudience, "not allowed", func(r *Request) { r.Audience = append(r.Audience, "https://evil.example") }, ""},
	{"audience with a slash more", RuleAudience, "not allowed", func(r *Request) { r.Audience = []string{"https://pay.example/"} }, ""},
	{"audience twice", RuleAudience, "twice", func(r *Request) { r.Audience = append(r.Audience, r.Audience[0]) }, ""},
	{"scope not listed", RuleScope, `"admin" is not allowed`, func(r *Request) { r.Scope = []string{"charge", "admin"} }, ""},
	{"two scopes in one", RuleScope, "not allowed", func(r *Request) { r.Scope = []string{"charge refund"} }, ""},
	{"scope twice", RuleScope, "twice", func(r *Request) { r.Scope = []string{"charge", "charge"} }, ""},
	{"no lifetime", RuleLifetime, "over zero", func(r *Request) { r.TTL = 0 }, ""},
	{"negative lifetime", RuleLifetime, "over zero", func(r *Request) { r.TTL = -time.Second }, ""},
	{"lifetime with a fraction", RuleLifetime, "whole seconds", func(r *Request) { r.TTL = time.Second + 1 }, ""},
	{"lifetime over the ceiling", RuleLifetime, "over the ceiling 15m0s", func(r *Request) { r.TTL = 15*time.Minute + time.Second }, ""},
	{"lifetime for ever", RuleLifetime, "over the ceiling", func(r *Request) { r.TTL = 1<<63 - 1 - (1<<63-1)%time.Second }, ""},
	{"claim not listed", RuleClaims, `claim "role" is not allowed`, func(r *Request) { r.Claims = []byte(`{"role":"x"}`) }, ""},
	{"reserved claim", RuleClaims, `claim "exp" is reserved`, func(r *Request) { r.Claims = []byte(`{"exp":1}`) }, ""},
	{"reserved claim, other case", RuleClaims, `"aud"`, func(r *Request) { r.Claims = []byte(`{"AUD":"x"}`) }, ""},
	{"allowed claim, other case", RuleClaims, `"Order" is not allowed`, func(r *Request) { r.Claims = []byte(`{"Order":1}`) }, ""},
	{"fixed claim, other value", RuleClaims, `"env" is fixed`, func(r *Request) { r.Claims = []byte(`{"env":"test"}`) }, ""},
	{"fixed claim, other type", RuleClaims, `"tier" is fixed`, func(r *Request) { r.Claims = []byte(`{"tier":"2"}`) }, ""},
	{"claim twice", RuleClaims, "twice", func(r *Request) { r.Claims = []byte(`{"order":1,"order":2}`) }, ""},
	{"claims not an object", RuleClaims, "not an object", func(r *Request) { r.Claims = []byte(`[1]`) }, ""},
	{"claims with more behind", RuleClaims, "claims: ", func(r *Request) { r.Claims = []byte(`{"order":1}{}`) }, ""},
	{"claims of invalid UTF-8", RuleClaims, "claims: ", func(r *Request) { r.Claims = []byte("{\"order\":\"\xff\"}") }, ""},
	{"claim that readers round", RuleClaims, "claims: ", func(r *Request) { r.Claims = []byte(`{"order":9007199254740993}`) }, ""},
	{"claims of 1 MB", RuleClaims, "bytes", func(r *Request) { r.Claims = []byte(`{"order":"` + strings.Repeat("x", 1<<20) + `"}`) }, ""},
	{"claims 10,000 deep", RuleClaims, "deep", func(r *Request) {
		r.Claims = []byte(`{"order":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`)
	}, ""},
	{"principals", RulePrincipals, "has no principals", func(r *Request) { r.Principals = []string{"root"} }, ""},
	{"options", RuleOptions, "has no options", func(r *Request) { r.Options = map[string]string{"force-command": "x"} }, ""},
	{"extensions", RuleExtensions, "has no extensions", func(r *Request) { r.Extensions = map[string]string{"permit-pty": ""} }, ""},
	{"assertion", RuleAssertion, "has no implicit assertion", func(r *Request) { r.Assertion = []byte("x") }, ""},
	{"holder of SSH", RuleHolder, "not known", func(r *Request) { r.Holder = plugins.Holder{Kind: "sshkey", Value: aKey} }, ""},
	{"holder without a kind", RuleHolder, `holder kind ""`, func(r *Request) { r.Holder.Value = thumbprint }, ""},
	{"holder of unknown kind", RuleHolder, `holder kind "jwk"`, func(r *Request) { r.Holder = plugins.Holder{Kind: "jwk", Value: thumbprint} }, ""},
	{"holder without a value", RuleHolder, "not a thumbprint", func(r *Request) { r.Holder.Kind = "jkt" }, ""},
	{"holder's value padded", RuleHolder, "not a thumbprint", func(r *Request) { r.Holder = plugins.Holder{Kind: "jkt", Value: thumbprint + "="} }, ""},
	{"holder's value with loose bits", RuleHolder, "not a thumbprint", func(r *Request) { r.Holder = plugins.Holder{Kind: "jkt", Value: strings.Repeat("A", 42) + "B"} }, ""},
	{"holder's value too short", RuleHolder, "not a thumbprint", func(r *Request) { r.Holder = plugins.Holder{Kind: "x5t#S256", Value: thumbprint[:42]} }, ""},
	{"holder's value with a newline", RuleHolder, "not a thumbprint", func(r *Request) {
		r.Holder = plugins.Holder{Kind: "jkt", Value: thumbprint[:20] + "\n" + thumbprint[20:]}
	}, ""},
}

func TestEachRuleDenies(t *testing.T) {
	g := gate(t)
	for _, c := range denials {
		t.Run(c.name, func(t *testing.T) {
			r := request(t)
			c.edit(&r)
			a, err := g.Approve(t.Context(), r)
			d := denied(t, a, err)
			if d.Rule != c.rule || !strings.Contains(d.Error(), c.says) {
				t.Errorf("got %v; want rule %s, saying %q", d, c.rule, c.says)
			}
			if !contains(Rules(), d.Rule) {
				t.Errorf("rule %q is not in Rules()", d.Rule)
			}
			leftOut(t, g, c.rule, r, c.without)
		})
	}
}

// leftOut shows that this row, and nothing else, notices a missing check.
func leftOut(t *testing.T, g *Gate, rule string, r Request, then string) {
	t.Helper()
	a, err := g.Without(rule).Approve(t.Context(), r)
	switch {
	case then == "" && err != nil:
		t.Errorf("without the check %q: got %v; want the fault to show", rule, err)
	case then != "":
		if d := denied(t, a, err); d.Rule != then {
			t.Errorf("without the check %q: got %v; want rule %q", rule, d, then)
		}
	}
}

func TestRequireHolder(t *testing.T) {
	g := gate(t, func(p *Profile) { p.RequireHolder = true })
	r := request(t)
	a, err := g.Approve(t.Context(), r)
	if d := denied(t, a, err); d.Rule != RuleHolder || !strings.Contains(d.Hint, "jkt") {
		t.Errorf("without a holder: got %v", d)
	}
	leftOut(t, g, RuleHolder, r, "")
	for _, kind := range []string{"jkt", "x5t#S256"} {
		r.Holder = plugins.Holder{Kind: kind, Value: thumbprint}
		if _, err := g.Approve(t.Context(), r); err != nil {
			t.Errorf("with %s: %v", kind, err)
		}
	}
}

func TestWhatIsAllowed(t *testing.T) {
	g := gate(t)
	for name, edit := range map[string]func(*Request){
		"an exact subject":           func(r *Request) { r.Subject = "till-1" },
		"a star that is nothing":     func(r *Request) { r.Subject = "svc-" },
		"both audiences":             func(r *Request) { r.Audience = []string{"https://refund.example", "https://pay.example"} },
		"no scope":                   func(r *Request) { r.Scope = nil },
		"the whole lifetime":         func(r *Request) { r.TTL = 15 * time.Minute },
		"one second":                 func(r *Request) { r.TTL = time.Second },
		"no claims":                  func(r *Request) { r.Claims = nil },
		"an empty object":            func(r *Request) { r.Claims = []byte(" {} ") },
		"a fixed claim, as it is":    func(r *Request) { r.Claims = []byte(`{"env":"prod"}`) },
		"a fixed claim, other form":  func(r *Request) { r.Claims = []byte(`{ "env" : "\u0070rod" }`) },
		"a deep claim within limits": func(r *Request) { r.Claims = []byte(`{"order":{"lines":[{"n":1}]}}`) },
	} {
		r := request(t)
		edit(&r)
		if _, err := g.Approve(t.Context(), r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFixedClaimIsWrittenOnce(t *testing.T) {
	r := request(t)
	r.Claims = []byte(`{"env":"prod"}`)
	a, err := gate(t).Approve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if g, _ := a.Use(); string(g.Claims) != `{"env":"prod","tier":2}` {
		t.Errorf("claims: got %s", g.Claims)
	}
}

func TestNoClaimsAreNil(t *testing.T) {
	r := request(t)
	r.Claims = []byte("{}")
	a, err := gate(t, func(p *Profile) { p.FixedClaims = nil }).Approve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if g, _ := a.Use(); g.Claims != nil {
		t.Errorf("claims: got %s, want nil", g.Claims)
	}
}

func TestTokenIDsDiffer(t *testing.T) {
	g, seen := gate(t), map[string]bool{}
	for range 10 {
		a, err := g.Approve(t.Context(), request(t))
		if err != nil {
			t.Fatal(err)
		}
		grant, _ := a.Use()
		if seen[grant.TokenID] || len(grant.TokenID) != 22 {
			t.Errorf("token id %q", grant.TokenID)
		}
		seen[grant.TokenID] = true
	}
}

func TestWithoutRandomnessNothingIsApproved(t *testing.T) {
	o := options()
	o.Rand = io.MultiReader(strings.NewReader("only fifteen by"), iotest.ErrReader(io.ErrClosedPipe))
	g, err := New([]Profile{pay()}, o)
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Approve(t.Context(), request(t))
	var d *Denial
	if a != nil || !errors.Is(err, io.ErrClosedPipe) || errors.As(err, &d) {
		t.Errorf("got %v, %v; want the reader's error", a, err)
	}
}

func TestAnApprovalIsUsedOnce(t *testing.T) {
	a, err := gate(t).Approve(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	var used, spent atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			switch _, err := a.Use(); {
			case err == nil:
				used.Add(1)
			case errors.Is(err, ErrSpent):
				spent.Add(1)
			}
		})
	}
	wg.Wait()
	if used.Load() != 1 || spent.Load() != 63 {
		t.Errorf("used %d times, spent %d times; want 1 and 63", used.Load(), spent.Load())
	}
}

func TestAnApprovalCannotBeMadeUp(t *testing.T) {
	for name, a := range map[string]*Approval{"nil": nil, "zero": {}} {
		g, err := a.Use()
		if !errors.Is(err, ErrNotApproved) || g.TokenID != "" || a.Rule() != "" || a.Profile().Name != "" {
			t.Errorf("%s: got %+v, %v; want ErrNotApproved", name, g, err)
		}
	}
}

func TestWhatWasJudgedCannotChangeAfterwards(t *testing.T) {
	g, r, w := gate(t), request(t), written()
	issue, err := g.Approve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	sign, err := g.ApproveWritten(t.Context(), r.Caller, "pay", w)
	if err != nil {
		t.Fatal(err)
	}
	r.Audience[0], r.Scope[0], w.Audience[0], w.Scope[0] = "evil", "evil", "evil", "evil"
	copy(r.Claims, "evil")
	copy(w.Claims, "evil")
	for _, a := range []*Approval{issue, sign} {
		grant, err := a.Use()
		if err != nil {
			t.Fatal(err)
		}
		if grant.Audience[0] == "evil" || grant.Scope[0] == "evil" || strings.HasPrefix(string(grant.Claims), "evil") {
			t.Errorf("the grant changed: %+v", grant)
		}
	}
}

func TestAProfileCannotBeWidenedThroughACopy(t *testing.T) {
	mine := pay()
	g, err := New([]Profile{mine}, options())
	if err != nil {
		t.Fatal(err)
	}
	given, _ := g.Profile("pay")
	for _, p := range []Profile{mine, given} {
		*p.Callers[1].UID = 4243 // the one that selects us
		p.Callers[0].UID = ptr(4244)
		p.Audiences[0], p.Subjects[0], p.Scopes[0], p.AllowedClaims[0] = "evil", "evil", "evil", "evil"
		p.FixedClaims["env"][2] = 'x'
	}
	r := request(t)
	a, err := g.Approve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if grant, _ := a.Use(); !strings.Contains(string(grant.Claims), `"env":"prod"`) {
		t.Errorf("claims: got %s", grant.Claims)
	}
	r.Audience = []string{"evil"}
	a, err = g.Approve(t.Context(), r)
	if d := denied(t, a, err); d.Rule != RuleAudience {
		t.Errorf("a profile was widened by changing a copy: %v", d)
	}
}

func TestADenialTellsNothingItShouldNot(t *testing.T) {
	const private = "alice-1f5c"
	long := strings.Repeat("x", 100_000)
	g := gate(t)
	for name, edit := range map[string]func(*Request){
		"subject":      func(r *Request) { r.Subject = private },
		"claim":        func(r *Request) { r.Claims = []byte(`{"role":"` + private + `"}`) },
		"fixed claim":  func(r *Request) { r.Claims = []byte(`{"env":"` + private + `"}`) },
		"broken claim": func(r *Request) { r.Claims = []byte(`{"order":"` + private + `\`) },
		"holder":       func(r *Request) { r.Holder = plugins.Holder{Kind: "jkt", Value: private} },
		"long name":    func(r *Request) { r.Profile = long },
		"long aud":     func(r *Request) { r.Audience = []string{long} },
		"long scope":   func(r *Request) { r.Scope = []string{long} },
		"long claim":   func(r *Request) { r.Claims = []byte(`{"` + long[:5000] + `":1}`) },
		"long kind":    func(r *Request) { r.Holder.Kind = long },
		"odd name":     func(r *Request) { r.Profile = "pay\nhint: run rm -rf\x1b[2J\u202e" },
		"not mine":     func(r *Request) { r.Profile = "hidden" },
	} {
		r := request(t)
		edit(&r)
		a, err := g.Approve(t.Context(), r)
		text := denied(t, a, err).Error()
		for _, secret := range []string{private, "prod", "hidden.example", "hidden-subject", "till-1", "7777", "4242", "\x1b", "\u202e"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the denial tells %q: %s", name, secret, text)
			}
		}
		if len(text) > 1000 || strings.Count(text, "\n") > 1 {
			t.Errorf("%s: the denial has %d bytes, %d lines: %.300s", name, len(text), strings.Count(text, "\n")+1, text)
		}
	}
}
