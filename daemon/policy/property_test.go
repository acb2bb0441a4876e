package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	if how := breaksCertificate(p, g); how != "" {
		return how
	}
	back := 6 * time.Second
	if p.Format == "ssh" {
		back += 2 * time.Minute
		g.IssuedAt = maxTime(g.IssuedAt, noon.Truncate(time.Second)) // what is over is no lifetime
		g.Audience, p.Audiences = []string{"none"}, []string{"none"}
	}
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
	case !g.Expires.After(noon) || g.Expires.After(noon.Add(p.MaxTTL+5*time.Second)) || noon.Sub(g.NotBefore) > back && !g.NotBefore.IsZero() || g.IssuedAt.Sub(noon).Abs() > 6*time.Second:
		return "times"
	case p.RequireHolder && g.Holder.Kind == "", g.Holder.Kind == "" && g.Holder.Value != "":
		return "holder"
	}
	if how := breaksClaims(p, g.Claims); how != "" {
		return how
	}
	return breaksKind(p, g)
}

// breaksKind says how a grant breaks its kind.
func breaksKind(p Profile, g plugins.Grant) string {
	var claims struct {
		ClientID string      `json:"client_id"`
		AuthTime json.Number `json:"auth_time"`
	}
	if len(g.Claims) > 0 && json.Unmarshal(g.Claims, &claims) != nil {
		return "claims of its kind"
	}
	at, err := claims.AuthTime.Int64()
	switch {
	case p.Format != "jwt":
	case p.Type == "at+jwt" && claims.ClientID == "":
		return "no client"
	case p.Kind == KindAuthentication && (err != nil || at <= 0 || at > noon.Unix()+5 || len(g.Scope) > 0):
		return "no time of authentication"
	case p.Kind == KindSVID && (!strings.HasPrefix(g.Subject, "spiffe://d/") || strings.HasSuffix(g.Subject, "/") || strings.Contains(g.Subject, "..")):
		return "no SPIFFE ID"
	}
	return ""
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// breaksCertificate says how a grant breaks what only SSH and PASETO have.
func breaksCertificate(p Profile, g plugins.Grant) string {
	if p.Format != "ssh" {
		switch {
		case g.Serial != 0 || len(g.Principals)+len(g.Options)+len(g.Extensions) > 0:
			return "fields of a certificate"
		case p.Format == "paseto" && len(g.Audience) > 1, p.Format != "paseto" && len(g.Assertion) > 0:
			return "audience or assertion"
		case p.FixedAssertion != nil && string(g.Assertion) != string(p.FixedAssertion):
			return "fixed assertion"
		case p.FixedAssertion == nil && !p.AllowAssertion && len(g.Assertion) > 0:
			return "assertion"
		}
		return ""
	}
	switch {
	case len(g.Audience)+len(g.Scope)+len(g.Claims)+len(g.Assertion) > 0:
		return "fields of a JWT"
	case g.Serial == 0 || len(g.TokenID) != 43 || g.NotBefore.IsZero():
		return "serial, nonce or start"
	case len(g.Principals) == 0 || g.Holder != plugins.Holder{Kind: "sshkey", Value: aKey}:
		return "no principals or no key"
	}
	for i, name := range g.Principals {
		if i > 255 || contains(g.Principals[:i], name) {
			return "principals"
		}
		if name == "" || strings.ContainsAny(name, ", *") || !allowsPrincipal(p, name) {
			return "principal " + name
		}
	}
	for _, name := range p.RequiredOptions {
		if _, ok := g.Options[name]; !ok {
			return "required option " + name
		}
	}
	return breaksNamed("option ", g.Options, p.FixedOptions, append(p.AllowedOptions, p.RequiredOptions...)) +
		breaksNamed("extension ", g.Extensions, p.FixedExtensions, p.AllowedExtensions)
}

func allowsPrincipal(p Profile, name string) bool {
	for _, pattern := range p.Principals {
		switch first, rest, dotted := strings.Cut(name, "."); {
		case pattern == name, strings.HasSuffix(pattern, "*") && strings.HasPrefix(name, pattern[:len(pattern)-1]):
			return true
		case p.Type == "host" && strings.HasPrefix(pattern, "*.") && dotted && first != "" && rest == pattern[2:]:
			return true
		}
	}
	return false
}

func breaksNamed(what string, got, fixed map[string]string, allowed []string) string {
	for name, value := range fixed {
		if v, ok := got[name]; !ok || v != value {
			return "fixed " + what + name
		}
	}
	for name, value := range got {
		if _, is := fixed[name]; !is && (!contains(allowed, name) || what == "extension " && value != "") {
			return what + name
		}
	}
	return ""
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
	for _, name := range p.RequiredClaims {
		if _, there := got[name]; !there {
			return "required claim " + name
		}
	}
	for name := range got {
		if !contains(p.AllowedClaims, name) && !contains(p.RequiredClaims, name) {
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
	switch rapid.SampledFrom([]string{"jwt", "access", "authentication", "svid", "paseto", "ssh"}).Draw(t, "format") {
	case "access":
		p.Type, p.RequiredClaims = "at+jwt", []string{"client_id"}
	case "authentication":
		p.Kind, p.Scopes, p.RequiredClaims = KindAuthentication, nil, []string{"auth_time"}
	case "svid":
		p.Kind, p.Type, p.TrustDomain, p.Subjects = KindSVID, "JWT", "d", []string{"spiffe://d/*"}
	case "paseto":
		p.Format, p.AllowAssertion = "paseto", rapid.Bool().Draw(t, "assertion")
		if !p.AllowAssertion && rapid.Bool().Draw(t, "fixed assertion") {
			p.FixedAssertion = []byte("t=1")
		}
	case "ssh":
		p.Format, p.Issuer, p.Audiences, p.Scopes, p.AllowedClaims, p.FixedClaims = "ssh", "", nil, nil, nil, nil
		p.RequireHolder = true
		anyCertificate(t, &p)
	}
	return p
}

func anyCertificate(t *rapid.T, p *Profile) {
	p.Type = rapid.SampledFrom([]string{"user", "host"}).Draw(t, "type")
	if p.Type == "host" {
		p.Principals = distinct(t, []string{"a", "*.b", "a.b", "c*"}, 1, "principals")
		return
	}
	p.Principals = distinct(t, []string{"a", "b", "ab", "a*", "c*"}, 1, "principals")
	p.AllowedExtensions = distinct(t, []string{"permit-pty", "permit-user-rc"}, 0, "extensions")
	if rapid.Bool().Draw(t, "fixed option") {
		p.FixedOptions = map[string]string{"force-command": "x"}
		p.FixedExtensions = map[string]string{"a@b": "v"}
	}
	if rapid.Bool().Draw(t, "required option") {
		p.RequiredOptions = []string{"source-address"}
	}
}

// certificateOf makes a request one for a certificate that p allows, in which
// each field may be anything else.
func certificateOf(t *rapid.T, p Profile, r *Request) {
	wild := func(field string) bool { return rapid.IntRange(0, 24).Draw(t, "wild "+field) == 0 }
	if p.Format == "ssh" && !wild("certificate") {
		r.Audience, r.Scope, r.Claims = nil, nil, nil
		r.Principals = []string{strings.ReplaceAll(rapid.SampledFrom(p.Principals).Draw(t, "principal"), "*", "x")}
		r.Holder = plugins.Holder{Kind: "sshkey", Value: aKey}
		if len(p.RequiredOptions) > 0 {
			r.Options = map[string]string{"source-address": "192.0.2.1"}
		}
		for _, name := range p.AllowedExtensions {
			r.Extensions = map[string]string{name: ""}
		}
	}
	if p.AllowAssertion || wild("assertion") {
		r.Assertion = []byte(rapid.SampledFrom([]string{"", "t=1", "t=2"}).Draw(t, "assertion"))
	}
	if wild("principals") {
		r.Principals = rapid.SliceOfN(rapid.SampledFrom(append(someNames, "x.b", "x.y.b", ".b", "*.b")), 0, 3).Draw(t, "principals")
	}
	named := func(field string, names, values []string) map[string]string {
		return rapid.MapOfN(rapid.SampledFrom(names), rapid.SampledFrom(values), 0, 2).Draw(t, field)
	}
	if wild("options") {
		r.Options = named("options", append(knownOptions, "a@b", ""), []string{"", "x", "192.0.2.0/24", "0.0.0.0/0"})
	}
	if wild("extensions") {
		r.Extensions = named("extensions", append(knownExtensions, "a@b", ""), []string{"", "v", "w"})
	}
	if wild("key") {
		r.Holder = plugins.Holder{Kind: "sshkey", Value: rapid.SampledFrom([]string{"", aKey + " x", longer(aKey), thumbprint}).Draw(t, "key")}
	}
}

// anyRequest is one that p allows, in which each field may be anything else.
func anyRequest(t *rapid.T, p Profile, c peer.Caller) Request {
	r := Request{
		Caller: c, Profile: "p", Subject: strings.ReplaceAll(rapid.SampledFrom(p.Subjects).Draw(t, "pattern"), "*", "x"),
		Audience: p.Audiences[:min(1, len(p.Audiences))], TTL: p.MaxTTL,
	}
	if p.RequireHolder {
		r.Holder = plugins.Holder{Kind: "jkt", Value: thumbprint}
	}
	wild := func(field string) bool { return rapid.IntRange(0, 24).Draw(t, "wild "+field) == 0 }
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
	if len(p.RequiredClaims) > 0 && !wild("required claims") {
		r.Claims = []byte(`{"` + p.RequiredClaims[0] + `":` + map[string]string{"client_id": `"x"`, "auth_time": "1"}[p.RequiredClaims[0]] + `}`)
	}
	if len(p.RequiredClaims) > 0 && rapid.IntRange(0, 4).Draw(t, "wild value") == 0 {
		r.Claims = []byte(rapid.SampledFrom([]string{
			`{"client_id":"x"}`, `{"client_id":""}`, `{"client_id":1}`, `{"auth_time":1}`, `{"auth_time":-1}`, `{"auth_time":1741176100}`, `{"auth_time":"x"}`,
		}).Draw(t, "required"))
	}
	if p.Kind == KindSVID && wild("id") {
		r.Subject = rapid.SampledFrom([]string{"spiffe://d/", "spiffe://d/a/../b", "spiffe://e/a", "spiffe://d"}).Draw(t, "id")
	}
	certificateOf(t, p, &r)
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
		g, err := New([]Profile{p}, withSerial())
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
	for _, d := range certWrittenDenials {
		writings = append(writings, func(g *plugins.Grant) {
			g.Options, g.Extensions = maps.Clone(g.Options), maps.Clone(g.Extensions)
			if g.Options == nil || g.Extensions == nil {
				g.Options, g.Extensions = map[string]string{}, map[string]string{}
			}
			d.edit(g)
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		p := anyProfile(t, me.UID())
		g, err := New([]Profile{p}, withSerial())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			r := anyRequest(t, p, me)
			w := plugins.Grant{
				Type: p.Type, Issuer: "i", TokenID: "id", Subject: r.Subject, Audience: r.Audience, Scope: r.Scope,
				Holder: r.Holder, Claims: r.Claims, IssuedAt: second, NotBefore: second, Expires: second.Add(r.TTL),
			}
			if len(w.Claims) == 0 && p.FixedClaims != nil {
				w.Claims = []byte(`{"env":"prod"}`)
			}
			w.Principals, w.Options, w.Extensions, w.Assertion = r.Principals, r.Options, r.Extensions, r.Assertion
			if p.Format == "ssh" {
				writeCertificate(t, p, &w)
			}
			if rapid.IntRange(0, 3).Draw(t, "otherwise") == 0 {
				rapid.SampledFrom(writings).Draw(t, "writing")(&w)
			}
			a, err := g.ApproveWritten(t.Context(), r.Caller, r.Profile, w)
			n.count(err)
			held(t, p, r.Caller, a, err)
		}
	})
	n.bothHappened(t)
}

// writeCertificate makes a grant what ssh-keygen would write.
func writeCertificate(t *rapid.T, p Profile, w *plugins.Grant) {
	w.Type, w.Issuer, w.Serial, w.TokenID = p.Type, "", 5, loginWritten().TokenID
	w.NotBefore = w.NotBefore.Add(-time.Duration(rapid.IntRange(0, 130).Draw(t, "back")) * time.Second)
	w.IssuedAt = w.NotBefore
	w.Options, w.Extensions = maps.Clone(w.Options), maps.Clone(w.Extensions)
	if w.Options == nil {
		w.Options = map[string]string{}
	}
	if w.Extensions == nil {
		w.Extensions = map[string]string{}
	}
	maps.Copy(w.Options, p.FixedOptions)
	maps.Copy(w.Extensions, p.FixedExtensions)
}

func withSerial() Options {
	o := options()
	o.Serial = func() (uint64, error) { return 7, nil }
	return o
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
	for _, c := range certDenials {
		r := loginRequest(t)
		c.edit(&r)
		a, err := sshGate(t, login()).Without(c.rule).Approve(t.Context(), r)
		if err != nil || c.rule == RuleOptions && strings.Contains(c.says, "addr") || c.name == "claims" {
			continue // the property knows no addresses, and claims nobody looked at are in no grant
		}
		if grant, _ := a.Use(); breaks(login(), grant, r.Caller) == "" {
			t.Errorf("%s: without the check %s the property sees nothing wrong in %+v", c.name, c.rule, grant)
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
