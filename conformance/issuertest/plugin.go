package issuertest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// The levels of the suite for plug-ins; each asks for more than the one below.
const (
	LevelHandshake   = iota // it starts, and says what it is
	LevelPure               // the same in, the same out
	LevelRefuses            // what it can't carry, it refuses
	LevelInspectable        // what it drafts reads back as the grant, and nothing else does
	LevelInputs             // odd grants neither end it nor bend it
	LevelSignatures         // tokens with another signature are not its tokens
	LevelConcurrency        // many at once
	LevelDeadlines          // answers in time
)

// A Running is a process of a plug-in.
type Running interface {
	plugins.Issuer
	PID() int    // of the process at present
	Faults() int // how often it ended, or had to be ended
	Close() error
}

// A Plugin is an issuer as the daemon meets it: over the wire.
type Plugin struct {
	Issuer    Running
	Inspector plugins.ForeignInspector               // another process; nil: some checks are left out
	Again     func(context.Context) (Running, error) // starts one more process that drafts
	Grant     plugins.Grant                          // one that the format carries
	Vectors   []Vector
	Deadline  time.Duration // of one draft

	// Kid is what the format calls a public key, nil if it takes any name.
	Kid func(crypto.PublicKey) (string, error)
}

// PluginChecks are the promises of a plug-in, by level.
func PluginChecks() []conformance.Check[Plugin] {
	return []conformance.Check[Plugin]{
		{Name: "describes", Level: LevelHandshake, Why: "the daemon starts no issuer that does not say what it is", Run: pluginDescribes},
		{Name: "starts-again", Level: LevelHandshake, Why: "a process that ends is started again, and must be the same issuer", Run: startsAgain},
		{Name: "pure", Level: LevelPure, Why: "an issuer that reads a clock or a random number says more than it was granted", Run: pluginPure},
		{Name: "same-in-two-processes", Level: LevelPure, Why: "what a process remembers must not show in a token", Run: sameInTwo},
		{Name: "vectors", Level: LevelPure, Why: "bytes that verifiers rely on must not change with a release", Run: vectors},
		{Name: "refuses-what-it-can-not-carry", Level: LevelRefuses, Why: "a claim that is left out in silence is a right that is not checked", Run: refusesProbes},
		{Name: "refuses-other-algorithms", Level: LevelRefuses, Why: "a draft for an algorithm that it did not name would be one that it does not understand", Run: refusesAlgorithms},
		{Name: "inspectable", Level: LevelInspectable, Why: "the daemon signs only what reads back as the grant, whole", Run: pluginInspectable},
		{Name: "names-its-key", Level: LevelInspectable, Why: "bytes that name another key must not be signed by this one", Run: pluginNamesKey},
		{Name: "flipped-bits-show", Level: LevelInspectable, Why: "an inspector that passes over a changed byte passes over a changed right", Run: pluginFlips},
		{Name: "frame-is-read", Level: LevelInspectable, Why: "the frame is in the token and is not signed: nobody else looks at it", Run: frameIsRead},
		{Name: "odd-grants", Level: LevelInputs, Why: "what one caller asks for must not end the process under the others", Run: oddGrants},
		{Name: "odd-drafts", Level: LevelInputs, Why: "the inspector reads what a compromised issuer wrote", Run: oddDrafts},
		{Name: "frames-fit-each-algorithm", Level: LevelSignatures, Why: "a token is joined after the key was used: then it is too late to find that it does not fit", Run: framesFit},
		{Name: "wrong-signatures", Level: LevelSignatures, Why: "the second reading is the last before the token leaves", Run: wrongSignatures},
		{Name: "concurrent", Level: LevelConcurrency, Why: "many requests are prepared at the same time, and each gets its own draft", Run: pluginConcurrent},
		{Name: "in-time", Level: LevelDeadlines, Why: "a process that misses the deadline is ended, with every request under way", Run: inTime},
		{Name: "callers-may-leave", Level: LevelDeadlines, Why: "a caller that gives up costs nobody else anything", Run: callersLeave},
	}
}

// needInspector leaves a check out if nothing reads back.
func needInspector(t conformance.T, p Plugin) {
	t.Helper()
	if p.Inspector == nil {
		conformance.Skip(t, "the plug-in does not serve Inspect, and no other program was named\nhint: the daemon then signs with it only with keys made with allow_blind_signing: true")
	}
}

// unharmed wants the process to have outlived the check.
func unharmed(t conformance.T, p Plugin, pid int) {
	t.Helper()
	if p.Issuer.PID() != pid || p.Issuer.Faults() != 0 {
		t.Errorf("the process ended, or was ended: %d faults\nhint: the lines that it wrote say why", p.Issuer.Faults())
	}
}

func (p Plugin) newKey(t conformance.T, alg signers.Algorithm) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	return verifyingKey(t, Subject{Kid: p.Kid}, alg)
}

// tokenID is another id of the same form: some formats take no other.
func (p Plugin) tokenID(n int) string {
	raw, err := base64.RawURLEncoding.DecodeString(p.Grant.TokenID)
	if err != nil || len(raw) < 4 {
		return fmt.Sprint(p.Grant.TokenID, n)
	}
	binary.BigEndian.PutUint32(raw, uint32(n)) //nolint:gosec // a small number
	return base64.RawURLEncoding.EncodeToString(raw)
}

func (p Plugin) key(t conformance.T) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	return p.newKey(t, p.algorithms(t)[0])
}

func (p Plugin) algorithms(t conformance.T) []signers.Algorithm {
	t.Helper()
	some := algorithms(t, Subject{Issuer: p.Issuer})
	if len(some) == 0 {
		t.Fatalf("no algorithm that this suite can check")
	}
	return some
}

func (p Plugin) draft(t conformance.T, k plugins.VerifyingKey) plugins.Draft {
	t.Helper()
	return prepare(t, Subject{Issuer: p.Issuer, Grant: p.Grant}, k)
}

func sameDraft(a, b plugins.Draft) bool {
	return bytes.Equal(a.ToBeSigned, b.ToBeSigned) && a.Frame.Equal(b.Frame)
}

func pluginDescribes(t conformance.T, p Plugin) { describes(t, Subject{Issuer: p.Issuer}) }

func startsAgain(t conformance.T, p Plugin) {
	other, err := p.Again(t.Context())
	if err != nil {
		t.Fatalf("a second process: %v", err)
	}
	defer func() { _ = other.Close() }()
	a, errA := p.Issuer.Describe(t.Context())
	b, errB := other.Describe(t.Context())
	if err := errors.Join(errA, errB); err != nil || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("Describe: got %+v from one process, %+v from the next, %v", a, b, err)
	}
}

func pluginPure(t conformance.T, p Plugin) {
	pure(t, Subject{Issuer: p.Issuer, Grant: p.Grant, Kid: p.Kid})
}

func sameInTwo(t conformance.T, p Plugin) {
	k, _ := p.key(t)
	// The first process has drafted something else before.
	g := p.Grant
	g.TokenID = p.tokenID(1)
	_, _ = p.Issuer.Prepare(t.Context(), g, k)
	other, err := p.Again(t.Context())
	if err != nil {
		t.Fatalf("a second process: %v", err)
	}
	defer func() { _ = other.Close() }()
	p2 := p
	p2.Issuer = other
	if !sameDraft(p.draft(t, k), p2.draft(t, k)) {
		t.Errorf("Prepare in two processes: got different drafts")
	}
}

func vectors(t conformance.T, p Plugin) {
	if len(p.Vectors) == 0 {
		conformance.Skip(t, "no vectors were given\nhint: --vectors FILE; plugins/README.md has the form")
	}
	for _, v := range p.Vectors {
		g, k, want, err := v.read()
		if err != nil {
			t.Errorf("vector %q: %v", v.Name, err)
			continue
		}
		got, err := p.Issuer.Prepare(t.Context(), g, k)
		switch {
		case v.Refused && !errors.Is(err, plugins.ErrRefused):
			t.Errorf("vector %q: got %v, want ErrRefused", v.Name, err)
		case !v.Refused && (err != nil || !sameDraft(got, want)):
			t.Errorf("vector %q: another draft, %v: %s", v.Name, err, differs(got, want))
		}
	}
}

// differs names the first part in which two drafts differ, and where.
func differs(got, want plugins.Draft) string {
	a, b := parts(&got.Frame), parts(&want.Frame)
	a["bytes to sign"], b["bytes to sign"] = &got.ToBeSigned, &want.ToBeSigned
	for _, name := range slices.Sorted(maps.Keys(a)) {
		x, y := *a[name], *b[name]
		i := 0
		for i < min(len(x), len(y)) && x[i] == y[i] {
			i++
		}
		if i < max(len(x), len(y)) {
			return fmt.Sprintf("%s, from byte %d: got %x, want %x", name, i, x[i:min(i+16, len(x))], y[i:min(i+16, len(y))])
		}
	}
	return fmt.Sprintf("got form %d and encoding %d, want %d and %d", got.Frame.Form, got.Frame.Encoding, want.Frame.Form, want.Frame.Encoding)
}

// probes are the grant with one thing more or other, each of which some format
// can't carry.
func probes(g plugins.Grant) map[string]plugins.Grant {
	all := map[string]plugins.Grant{}
	add := func(name string, edit func(*plugins.Grant)) {
		changed := g
		edit(&changed)
		all[name] = changed
	}
	add("a serial", func(g *plugins.Grant) { g.Serial = 7 })
	add("principals", func(g *plugins.Grant) { g.Principals = []string{"root"} })
	add("an option", func(g *plugins.Grant) { g.Options = map[string]string{"force-command": "true"} })
	add("an extension", func(g *plugins.Grant) { g.Extensions = map[string]string{"permit-pty": ""} })
	add("an assertion", func(g *plugins.Grant) { g.Assertion = []byte("a") })
	add("a jkt holder", func(g *plugins.Grant) {
		g.Holder = plugins.Holder{Kind: "jkt", Value: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}
	})
	add("a certificate's holder", func(g *plugins.Grant) {
		g.Holder = plugins.Holder{Kind: "x5t#S256", Value: "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}
	})
	add("a holder of an unknown kind", func(g *plugins.Grant) { g.Holder = plugins.Holder{Kind: "dance", Value: "tango"} })
	add("another type", func(g *plugins.Grant) { g.Type += "2" })
	add("another issuer", func(g *plugins.Grant) { g.Issuer += "2" })
	add("another subject", func(g *plugins.Grant) { g.Subject += "2" })
	add("another token id", func(g *plugins.Grant) { g.TokenID += "2" })
	add("one audience more", func(g *plugins.Grant) {
		g.Audience = append(g.Audience[:len(g.Audience):len(g.Audience)], "https://two.example")
	})
	add("one scope more", func(g *plugins.Grant) { g.Scope = append(g.Scope[:len(g.Scope):len(g.Scope)], "more") })
	add("a scope with a space", func(g *plugins.Grant) { g.Scope = []string{"a b"} })
	add("a further claim", func(g *plugins.Grant) { g.Claims = []byte(`{"team":"x"}`) })
	add("deep claims", func(g *plugins.Grant) { g.Claims = []byte(`{"a":{"b":[1,true,"x",{"c":-7}]}}`) })
	add("another time of issue", func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(-time.Second) })
	add("another first time", func(g *plugins.Grant) { g.NotBefore = g.NotBefore.Add(time.Second) })
	add("another last time", func(g *plugins.Grant) { g.Expires = g.Expires.Add(time.Second) })
	return all
}

func refusesProbes(t conformance.T, p Plugin) {
	k, _ := p.key(t)
	plain := p.draft(t, k)
	for what, g := range probes(p.Grant) {
		d, err := p.Issuer.Prepare(t.Context(), g, k)
		if errors.Is(err, plugins.ErrRefused) {
			continue
		}
		if err != nil {
			t.Errorf("Prepare of a grant with %s: %v", what, err)
			continue
		}
		if bytes.Equal(d.ToBeSigned, plain.ToBeSigned) {
			t.Errorf("Prepare of a grant with %s: the same bytes as without\nhint: refuse it, with plugins.ErrRefused", what)
		}
		if p.Inspector != nil {
			p.readsBack(t, what, d, g, k)
		}
	}
}

func (p Plugin) readsBack(t conformance.T, what string, d plugins.Draft, g plugins.Grant, k plugins.VerifyingKey) {
	t.Helper()
	says, err := p.Inspector.Inspect(t.Context(), d, k, nil)
	if err != nil {
		t.Errorf("%s: Inspect: %v", what, err)
	} else if field := says.Diff(g); field != "" {
		t.Errorf("%s: the draft says another %s than was granted", what, field)
	}
}

func refusesAlgorithms(t conformance.T, p Plugin) {
	d, err := p.Issuer.Describe(t.Context())
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	named := map[signers.Algorithm]bool{}
	for _, a := range d.Algorithms {
		named[a] = true
	}
	for _, a := range signers.Algorithms() {
		if params, err := a.Params(); err != nil || named[a] || params.Bits > 2048 {
			continue
		}
		k, _ := p.newKey(t, a)
		if _, err := p.Issuer.Prepare(t.Context(), p.Grant, k); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Prepare for %s, which it did not name: got %v, want ErrRefused", a, err)
		}
	}
}
