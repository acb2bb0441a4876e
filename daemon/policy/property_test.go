package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
)

// breaks says how a grant breaks its profile, "" if it does not. It is written
// apart from the Gate, slow and plain, and shares no code with it.
func breaks(p Profile, g plugins.Grant, c peer.Caller) string {
	switch {
	case g.Profile != p.Name || g.Type != p.Type || g.Issuer != p.Issuer:
		return "profile, type or issuer"
	case !selected(p, c):
		return "caller"
	case !allows(p.Subjects, g.Subject):
		return "subject"
	case len(g.Audience) == 0 || !subset(g.Audience, p.Audiences):
		return "audience"
	case !subset(g.Scope, p.Scopes):
		return "scope"
	case g.TokenID == "":
		return "token id"
	case g.Expires.Sub(g.IssuedAt) <= 0 || g.Expires.Sub(g.IssuedAt) > p.MaxTTL || g.IssuedAt.Nanosecond()+g.Expires.Nanosecond() != 0:
		return "lifetime"
	case !g.Expires.After(noon) || g.Expires.After(noon.Add(p.MaxTTL+5*time.Second)) || g.IssuedAt.Sub(noon).Abs() > 6*time.Second:
		return "times"
	case p.RequireHolder && g.Holder.Kind == "", g.Holder.Kind == "" && g.Holder.Value != "":
		return "holder"
	}
	return breaksClaims(p, g.Claims)
}

func selected(p Profile, c peer.Caller) bool {
	for _, r := range p.Callers {
		if c.Known() && !c.Hypothetical() && *r.UID == c.UID() {
			return true
		}
	}
	return false
}

func allows(patterns []string, subject string) bool {
	for _, p := range patterns {
		if p == subject || strings.HasSuffix(p, "*") && strings.HasPrefix(subject, p[:len(p)-1]) {
			return subject != ""
		}
	}
	return false
}

func subset(some, all []string) bool {
	for _, s := range some {
		if !contains(all, s) {
			return false
		}
	}
	return true
}

func breaksClaims(p Profile, claims []byte) string {
	got := map[string]any{}
	if len(claims) > 0 {
		if err := json.Unmarshal(claims, &got); err != nil {
			return "claims: " + err.Error()
		}
	}
	for name, raw := range p.FixedClaims {
		var want any
		if json.Unmarshal(raw, &want) != nil || !reflect.DeepEqual(got[name], want) {
			return "fixed claim " + name
		}
		delete(got, name)
	}
	for name := range got {
		if !contains(p.AllowedClaims, name) {
			return "claim " + name
		}
	}
	return ""
}

// The alphabets are small, so that random requests are often nearly right.
var (
	someNames    = []string{"a", "b", "ab", "a b", "A", "", "c", "a*"}
	somePatterns = []string{"a", "b", "ab", "a*", "c*", "*"}
	someClaims   = []string{"x", "y", "env", "X", "iss", "exp", "scope"}
	someValues   = []string{`1`, `"prod"`, `"test"`, `null`, `[1]`, `{"x":1}`, `1e3`, `true`}
	someTTLs     = []time.Duration{0, 1, -time.Second, time.Second, time.Minute, 2 * time.Minute, time.Hour, 1<<63 - 1}
)

func distinct(t *rapid.T, from []string, least int, label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), least, 3, rapid.ID[string]).Draw(t, label)
}

func anyProfile(t *rapid.T, uid uint32) Profile {
	p := Profile{
		Name: "p", Key: "k", Format: "jwt", Type: "t", Issuer: "i",
		Callers:       []CallerRule{{UID: ptr(uid + rapid.SampledFrom([]uint32{0, 0, 0, 1}).Draw(t, "caller"))}},
		Audiences:     distinct(t, []string{"a", "b", "ab", "A", "c"}, 1, "audiences"),
		Scopes:        distinct(t, []string{"a", "b", "ab"}, 0, "scopes"),
		Subjects:      distinct(t, somePatterns, 1, "subjects"),
		MaxTTL:        rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "max"),
		AllowedClaims: distinct(t, []string{"x", "y"}, 0, "claims"),
		RequireHolder: rapid.Bool().Draw(t, "require holder"),
	}
	if rapid.Bool().Draw(t, "fixed") {
		p.FixedClaims = map[string]json.RawMessage{"env": json.RawMessage(`"prod"`)}
	}
	return p
}

// anyRequest is one that p allows, in which each field may be anything else.
func anyRequest(t *rapid.T, p Profile, c peer.Caller) Request {
	r := Request{
		Caller: c, Profile: "p", Subject: strings.ReplaceAll(rapid.SampledFrom(p.Subjects).Draw(t, "pattern"), "*", "x"),
		Audience: p.Audiences[:1], TTL: p.MaxTTL,
	}
	if p.RequireHolder {
		r.Holder = plugins.Holder{Kind: "jkt", Value: thumbprint}
	}
	wild := func(field string) bool { return rapid.IntRange(0, 9).Draw(t, "wild "+field) == 0 }
	if wild("who") {
		r.Caller = rapid.SampledFrom([]peer.Caller{{}, peer.Hypothetical(c.UID(), c.GID(), "", "")}).Draw(t, "who")
	}
	if wild("profile") {
		r.Profile = rapid.SampledFrom([]string{"", "q", "P"}).Draw(t, "profile")
	}
	if wild("subject") {
		r.Subject = rapid.SampledFrom(someNames).Draw(t, "subject")
	}
	if wild("audience") {
		r.Audience = rapid.SliceOfN(rapid.SampledFrom(someNames), 0, 3).Draw(t, "audience")
	}
	if wild("scope") {
		r.Scope = rapid.SliceOfN(rapid.SampledFrom(someNames), 0, 3).Draw(t, "scope")
	}
	if wild("ttl") {
		r.TTL = rapid.SampledFrom(someTTLs).Draw(t, "ttl")
	}
	if wild("holder") {
		r.Holder.Kind = rapid.SampledFrom([]string{"", "jkt", "x"}).Draw(t, "kind")
		r.Holder.Value = rapid.SampledFrom([]string{"", thumbprint, "x"}).Draw(t, "value")
	}
	r.Claims = []byte(anyClaims(t))
	return r
}

func anyClaims(t *rapid.T) string {
	if rapid.Bool().Draw(t, "no claims") {
		return ""
	}
	var members []string
	for range rapid.IntRange(0, 2).Draw(t, "members") {
		// Half of what is drawn is likely to be allowed.
		if rapid.Bool().Draw(t, "plain") {
			members = append(members, rapid.SampledFrom([]string{`"x":1`, `"y":[true,{"b":1,"a":2}]`, `"env":"prod"`}).Draw(t, "member"))
			continue
		}
		members = append(members, fmt.Sprintf("%q:%s", rapid.SampledFrom(someClaims).Draw(t, "claim"), rapid.SampledFrom(someValues).Draw(t, "is")))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// judged is what the property tests look at: an allowed share shows that they
// do not pass by refusing everything.
type judged struct{ allowed, denied int }

func (j *judged) count(err error) {
	if err == nil {
		j.allowed++
		return
	}
	j.denied++
}

func (j *judged) bothHappened(t *testing.T) {
	t.Helper()
	t.Logf("%d allowed, %d denied", j.allowed, j.denied)
	if j.allowed*25 < j.denied || j.denied*25 < j.allowed {
		t.Errorf("%d allowed, %d denied: the property was not put to the test", j.allowed, j.denied)
	}
}

func TestNoApprovalBreaksItsProfile(t *testing.T) {
	me := self(t)
	var n judged
	rapid.Check(t, func(t *rapid.T) {
		p := anyProfile(t, me.UID())
		g, err := New([]Profile{p}, options())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			r := anyRequest(t, p, me)
			a, err := g.Approve(t.Context(), r)
			n.count(err)
			held(t, p, r.Caller, a, err)
			agrees(t, g, r, err)
			if err == nil && a.grant.Expires.Sub(a.grant.IssuedAt) != r.TTL {
				t.Fatalf("the lifetime asked for was %v, granted %v", r.TTL, a.grant.Expires.Sub(a.grant.IssuedAt))
			}
			if err == nil {
				isCanonical(t, a.grant.Claims)
			}
		}
	})
	n.bothHappened(t)
}

// isCanonical requires the claims to be what the one strict decoder writes: the
// issuer's draft is compared with them byte by byte.
func isCanonical(t *rapid.T, claims []byte) {
	if claims == nil {
		return
	}
	if want, err := strictjson.Canonical(claims, strictjson.Limits{}); err != nil || !bytes.Equal(want, claims) {
		t.Fatalf("claims %s are not canonical: %s, %v", claims, want, err)
	}
}

// held requires a sound grant, or a denial and nothing else.
func held(t *rapid.T, p Profile, c peer.Caller, a *Approval, err error) {
	if err != nil {
		var d *Denial
		if !errors.As(err, &d) || a != nil || !contains(Rules(), d.Rule) {
			t.Fatalf("got %v, %v; want a denial", a, err)
		}
		return
	}
	grant, err := a.Use()
	if err != nil {
		t.Fatal(err)
	}
	if how := breaks(p, grant, c); how != "" {
		t.Fatalf("the grant %+v breaks its profile %+v: %s", grant, p, how)
	}
}

// agrees requires Explain to say what Approve did.
func agrees(t *rapid.T, g *Gate, r Request, err error) {
	if r.Caller.Hypothetical() {
		return
	}
	e := g.Explain(t.Context(), r)
	var d *Denial
	if e.Allowed != (err == nil) || errors.As(err, &d) && (e.Rule != d.Rule || e.Reason != d.Reason) {
		t.Fatalf("Approve says %v, Explain %+v", err, e)
	}
}

func TestNoWrittenApprovalBreaksItsProfile(t *testing.T) {
	me := self(t)
	var n judged
	second := noon.Truncate(time.Second)
	var writings []func(*plugins.Grant)
	for _, d := range writtenDenials {
		writings = append(writings, d.edit)
	}
	for _, off := range []time.Duration{time.Second, -5 * time.Second, 6 * time.Second, -6 * time.Second, time.Nanosecond} {
		writings = append(writings,
			func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(off) },
			func(g *plugins.Grant) { g.NotBefore = g.NotBefore.Add(off) },
			func(g *plugins.Grant) { g.Expires = g.Expires.Add(off) })
	}
	rapid.Check(t, func(t *rapid.T) {
		p := anyProfile(t, me.UID())
		g, err := New([]Profile{p}, options())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			r := anyRequest(t, p, me)
			w := plugins.Grant{
				Type: "t", Issuer: "i", TokenID: "id", Subject: r.Subject, Audience: r.Audience, Scope: r.Scope,
				Holder: r.Holder, Claims: r.Claims, IssuedAt: second, NotBefore: second, Expires: second.Add(r.TTL),
			}
			if len(w.Claims) == 0 && p.FixedClaims != nil {
				w.Claims = []byte(`{"env":"prod"}`)
			}
			if rapid.Bool().Draw(t, "otherwise") {
				rapid.SampledFrom(writings).Draw(t, "writing")(&w)
			}
			a, err := g.ApproveWritten(t.Context(), r.Caller, r.Profile, w)
			n.count(err)
			held(t, p, r.Caller, a, err)
		}
	})
	n.bothHappened(t)
}

// The property itself must notice a gate with a hole, whichever it is.
func TestThePropertyNoticesEachMissingCheck(t *testing.T) {
	me := self(t)
	bad := map[string]func(*Request){
		RuleCaller:   func(r *Request) { r.Caller = peer.Caller{} },
		RuleSubject:  func(r *Request) { r.Subject = "nobody" },
		RuleAudience: func(r *Request) { r.Audience = []string{"evil"} },
		RuleScope:    func(r *Request) { r.Scope = []string{"evil"} },
		RuleLifetime: func(r *Request) { r.TTL = 24 * time.Hour },
		RuleClaims:   func(r *Request) { r.Claims = nil },
		RuleHolder:   func(r *Request) { r.Holder = plugins.Holder{Value: "x"} },
	}
	for rule, edit := range bad {
		r := request(t)
		r.Caller = me
		edit(&r)
		a, err := gate(t).Without(rule).Approve(t.Context(), r)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		if grant, _ := a.Use(); breaks(pay(), grant, r.Caller) == "" {
			t.Errorf("without the check %s the property sees nothing wrong in %+v", rule, grant)
		}
	}
}

func FuzzApprove(f *testing.F) {
	me := self(f)
	p := pay()
	p.Callers = []CallerRule{{UID: myUID()}}
	g, err := New([]Profile{p}, options())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("pay", "svc-a", "https://pay.example", "charge", int64(time.Minute), []byte(`{"order":1}`), "jkt", thumbprint)
	f.Add("pay", "till-1", "https://refund.example", "", int64(time.Second), []byte(`{"env":"prod","amr":[{"a":[]}]}`), "", "")
	f.Add("nope", "\xff", "", "admin", int64(-1), []byte(`{"order":1,"ORDER":2}`), "x5t#S256", "=")
	f.Fuzz(func(t *testing.T, profile, subject, audience, scope string, ttl int64, claims []byte, kind, value string) {
		r := Request{
			Caller: me, Profile: profile, Subject: subject, Audience: []string{audience}, TTL: time.Duration(ttl),
			Claims: claims, Holder: plugins.Holder{Kind: kind, Value: value},
		}
		if scope != "" {
			r.Scope = []string{scope}
		}
		a, err := g.Approve(t.Context(), r)
		if err != nil {
			text := denied(t, a, err).Error()
			if len(text) > 2000 || strings.Count(text, "\n") > 1 {
				t.Errorf("a denial of %d bytes: %q", len(text), text)
			}
			return
		}
		grant, err := a.Use()
		if err != nil {
			t.Fatal(err)
		}
		if how := breaks(p, grant, me); how != "" {
			t.Errorf("the grant %+v breaks its profile: %s", grant, how)
		}
	})
}
