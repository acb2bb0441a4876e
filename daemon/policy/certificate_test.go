package policy

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
)

// aKey is a key to certify, as its .pub file has it.
var aKey = func() string {
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}()

// login is a profile of SSH user certificates with every kind of rule.
func login() Profile {
	return Profile{
		Name: "login", Key: "ca", Format: "ssh", Type: "user",
		Callers: []CallerRule{{UID: myUID()}}, Subjects: []string{"ci/*"}, MaxTTL: 15 * time.Minute,
		Principals:      []string{"deploy", "svc-*"},
		AllowedOptions:  []string{"verify-required"},
		RequiredOptions: []string{"source-address"},
		FixedOptions:    map[string]string{"force-command": "/bin/deploy"}, AllowedExtensions: []string{"permit-pty"},
		FixedExtensions: map[string]string{"login@forge.example": "ci"},
	}
}

// host is a profile of SSH host certificates.
func host() Profile {
	return Profile{
		Name: "host", Key: "hosts", Format: "ssh", Type: "host", Callers: []CallerRule{{UID: myUID()}},
		Subjects: []string{"*"}, MaxTTL: time.Hour, Principals: []string{"a.example", "*.db.example", "web-*"},
	}
}

// tenant is a profile of PASETOs.
func tenant(edits ...func(*Profile)) Profile {
	p := pay()
	p.Name, p.Format, p.AllowAssertion = "tenant", "paseto", true
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func sshGate(t testing.TB, profiles ...Profile) *Gate {
	t.Helper()
	o, n := options(), uint64(0)
	o.Serial = func() (uint64, error) { n++; return n, nil }
	g, err := New(profiles, o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func loginRequest(t testing.TB) Request {
	return Request{
		Caller: self(t), Profile: "login", Subject: "ci/7", Principals: []string{"deploy"}, TTL: 5 * time.Minute,
		Options: map[string]string{"source-address": "192.0.2.0/24,2001:db8::1"}, Extensions: map[string]string{"permit-pty": ""},
		Holder: plugins.Holder{Kind: "sshkey", Value: aKey},
	}
}

// loginWritten is a body as `ssh-keygen -V +5m` writes it at noon.
func loginWritten() plugins.Grant {
	noon := noon.Truncate(time.Second)
	return plugins.Grant{
		Type: "user", TokenID: base64.RawURLEncoding.EncodeToString(make([]byte, 32)), Subject: "ci/7", Serial: 9,
		IssuedAt: noon.Add(-time.Minute), NotBefore: noon.Add(-time.Minute), Expires: noon.Add(5 * time.Minute),
		Principals: []string{"svc-a", "deploy"}, Holder: plugins.Holder{Kind: "sshkey", Value: aKey},
		Options:    map[string]string{"force-command": "/bin/deploy", "source-address": "192.0.2.7"},
		Extensions: map[string]string{"login@forge.example": "ci"},
	}
}

func TestApproveCompletesACertificate(t *testing.T) {
	a, err := sshGate(t, login()).Approve(t.Context(), loginRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Use()
	if err != nil {
		t.Fatal(err)
	}
	at := noon.Truncate(time.Second)
	want := plugins.Grant{
		Profile: "login", Type: "user", TokenID: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", Subject: "ci/7", Serial: 1,
		IssuedAt: at, NotBefore: at, Expires: at.Add(5 * time.Minute), Holder: plugins.Holder{Kind: "sshkey", Value: aKey},
		Principals: []string{"deploy"},
		Options:    map[string]string{"source-address": "192.0.2.0/24,2001:db8::1", "force-command": "/bin/deploy"},
		Extensions: map[string]string{"permit-pty": "", "login@forge.example": "ci"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
}

// certDenials are denials, for SSH: see there.
var certDenials = []struct {
	name, rule, says string
	edit             func(*Request)
	without          string
}{
	{"an audience", RuleAudience, "has no audience", func(r *Request) { r.Audience = []string{"a"} }, ""},
	{"a scope", RuleScope, "has no scope", func(r *Request) { r.Scope = []string{"a"} }, ""},
	{"claims", RuleClaims, "has no claims", func(r *Request) { r.Claims = []byte(`{"a":1}`) }, ""},
	{"an assertion", RuleAssertion, "has no implicit", func(r *Request) { r.Assertion = []byte("a") }, ""},
	{"no key id", RuleSubject, "missing", func(r *Request) { r.Subject = "" }, ""},
	{"no principals", RulePrincipals, "good for all", func(r *Request) { r.Principals = nil }, ""},
	{"principal not listed", RulePrincipals, `"root" is not allowed`, func(r *Request) { r.Principals = []string{"root"} }, ""},
	{"second principal not listed", RulePrincipals, "not allowed", func(r *Request) { r.Principals = []string{"deploy", "root"} }, ""},
	{"empty principal", RulePrincipals, "malformed", func(r *Request) { r.Principals = []string{""} }, ""},
	{"two principals in one", RulePrincipals, "malformed", func(r *Request) { r.Principals = []string{"svc-a,root"} }, ""},
	{"principal that is a pattern", RulePrincipals, "malformed", func(r *Request) { r.Principals = []string{"svc-*"} }, ""},
	{"principal twice", RulePrincipals, "twice", func(r *Request) { r.Principals = []string{"deploy", "deploy"} }, ""},
	{"too many principals", RulePrincipals, "the limit is 256", func(r *Request) { r.Principals = slices.Repeat([]string{"deploy"}, 257) }, ""},
	{"option not listed", RuleOptions, `"no@forge.example" is not allowed`, func(r *Request) { r.Options["no@forge.example"] = "" }, ""},
	{"option missing", RuleOptions, `"source-address" is missing`, func(r *Request) { r.Options = nil }, ""},
	{"fixed option, other value", RuleOptions, "is fixed", func(r *Request) { r.Options["force-command"] = "/bin/sh" }, ""},
	{"fixed option, no value", RuleOptions, "is fixed", func(r *Request) { r.Options["force-command"] = "" }, ""},
	{"option with a value it has not", RuleOptions, "has no value", func(r *Request) { r.Options["verify-required"] = "yes" }, ""},
	{"every address", RuleOptions, "every address", func(r *Request) { r.Options["source-address"] = "0.0.0.0/0" }, ""},
	{"every address, too", RuleOptions, "every address", func(r *Request) { r.Options["source-address"] = "192.0.2.1,::/0" }, ""},
	{"no address", RuleOptions, "no address or network", func(r *Request) { r.Options["source-address"] = "" }, ""},
	{"address of a name", RuleOptions, "no address or network", func(r *Request) { r.Options["source-address"] = "a.example" }, ""},
	{"address that excludes", RuleOptions, "no address or network", func(r *Request) { r.Options["source-address"] = "!192.0.2.1" }, ""},
	{"network with host bits", RuleOptions, "bits beyond", func(r *Request) { r.Options["source-address"] = "192.0.2.1/24" }, ""},
	{"extension not listed", RuleExtensions, "is not allowed", func(r *Request) { r.Extensions["permit-port-forwarding"] = "" }, ""},
	{"extension in another case", RuleExtensions, "is not allowed", func(r *Request) { r.Extensions["Permit-PTY"] = "" }, ""},
	{"extension with a value", RuleExtensions, "has a value", func(r *Request) { r.Extensions["permit-pty"] = "x" }, ""},
	{"fixed extension, other value", RuleExtensions, "is fixed", func(r *Request) { r.Extensions["login@forge.example"] = "root" }, ""},
	{"no key", RuleHolder, "missing", func(r *Request) { r.Holder = plugins.Holder{} }, ""},
	{"a thumbprint", RuleHolder, `"jkt" can't be`, func(r *Request) { r.Holder = plugins.Holder{Kind: "jkt", Value: thumbprint} }, ""},
	{"a key with a comment", RuleHolder, "is not one line", func(r *Request) { r.Holder.Value += " me" }, ""},
	{"two keys", RuleHolder, "is not one line", func(r *Request) { r.Holder.Value += "\n" + aKey }, ""},
	{"a key under another name", RuleHolder, "not what its name says", func(r *Request) { r.Holder.Value = "ssh-rsa" + strings.TrimPrefix(aKey, "ssh-ed25519") }, ""},
	{"a key and more", RuleHolder, "can't be read", func(r *Request) { r.Holder.Value = longer(aKey) }, ""},
	{"a certificate", RuleHolder, "is a certificate already", func(r *Request) { r.Holder.Value = certified() }, ""},
	{"a short key", RuleHolder, "fewer than 2048 bits", func(r *Request) { r.Holder.Value = shortKey() }, ""},
	{"too long a life", RuleLifetime, "over the ceiling", func(r *Request) { r.TTL = 16 * time.Minute }, ""},
}

// certified is aKey with a certificate, as a key of its own.
func certified() string {
	ca, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		panic(err)
	}
	cert := &ssh.Certificate{Key: ca.PublicKey(), CertType: ssh.UserCert}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert)))
}

func shortKey() string {
	n := new(big.Int).SetBit(big.NewInt(1), 1023, 1)
	key, err := ssh.NewPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// longer is a key's line with one byte more in its blob.
func longer(line string) string {
	name, text, _ := strings.Cut(line, " ")
	blob, _ := base64.StdEncoding.DecodeString(text)
	return name + " " + base64.StdEncoding.EncodeToString(append(blob, 0))
}

func TestEachRuleDeniesACertificate(t *testing.T) {
	g := sshGate(t, login())
	for _, c := range certDenials {
		r := loginRequest(t)
		c.edit(&r)
		a, err := g.Approve(t.Context(), r)
		if d := denied(t, a, err); d.Rule != c.rule || !strings.Contains(d.Error(), c.says) {
			t.Errorf("%s: got %v; want rule %s, saying %q", c.name, d, c.rule, c.says)
		}
		leftOut(t, g, c.rule, r, c.without)
		if e := g.Explain(t.Context(), r); e.Allowed || e.Rule != c.rule {
			t.Errorf("%s: Explain says %+v", c.name, e)
		}
	}
	if e := g.Explain(t.Context(), loginRequest(t)); !e.Allowed {
		t.Errorf("Explain: %+v", e)
	}
}

func TestHostPrincipals(t *testing.T) {
	g := sshGate(t, host())
	for name, want := range map[string]string{
		"a.example": "", "x.db.example": "", "web-": "", "web-1": "",
		"b.example": "not allowed", ".db.example": "not allowed", "db.example": "not allowed",
		"x.y.db.example": "not allowed", "xdb.example": "not allowed", "x.db.example.evil": "not allowed",
		"*.db.example": "malformed", "X.db.example": "malformed", "x?.db.example": "malformed",
	} {
		r := loginRequest(t)
		r.Profile, r.Principals, r.Options, r.Extensions = "host", []string{name}, nil, nil
		a, err := g.Approve(t.Context(), r)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if d := denied(t, a, err); d.Rule != RulePrincipals || !strings.Contains(d.Reason, want) {
			t.Errorf("%s: got %v, want %q", name, d, want)
		}
	}
}

var certWrittenDenials = []struct {
	name, rule, says string
	edit             func(*plugins.Grant)
	without          string
}{
	{"an issuer", RuleIssuer, "is not that of", func(g *plugins.Grant) { g.Issuer = "x" }, ""},
	{"a host's", RuleType, `"host"`, func(g *plugins.Grant) { g.Type = "host" }, ""},
	{"an audience", RuleAudience, "has no audience", func(g *plugins.Grant) { g.Audience = []string{"a"} }, ""},
	{"claims", RuleClaims, "has no claims", func(g *plugins.Grant) { g.Claims = []byte(`{}`) }, ""},
	{"serial zero", RuleSerial, "zero", func(g *plugins.Grant) { g.Serial = 0 }, ""},
	{"no nonce", RuleTokenID, "32 bytes", func(g *plugins.Grant) { g.TokenID = "" }, ""},
	{"short nonce", RuleTokenID, "32 bytes", func(g *plugins.Grant) { g.TokenID = "AAAA" }, ""},
	{"for ever", RuleIssuedAt, "missing", func(g *plugins.Grant) { g.IssuedAt, g.NotBefore = time.Time{}, time.Time{} }, RuleNotBefore},
	{"an issue of its own", RuleIssuedAt, "missing", func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(time.Second) }, ""},
	{"back-dated too far", RuleIssuedAt, "2m5s before", func(g *plugins.Grant) { g.NotBefore = noonAt(-2*time.Minute - 6*time.Second); g.IssuedAt = g.NotBefore }, ""},
	{"later", RuleIssuedAt, "off our clock", func(g *plugins.Grant) { g.NotBefore = noonAt(6 * time.Second); g.IssuedAt = g.NotBefore }, ""},
	{"no end", RuleExpires, "missing", func(g *plugins.Grant) { g.Expires = time.Time{} }, RuleNotBefore},
	{"too long a life", RuleLifetime, "over the ceiling", func(g *plugins.Grant) { g.Expires = noonAt(15*time.Minute + time.Second) }, ""},
	{"no principals", RulePrincipals, "missing", func(g *plugins.Grant) { g.Principals = nil }, ""},
	{"root", RulePrincipals, "not allowed", func(g *plugins.Grant) { g.Principals = []string{"root"} }, ""},
	{"fixed option missing", RuleOptions, "is missing", func(g *plugins.Grant) { delete(g.Options, "force-command") }, ""},
	{"required option missing", RuleOptions, "is missing", func(g *plugins.Grant) { delete(g.Options, "source-address") }, ""},
	{"fixed extension missing", RuleExtensions, "is missing", func(g *plugins.Grant) { g.Extensions = nil }, ""},
	{"extension not listed", RuleExtensions, "not allowed", func(g *plugins.Grant) { g.Extensions["permit-agent-forwarding"] = "" }, ""},
	{"no key", RuleHolder, "missing", func(g *plugins.Grant) { g.Holder = plugins.Holder{} }, ""},
}

func noonAt(d time.Duration) time.Time { return noon.Truncate(time.Second).Add(d) }

func TestEachRuleDeniesAWrittenCertificate(t *testing.T) {
	g, me := sshGate(t, login()), self(t)
	for _, c := range certWrittenDenials {
		w := loginWritten()
		c.edit(&w)
		a, err := g.ApproveWritten(t.Context(), me, "login", w)
		if d := denied(t, a, err); d.Rule != c.rule || !strings.Contains(d.Error(), c.says) {
			t.Errorf("%s: got %v; want rule %s, saying %q", c.name, d, c.rule, c.says)
		}
		a, err = g.Without(c.rule).ApproveWritten(t.Context(), me, "login", w)
		switch {
		case c.without == "" && err != nil:
			t.Errorf("%s: without the check: got %v; want the fault to show", c.name, err)
		case c.without != "" && denied(t, a, err).Rule != c.without:
			t.Errorf("%s: without the check: got %v; want rule %q", c.name, err, c.without)
		}
	}
}

// ssh-keygen writes a start of 59 to 119 seconds ago and an end that counts
// from now: `-V +15m` is a lifetime of 15 minutes, not of 17.
func TestWhatSSHKeygenWritesIsApproved(t *testing.T) {
	g := sshGate(t, login())
	for _, back := range []time.Duration{0, 59 * time.Second, 119 * time.Second} {
		w := loginWritten()
		w.NotBefore, w.Expires = noonAt(-back), noonAt(15*time.Minute)
		w.IssuedAt = w.NotBefore
		a, err := g.ApproveWritten(t.Context(), self(t), "login", w)
		if err != nil {
			t.Errorf("%v back: %v", back, err)
			continue
		}
		got, err := a.Use()
		want := w
		want.Profile = "login"
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("grant (-want +got): %v\n%s", err, diff)
		}
	}
}

func TestAWrittenCertificateCannotChangeAfterwards(t *testing.T) {
	w := loginWritten()
	a, err := sshGate(t, login()).ApproveWritten(t.Context(), self(t), "login", w)
	if err != nil {
		t.Fatal(err)
	}
	w.Principals[0] = "root"
	clear(w.Options)
	w.Extensions["permit-pty"] = ""
	got, err := a.Use()
	if err != nil || got.Principals[0] != "svc-a" || len(got.Options) != 2 || len(got.Extensions) != 1 {
		t.Errorf("the grant changed: %+v, %v", got, err)
	}
}

func TestNewNamesEachMistakeOfACertificate(t *testing.T) {
	for _, c := range []struct {
		path, says string
		edit       func(*Profile)
	}{
		{"issuer", "has no issuer", func(p *Profile) { p.Issuer = "x" }},
		{"audiences", "has no audiences", func(p *Profile) { p.Audiences = []string{"x"} }},
		{"scopes", "has no scopes", func(p *Profile) { p.Scopes = []string{"x"} }},
		{"claims", "has no claims", func(p *Profile) { p.RequiredClaims = []string{"x"} }},
		{"assertion", "has no assertion", func(p *Profile) { p.AllowAssertion = true }},
		{"type", "no type of SSH certificate", func(p *Profile) { p.Type = "pay+jwt" }},
		{"principals", "the list is empty", func(p *Profile) { p.Principals = nil }},
		{"principals[0]", "every one", func(p *Profile) { p.Principals[0] = "*" }},
		{"principals[0]", "malformed", func(p *Profile) { p.Principals[0] = "*.example" }},
		{"principals[0]", "malformed", func(p *Profile) { p.Principals[0] = "a b" }},
		{"principals[0]", "malformed", func(p *Profile) { p.Principals[0] = "a**" }},
		{"principals[1]", "named twice", func(p *Profile) { p.Principals[1] = p.Principals[0] }},
		{"options.allowed[0]", "is not known", func(p *Profile) { p.AllowedOptions[0] = "force-comand" }},
		{"options.allowed[0]", "left to callers", func(p *Profile) { p.AllowedOptions[0] = "x@y.example" }},
		{"options.allowed[0]", "named twice", func(p *Profile) { p.AllowedOptions[0] = "force-command" }},
		{"options.required[0]", "named twice", func(p *Profile) { p.RequiredOptions[0] = "verify-required" }},
		{"options.fixed.force-command", "a command is wanted", func(p *Profile) { p.FixedOptions["force-command"] = "" }},
		{"options.fixed.nope", "is not known", func(p *Profile) { p.FixedOptions["nope"] = "" }},
		{"extensions.allowed[0]", "is not known", func(p *Profile) { p.AllowedExtensions[0] = "permit-x11-forwarding" }},
		{"extensions.allowed[1]", "named twice", func(p *Profile) { p.AllowedExtensions = append(p.AllowedExtensions, "permit-pty") }},
		{"extensions.fixed.permit-user-rc", "has no value", func(p *Profile) { p.FixedExtensions["permit-user-rc"] = "x" }},
		{"extensions.allowed[0]", "no meaning in a host", func(p *Profile) { p.Type = "host" }},
	} {
		p := login()
		c.edit(&p)
		o := options()
		o.Serial = func() (uint64, error) { return 1, nil }
		_, err := New([]Profile{p}, o)
		found := false
		for _, e := range strings.Split(errorText(err), "\n") {
			found = found || strings.HasPrefix(e, "profiles[0]."+c.path+" ") && strings.Contains(e, c.says)
		}
		if !found {
			t.Errorf("got %v; want %s saying %q", err, c.path, c.says)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSerialNumbersAreNeededAndNeverZero(t *testing.T) {
	if _, err := New([]Profile{login()}, options()); err == nil || !strings.Contains(err.Error(), "serial") {
		t.Errorf("New without a source: got %v", err)
	}
	broken := errors.New("disk full")
	for _, serial := range []func() (uint64, error){
		func() (uint64, error) { return 7, broken }, func() (uint64, error) { return 0, nil },
	} {
		o := options()
		o.Serial = serial
		g, err := New([]Profile{login()}, o)
		if err != nil {
			t.Fatal(err)
		}
		a, err := g.Approve(t.Context(), loginRequest(t))
		var d *Denial
		if a != nil || err == nil || errors.As(err, &d) {
			t.Errorf("got %v, %v; want a fault", a, err)
		}
	}
}

func TestNoSerialIsSpentOnARefusal(t *testing.T) {
	o := options()
	o.Serial = func() (uint64, error) { t.Error("a serial was drawn"); return 1, nil }
	g, err := New([]Profile{login()}, o)
	if err != nil {
		t.Fatal(err)
	}
	r := loginRequest(t)
	g.Explain(t.Context(), r)
	r.Principals = nil
	a, err := g.Approve(t.Context(), r)
	denied(t, a, err)
}

func TestConditionsSeeACertificate(t *testing.T) {
	for text, allowed := range map[string]bool{
		`permit(principal, action, resource) when { context.principals.contains("deploy") };`:                               true,
		`permit(principal, action, resource) when { context.principals.contains("root") };`:                                 false,
		`permit(principal, action, resource) when { context.options["force-command"] == "/bin/deploy" };`:                   true,
		`permit(principal, action, resource) when { context.extensions has "permit-pty" };`:                                 true,
		permitAll + `forbid(principal, action, resource) when { context.extensions has "permit-pty" };`:                     false,
		`permit(principal, action, resource) when { context.holder == "sshkey" && context.options has "verify-required" };`: false,
	} {
		p := login()
		withPolicy(text)(&p)
		g := sshGate(t, p)
		_, err := g.Approve(t.Context(), loginRequest(t))
		if (err == nil) != allowed {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestPASETOHasOneAudienceAndAnAssertion(t *testing.T) {
	fixed := tenant(func(p *Profile) { p.Name, p.AllowAssertion, p.FixedAssertion = "fixed", false, []byte("t=1") })
	none := tenant(func(p *Profile) { p.Name, p.AllowAssertion = "none", false })
	g := sshGate(t, tenant(), fixed, none)
	for _, c := range []struct {
		profile, assertion, rule, want string
	}{
		{"tenant", "", "", ""}, {"tenant", "t=2", "", "t=2"},
		{"fixed", "", "", "t=1"}, {"fixed", "t=1", "", "t=1"}, {"fixed", "t=2", RuleAssertion, "fixed"},
		{"none", "", "", ""}, {"none", "x", RuleAssertion, "allows no assertion"},
		{"tenant", strings.Repeat("x", 4097), RuleAssertion, "the limit is 4096"},
	} {
		r := request(t)
		r.Profile, r.Assertion = c.profile, []byte(c.assertion)
		a, err := g.Approve(t.Context(), r)
		if c.rule != "" {
			if d := denied(t, a, err); d.Rule != c.rule || !strings.Contains(d.Reason, c.want) {
				t.Errorf("%s, %.9q: got %v", c.profile, c.assertion, d)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %q: %v", c.profile, c.assertion, err)
			continue
		}
		if got, _ := a.Use(); string(got.Assertion) != c.want {
			t.Errorf("%s, %q: got %q, want %q", c.profile, c.assertion, got.Assertion, c.want)
		}
	}
	w := written()
	if _, err := g.ApproveWritten(t.Context(), self(t), "fixed", w); err == nil {
		t.Error("a written body without the fixed assertion was approved")
	}
	r := request(t)
	r.Profile, r.Audience = "tenant", []string{"https://pay.example", "https://refund.example"}
	a, err := g.Approve(t.Context(), r)
	if d := denied(t, a, err); d.Rule != RuleAudience || !strings.Contains(d.Reason, "one audience") {
		t.Errorf("two audiences: got %v", d)
	}
	leftOut(t, g, RuleAudience, r, "")
	p := tenant(func(p *Profile) { p.FixedAssertion = []byte("x") })
	if _, err := New([]Profile{p}, options()); err == nil {
		t.Error("an assertion that is both fixed and allowed was taken")
	}
}

func TestRequiredClaims(t *testing.T) {
	g := gate(t, func(p *Profile) { p.RequiredClaims = []string{"client_id"} })
	r := request(t)
	a, err := g.Approve(t.Context(), r)
	if d := denied(t, a, err); d.Rule != RuleClaims || !strings.Contains(d.Reason, `"client_id" is missing`) {
		t.Errorf("without: got %v", d)
	}
	leftOut(t, g, RuleClaims, r, "")
	r.Claims = []byte(`{"client_id":"till"}`)
	if a, err = g.Approve(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got, _ := a.Use()
	if string(got.Claims) != `{"client_id":"till","env":"prod","tier":2}` {
		t.Errorf("claims: got %s", got.Claims)
	}
	w := written()
	if a, err = g.ApproveWritten(t.Context(), self(t), "pay", w); denied(t, a, err).Rule != RuleClaims {
		t.Errorf("written without: got %v", err)
	}
	w.Claims = []byte(`{"client_id":"till","env":"prod","tier":2}`)
	if _, err := g.ApproveWritten(t.Context(), self(t), "pay", w); err != nil {
		t.Error(err)
	}
}

func TestACertificatesProfileCannotBeWidenedThroughACopy(t *testing.T) {
	mine := login()
	g := sshGate(t, mine)
	given, _ := g.Profile("login")
	for _, p := range []Profile{mine, given} {
		p.Principals[0], p.AllowedExtensions[0], p.RequiredOptions[0] = "root", "permit-port-forwarding", "verify-required"
		p.FixedOptions["force-command"] = "/bin/sh"
		maps.Copy(p.FixedExtensions, map[string]string{"permit-agent-forwarding": ""})
	}
	r := loginRequest(t)
	a, err := g.Approve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := a.Use(); got.Options["force-command"] != "/bin/deploy" || len(got.Extensions) != 2 {
		t.Errorf("got %+v", got)
	}
	r.Principals = []string{"root"}
	a, err = g.Approve(t.Context(), r)
	denied(t, a, err)
}
