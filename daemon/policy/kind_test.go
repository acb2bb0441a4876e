package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signetd/signet/plugins"
)

func text(s string) json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", s)) }

// The profiles of each kind, made of pay.
func access(p *Profile) {
	p.Type, p.RequiredClaims = "at+jwt", []string{"client_id"}
}

func authentication(p *Profile) {
	p.Kind, p.Type, p.Scopes, p.RequiredClaims = KindAuthentication, "login+jwt", nil, []string{"auth_time"}
	p.AllowedClaims = []string{"amr", "acr", "nonce"}
}

func svid(p *Profile) {
	p.Kind, p.Type, p.TrustDomain = KindSVID, "JWT", "prod.example"
	p.Subjects = []string{"spiffe://prod.example/ci/*", "spiffe://prod.example/till"}
}

func TestProfilesOfEachKind(t *testing.T) {
	for _, c := range []struct {
		kind       func(*Profile)
		path, says string
		edit       func(*Profile)
	}{
		{access, "claims", "names its client", func(p *Profile) { p.RequiredClaims = nil }},
		{access, "claims", "names its client", func(p *Profile) { p.RequiredClaims, p.AllowedClaims = nil, []string{"client_id"} }},
		{access, "claims.fixed.client_id", "no text", func(p *Profile) {
			p.RequiredClaims, p.FixedClaims = nil, map[string]json.RawMessage{"client_id": text("")}
		}},
		{access, "claims.fixed.client_id", "no text", func(p *Profile) {
			p.RequiredClaims, p.FixedClaims = nil, map[string]json.RawMessage{"client_id": json.RawMessage("7")}
		}},
		{access, "claims", `"nonce" belongs in an authentication token`, func(p *Profile) { p.AllowedClaims = []string{"nonce"} }},
		{access, "claims", `"at_hash" belongs`, func(p *Profile) { p.FixedClaims["at_hash"] = text("x") }},
		{access, "type", "can't be the type of an access token", func(p *Profile) { p.Type = "AT+JWT" }},
		{access, "type", "can't be the type of an access token", func(p *Profile) { p.Kind, p.Type = KindAccess, "JWT" }},
		{access, "type", "another text for the same type", func(p *Profile) { p.Type = "application/at+jwt" }},
		{access, "type", "can't be the type of kind", func(p *Profile) { p.Kind = KindPlain }},
		{access, "type", "can't be the type of kind", func(p *Profile) { p.Kind = KindAuthentication }},
		{access, "trust_domain", "only a JWT-SVID", func(p *Profile) { p.TrustDomain = "a" }},
		{access, "kind", "not a kind of JWT", func(p *Profile) { p.Kind = "id" }},
		{authentication, "type", "can't be the type of kind", func(p *Profile) { p.Type = "JWT" }},
		{authentication, "type", "can't be the type of kind", func(p *Profile) { p.Type = "jose" }},
		{authentication, "type", "can't be the type of kind", func(p *Profile) { p.Type = "Logout+JWT" }},
		{authentication, "scopes", "grants nothing", func(p *Profile) { p.Scopes = []string{"read"} }},
		{authentication, "claims.required", "when somebody authenticated", func(p *Profile) { p.RequiredClaims = nil }},
		{authentication, "claims.required", "when somebody authenticated", func(p *Profile) {
			p.RequiredClaims, p.FixedClaims = nil, map[string]json.RawMessage{"auth_time": json.RawMessage("7")}
		}},
		{svid, "type", "can't be the type of a JWT-SVID", func(p *Profile) { p.Type = "jwt" }},
		{svid, "trust_domain", "missing", func(p *Profile) { p.TrustDomain = "" }},
		{svid, "trust_domain", "not a trust domain", func(p *Profile) { p.TrustDomain = "Prod.example" }},
		{svid, "subjects[1]", "no workload of trust domain", func(p *Profile) { p.Subjects[1] = "spiffe://prod.example" }},
		{svid, "subjects[0]", "no workload of trust domain", func(p *Profile) { p.Subjects[0] = "spiffe://prod.example*" }},
		{svid, "subjects[0]", "no workload of trust domain", func(p *Profile) { p.Subjects[0] = "spiffe://prod.example.evil/*" }},
		{svid, "subjects[0]", "no workload of trust domain", func(p *Profile) { p.Subjects[0] = "*" }},
		{func(*Profile) {}, "type", "can't be the type of kind", func(p *Profile) { p.Type = "JOSE" }},
		{func(p *Profile) { *p = login() }, "kind", "has no kind", func(p *Profile) { p.Kind = KindPlain }},
		{func(p *Profile) { *p = tenant() }, "trust_domain", "has no trust_domain", func(p *Profile) { p.TrustDomain = "a" }},
	} {
		p := pay()
		c.kind(&p)
		o := withSerial()
		if _, err := New([]Profile{p}, o); err != nil {
			t.Fatalf("%s: %v", c.says, err)
		}
		c.edit(&p)
		_, err := New([]Profile{p}, o)
		found := false
		for line := range strings.SplitSeq(errorText(err), "\n") {
			found = found || strings.HasPrefix(line, "profiles[0]."+c.path+" ") && strings.Contains(line, c.says)
		}
		if !found {
			t.Errorf("got %v; want %s saying %q", err, c.path, c.says)
		}
	}
}

func TestEachKindDenies(t *testing.T) {
	for _, c := range []struct {
		kind            func(*Profile)
		subject, claims string
		says            string // "" is allowed
	}{
		{access, "", `{"client_id":"till"}`, ""},
		{access, "", `{"client_id":""}`, "no text"},
		{access, "", `{"client_id":7}`, "no text"},
		{authentication, "", `{"auth_time":1741175999,"nonce":"n","acr":"1","amr":["hwk"]}`, ""},
		{authentication, "", `{"auth_time":1741176005}`, ""}, // our clock may be behind
		{authentication, "", `{"auth_time":1741176006}`, "that is over"},
		{authentication, "", `{"auth_time":"1741175999"}`, "that is over"},
		{authentication, "", `{"auth_time":0}`, "that is over"},
		{authentication, "", `{"auth_time":-1}`, "that is over"},
		{authentication, "", `{"auth_time":9007199254740991}`, "that is over"},
		{authentication, "", `{"auth_time":1,"nonce":""}`, `"nonce"`},
		{authentication, "", `{"auth_time":1,"nonce":{}}`, `"nonce"`},
		{authentication, "", `{"auth_time":1,"acr":1}`, `"acr"`},
		{authentication, "", `{"auth_time":1,"amr":"hwk"}`, "no list"},
		{authentication, "", `{"auth_time":1,"amr":[]}`, "no list"},
		{svid, "spiffe://prod.example/ci/7", "", ""},
		{svid, "spiffe://prod.example/till", "", ""},
		{svid, "spiffe://prod.example/ci/", "", "not a SPIFFE ID"},
		{svid, "spiffe://prod.example/ci//7", "", "not a SPIFFE ID"},
		{svid, "spiffe://prod.example/ci/../till", "", "not a SPIFFE ID"},
		{svid, "spiffe://prod.example/ci/a?b", "", "not a SPIFFE ID"},
		{svid, "spiffe://prod.example/ci/%61", "", "not a SPIFFE ID"},
	} {
		g, r := gate(t, c.kind), request(t)
		r.Claims = []byte(c.claims)
		if c.subject != "" {
			r.Subject = c.subject
		}
		if c.claims != "" && strings.Contains(c.claims, "auth_time") {
			r.Scope = nil
		}
		a, err := g.Approve(t.Context(), r)
		if c.says == "" {
			if err != nil {
				t.Errorf("%s %s: %v", r.Subject, c.claims, err)
				continue
			}
			grant, _ := a.Use()
			writtenGrant(t, g, grant, "")
			continue
		}
		if d := denied(t, a, err); d.Rule != RuleKind || !strings.Contains(d.Reason, c.says) {
			t.Errorf("%s %s: got %v, want %q", r.Subject, c.claims, d, c.says)
		}
		leftOut(t, g, RuleKind, r, "")
		a, err = g.Without(RuleKind).Approve(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		grant, _ := a.Use()
		writtenGrant(t, g, grant, RuleKind)
	}
}

// writtenGrant has the Sign lane judge what the Issue lane would have made.
func writtenGrant(t *testing.T, g *Gate, grant plugins.Grant, rule string) {
	t.Helper()
	a, err := g.ApproveWritten(t.Context(), self(t), "pay", grant)
	if rule == "" {
		if err != nil {
			t.Errorf("written: %v", err)
		}
		return
	}
	if d := denied(t, a, err); d.Rule != rule {
		t.Errorf("written: got %v, want rule %s", d, rule)
	}
}

// One issuer's tokens of one type are of one kind, or one could stand in for
// the other (B6 of the goals; RFC 8725 section 3.12).
func TestTokensOfTwoKindsDifferInIssuerOrType(t *testing.T) {
	for _, c := range []struct {
		what    string
		edit    func(login, other *Profile)
		refused bool
	}{
		{"the same issuer and type", func(*Profile, *Profile) {}, true},
		{"another case", func(_, o *Profile) { o.Type = "Login+JWT" }, true},
		{"keys of their own", func(_, o *Profile) { o.Key = "other" }, true},
		{"another type", func(_, o *Profile) { o.Type = "other+jwt" }, false},
		{"another issuer", func(_, o *Profile) { o.Issuer = "https://other.example" }, false},
		{"the same kind", func(l, o *Profile) { n := o.Name; *o = *l; o.Name = n }, false},
	} {
		login, other := pay(), pay()
		authentication(&login)
		other.Name, other.Kind, other.Type = "other", KindPlain, login.Type
		c.edit(&login, &other)
		_, err := New([]Profile{login, other}, options())
		var f *FieldError
		if refused := errors.As(err, &f); refused != c.refused || refused && f.Path != "profiles[1].type" {
			t.Errorf("%s: got %v; want refused: %v", c.what, err, c.refused)
		}
	}
}
