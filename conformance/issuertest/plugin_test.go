package issuertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// A puppet is a plug-in without a process, honest or with a planted fault: the
// grant as JSON in hex, in the one form that it writes.
type puppet struct {
	fault  string
	number int // of the process
	faults atomic.Int64
	calls  atomic.Int64
	busy   atomic.Int64
	last   atomic.Pointer[plugins.Draft]
}

var errEnded = errors.New("the process is down")

func (p *puppet) PID() int     { return 100 + p.number + int(p.faults.Load()) }
func (p *puppet) Faults() int  { return int(p.faults.Load()) }
func (p *puppet) Close() error { return nil }

func (p *puppet) Describe(context.Context) (plugins.Description, error) {
	d := plugins.Description{Format: "puppet", Algorithms: []signers.Algorithm{signers.ECDSAP256, signers.Ed25519}, Inspects: true}
	switch {
	case p.fault == "has no name":
		d.Format = ""
	case p.fault == "is another at its second start" && p.number > 0:
		d.Algorithms = d.Algorithms[:1]
	}
	return d, nil
}

func (p *puppet) die() error {
	p.faults.Add(1)
	return errEnded
}

func (p *puppet) Prepare(ctx context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	n := p.busy.Add(1)
	defer p.busy.Add(-1)
	if p.fault == "is slow under load" && p.calls.Load() > 100 && n > 1 {
		return plugins.Draft{}, p.die()
	}
	if err := ctx.Err(); err != nil {
		if p.fault == "dies when a caller leaves" {
			return plugins.Draft{}, p.die()
		}
		return plugins.Draft{}, err
	}
	if p.fault == "dies of deep claims" && bytes.Count(g.Claims, []byte("[")) > 1000 {
		return plugins.Draft{}, p.die()
	}
	if k.Algorithm != signers.ECDSAP256 && k.Algorithm != signers.Ed25519 && p.fault != "takes any algorithm" {
		return plugins.Draft{}, plugins.ErrRefused
	}
	if g.Serial != 0 {
		if p.fault != "drops a serial" {
			return plugins.Draft{}, plugins.ErrRefused
		}
		g.Serial = 0
	}
	d, err := p.draft(g, k)
	if p.fault == "mixes up" && p.calls.Load() > 66 {
		if old := p.last.Swap(&d); old != nil {
			return *old, nil
		}
	}
	return d, err
}

func (p *puppet) draft(g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	kid := k.ID
	switch p.fault {
	case "counts":
		kid += fmt.Sprint(p.calls.Load())
	case "knows its process":
		kid += fmt.Sprint(p.number)
	case "widens":
		g.Scope = append(g.Scope, "admin")
	}
	p.calls.Add(1)
	text, err := json.Marshal(body{kid, string(k.Algorithm), g})
	if err != nil { // a year of five digits
		return plugins.Draft{}, fmt.Errorf("%w: %w", plugins.ErrRefused, err)
	}
	d := plugins.Draft{ToBeSigned: []byte(hex.EncodeToString(text))}
	d.Frame = puppetFrame(d.ToBeSigned)
	if p.fault == "no form" {
		d.Frame.Form = 0
	}
	return d, nil
}

func puppetFrame(tbs []byte) plugins.Frame {
	return plugins.Frame{Prefix: append(bytes.Clone(tbs), '.'), Head: []byte("h"), Tail: []byte("t"), Suffix: []byte("!"), Form: plugins.Raw, Encoding: plugins.Binary}
}

func (p *puppet) Inspect(_ context.Context, d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) (plugins.Grant, error) {
	if p.fault == "chokes on zeros" && bytes.HasPrefix(d.ToBeSigned, []byte{0, 0}) {
		return plugins.Grant{}, errEnded
	}
	b, err := read(d.ToBeSigned)
	if err != nil {
		return plugins.Grant{}, err
	}
	again, err := json.Marshal(b)
	if err != nil || hex.EncodeToString(again) != string(d.ToBeSigned) && p.fault != "reads what it would not write" {
		return plugins.Grant{}, plugins.ErrRefused
	}
	if p.fault != "takes any key" && (b.Kid != k.ID || b.Alg != string(k.Algorithm)) {
		return plugins.Grant{}, plugins.ErrRefused
	}
	lax := []string{"does not look at the frame", "no form", "reads what it would not write"} // whose frame would show a changed byte
	if !slices.Contains(lax, p.fault) && !d.Frame.Equal(puppetFrame(d.ToBeSigned)) {
		return plugins.Grant{}, plugins.ErrRefused
	}
	if t == nil || p.fault == "does not verify" {
		return b.Grant, nil
	}
	return b.Grant, p.verify(d, k, t)
}

func (p *puppet) verify(d plugins.Draft, k plugins.VerifyingKey, t plugins.Token) error {
	raw, ok := bytes.CutPrefix(t, append(bytes.Clone(d.Frame.Prefix), 'h'))
	raw, tail := bytes.CutSuffix(raw, []byte("t!"))
	if !ok || !tail {
		return plugins.ErrRefused
	}
	sig := raw
	if k.Algorithm == signers.ECDSAP256 {
		var err error
		if sig, err = k.Algorithm.DERFromRaw(raw); err != nil {
			return plugins.ErrRefused
		}
	}
	if k.Algorithm.Verify(k.Public, d.ToBeSigned, sig) != nil {
		return plugins.ErrRefused
	}
	return nil
}

func puppetSubject(fault string) Plugin {
	p := &puppet{fault: fault}
	s := Plugin{
		Issuer: p, Inspector: p, Grant: ExampleGrant("puppet"), Deadline: time.Second,
		Again: func(context.Context) (Running, error) { return &puppet{fault: fault, number: 1}, nil },
	}
	s.Vectors, _ = ReadVectors(strings.NewReader(puppetVectors()))
	if fault == "another release" {
		s.Vectors[0].Draft.ToBeSigned[0] ^= 1
	}
	return s
}

// plainText is what an honest puppet writes, before the hex.
const plainText = `{"Kid":"k","Alg":"ed25519","Grant":{"Profile":"","Type":"t","Issuer":"i","TokenID":"j","Subject":"s","Audience":null,"Scope":null,` +
	`"IssuedAt":"1970-01-01T00:00:01Z","NotBefore":"1970-01-01T00:00:01Z","Expires":"1970-01-01T00:00:02Z","Holder":{"Kind":"","Value":""},` +
	`"Claims":null,"Assertion":null,"Serial":0,"Principals":null,"Options":null,"Extensions":null}}`

// puppetVectors are one grant that it carries, and one that it does not.
func puppetVectors() string {
	const in = `{"name": %q, "grant": {"type": "t", "issuer": "i", "token_id": "j", "subject": "s", "issued_at": 1, "not_before": 1, "expires": 2, "serial": %d},
		"key": {"id": "k", "algorithm": "ed25519", "public": "MCowBQYDK2VwAyEAO2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="}, `
	text := hex.EncodeToString([]byte(plainText))
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	return fmt.Sprintf(in+`"draft": {"to_be_signed": %q, "prefix": %q, "head": "aA==", "tail": "dA==", "suffix": "IQ==", "form": 1, "encoding": 1}}`, "plain", 0, b64(text), b64(text+".")) +
		fmt.Sprintf(in+`"refused": true}`, "serial", 3)
}

func TestAnHonestPluginPasses(t *testing.T) {
	for _, c := range PluginChecks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, puppetSubject("")) })
	}
}

func TestEachFaultOfAPluginIsCaughtByTheCheckForIt(t *testing.T) {
	faults := map[string]string{
		"has no name":                    "describes",
		"is another at its second start": "starts-again",
		"counts":                         "pure",
		"knows its process":              "same-in-two-processes",
		"another release":                "vectors",
		"drops a serial":                 "refuses-what-it-can-not-carry",
		"takes any algorithm":            "refuses-other-algorithms",
		"widens":                         "inspectable",
		"takes any key":                  "names-its-key",
		"reads what it would not write":  "flipped-bits-show",
		"does not look at the frame":     "frame-is-read",
		"dies of deep claims":            "odd-grants",
		"chokes on zeros":                "odd-drafts",
		"no form":                        "frames-fit-each-algorithm",
		"does not verify":                "wrong-signatures",
		"mixes up":                       "concurrent",
		"is slow under load":             "in-time",
		"dies when a caller leaves":      "callers-may-leave",
	}
	shown := map[string]bool{}
	for _, c := range PluginChecks() {
		for fault, name := range faults {
			if name == c.Name {
				shown[name] = true
				if !catchesPlugin(c.Run, puppetSubject(fault)) {
					t.Errorf("%s: not caught by %s", fault, name)
				}
			}
		}
		if !shown[c.Name] {
			t.Errorf("%s: no planted fault shows that it can fail", c.Name)
		}
	}
	if len(shown) != len(faults) {
		t.Errorf("%d checks were shown to fail, of %d", len(shown), len(faults))
	}
}

func TestAMisspeltVectorIsRefused(t *testing.T) {
	if _, err := ReadVectors(strings.NewReader(`{"name": "a", "grnat": {}}`)); err == nil {
		t.Error("ReadVectors: got no error")
	}
	if _, err := ReadGrant(strings.NewReader(`{"typ": "a"}`)); err == nil {
		t.Error("ReadGrant: got no error")
	}
	g, err := ReadGrant(strings.NewReader(`{"type": "a", "audience": ["b"], "claims": {"c": [1, 2]}, "expires": 5}`))
	if err != nil || g.Type != "a" || !slices.Equal(g.Audience, []string{"b"}) || string(g.Claims) != `{"c":[1,2]}` || g.Expires.Unix() != 5 {
		t.Errorf("ReadGrant: got %+v, %v", g, err)
	}
}
