package issuertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// A toy is an honest format, or one with a planted fault: the grant as JSON in
// hex, with kid and algorithm.
type toy struct {
	fault string
	calls atomic.Int64
	last  atomic.Pointer[plugins.Grant]
}

type body struct {
	Kid, Alg string
	Grant    plugins.Grant
}

func (y *toy) Describe(context.Context) (plugins.Description, error) {
	d := plugins.Description{Format: "toy", Algorithms: []signers.Algorithm{signers.ECDSAP256, signers.Ed25519}}
	if y.fault == "has no name" {
		d.Format = ""
	}
	return d, nil
}

func (y *toy) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	if _, err := k.Algorithm.Params(); err != nil {
		return plugins.Draft{}, fmt.Errorf("%w: %w", err, plugins.ErrRefused)
	}
	if g.Serial != 0 && y.fault != "drops what it can't carry" {
		return plugins.Draft{}, plugins.ErrRefused
	}
	switch y.fault {
	case "counts":
		g.TokenID = fmt.Sprint(g.TokenID, y.calls.Add(1))
	case "widens":
		g.Scope = append(g.Scope, "admin")
	case "mixes up":
		mine := g
		if old := y.last.Swap(&mine); old != nil && y.calls.Add(1) > 1 {
			g = *old
		}
	}
	text, err := json.Marshal(body{k.ID, string(k.Algorithm), g})
	if err != nil {
		return plugins.Draft{}, err
	}
	d := plugins.Draft{ToBeSigned: []byte(hex.EncodeToString(text))}
	d.Frame, _ = y.Frame(d.ToBeSigned)
	if y.fault == "another frame" {
		d.Frame.Suffix = []byte("x")
	}
	return d, nil
}

func (y *toy) Frame(tbs []byte) (plugins.Frame, error) {
	f := plugins.Frame{Prefix: append(bytes.Clone(tbs), '.'), Form: plugins.DER, Encoding: plugins.Base64URL}
	if y.fault == "no form" {
		f.Form = 0
	}
	return f, nil
}

func read(tbs []byte) (body, error) {
	var b body
	text, err := hex.DecodeString(string(tbs))
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", plugins.ErrRefused, err)
	}
	return b, err
}

func (y *toy) KeyID(tbs []byte) (string, error) {
	b, err := read(tbs)
	return b.Kid, err
}

func (y *toy) Inspect(tbs []byte, k plugins.VerifyingKey) (plugins.Grant, error) {
	if y.fault == "does not look" && len(tbs) > 0 {
		return *y.last.Load(), nil
	}
	b, err := read(tbs)
	if err == nil && y.fault != "takes any key" && (b.Kid != k.ID || b.Alg != string(k.Algorithm)) {
		err = plugins.ErrRefused
	}
	return b.Grant, err
}

func (y *toy) Parse(t plugins.Token, _ plugins.VerifyingKey, _ []byte) ([]byte, []byte, error) {
	i := bytes.LastIndexByte(t, '.')
	if i < 0 {
		return nil, nil, plugins.ErrRefused
	}
	sig := make([]byte, len(t))
	n, err := base64.RawURLEncoding.Decode(sig, t[i+1:])
	return t[:i], sig[:n], err
}

func subject(fault string) Subject {
	at := time.Unix(1767323045, 0).UTC()
	g := plugins.Grant{Type: "toy", TokenID: "t", Subject: "s", Audience: []string{"a"}, IssuedAt: at, NotBefore: at, Expires: at.Add(time.Minute)}
	bad := g
	bad.Serial = 7
	y := &toy{fault: fault}
	if fault == "does not look" {
		y.last.Store(&g)
	}
	return Subject{Issuer: y, Inspector: y, Grant: g, Refused: map[string]plugins.Grant{"a serial": bad}}
}

func TestAnHonestFormatPasses(t *testing.T) {
	for _, c := range Checks() {
		if c.Name == "flipped-bits-show" {
			continue // JSON in hex has two texts for a letter: the toy is not canonical
		}
		t.Run(c.Name, func(t *testing.T) { c.Run(t, subject("")) })
	}
}

// A witness is a conformance.T that notes failure instead of failing.
type witness struct{ failed bool }

type stop struct{}

func (w *witness) Helper()                  {}
func (w *witness) Context() context.Context { return context.Background() }
func (w *witness) Logf(string, ...any)      {}
func (w *witness) Errorf(string, ...any)    { w.failed = true }
func (w *witness) Fatalf(string, ...any)    { w.failed = true; panic(stop{}) }

func catches(c conformance.Check[Subject], s Subject) bool { return fails(c.Run, s) }

func catchesPlugin(run func(conformance.T, Plugin), p Plugin) bool { return fails(run, p) }

// fails reports whether a check fails; a Skip ends its goroutine.
func fails[S any](run func(conformance.T, S), s S) bool {
	w := &witness{}
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		run(w, s)
	}()
	if r := <-done; r != nil && r != (stop{}) {
		panic(r)
	}
	return w.failed
}

func TestEachFaultIsCaughtByTheCheckForIt(t *testing.T) {
	faults := map[string]string{
		"has no name":               "describes",
		"counts":                    "pure",
		"widens":                    "inspectable",
		"takes any key":             "names-its-key",
		"another frame":             "frame-is-computable",
		"no form":                   "joins-for-each-algorithm",
		"drops what it can't carry": "refuses-what-it-can-not-carry",
		"does not look":             "flipped-bits-show",
		"mixes up":                  "concurrent",
	}
	shown := map[string]bool{}
	for fault, name := range faults {
		for _, c := range Checks() {
			if c.Name == name {
				shown[name] = true
				if !catches(c, subject(fault)) {
					t.Errorf("%s: not caught by %s", fault, name)
				}
			}
		}
	}
	for _, c := range Checks() {
		if !shown[c.Name] {
			t.Errorf("%s: no planted fault shows that it can fail", c.Name)
		}
	}
}
