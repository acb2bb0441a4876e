package paseto_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/verifiers"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/signers"
)

// A tried token, and whether it is good.
type tried struct {
	Name      string `json:"name"`
	Token     string `json:"token"`
	Key       string `json:"key"`
	Assertion []byte `json:"assertion"`
	Audience  string `json:"audience"`
	Issuer    string `json:"issuer"`
	Type      string `json:"typ"`
	Fast      bool   `json:"fast"` // for the faster library alone
	good      bool
}

// but is the case with one thing changed, which makes it bad.
func (c tried) but(name string, change func(*tried)) tried {
	c.Name, c.good = c.Name+", "+name, false
	change(&c)
	return c
}

// maker makes tokens of one key that are good for five minutes from now, less
// what change does: the verifiers take no clock.
func maker(t *testing.T, alg signers.Algorithm) (make func(change func(*plugins.Grant)) string, paserk string) {
	t.Helper()
	k, sign := newKey(t, alg)
	paserk, err := paseto.PublicPASERK(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	return func(change func(*plugins.Grant)) string {
		g := grant()
		g.IssuedAt = time.Now().UTC().Truncate(time.Second)
		g.NotBefore, g.Expires = g.IssuedAt, g.IssuedAt.Add(5*time.Minute)
		change(&g)
		d, err := paseto.New().Prepare(context.Background(), g, k)
		if err != nil {
			t.Fatal(err)
		}
		token, err := d.Frame.Join(alg, sign(d.ToBeSigned))
		if err != nil {
			t.Fatal(err)
		}
		return string(token)
	}, paserk
}

// variants are a good token and every way that it is not.
func variants(t *testing.T, alg signers.Algorithm) []tried {
	t.Helper()
	token, paserk := maker(t, alg)
	_, other := maker(t, alg)
	good := tried{string(alg), token(func(*plugins.Grant) {}), paserk, grant().Assertion, "https://api.example", "https://signet.example", "at+paseto", false, true}
	plain := good
	plain.Name, plain.Assertion = good.Name+", no assertion", nil
	plain.Token = token(func(g *plugins.Grant) { g.Assertion, g.Claims, g.Holder, g.Scope = nil, nil, plugins.Holder{}, nil })
	part := strings.Split(good.Token, ".")
	join := func(footer string) string { return strings.Join([]string{part[0], part[1], part[2], footer}, ".") }
	footer, _ := rawURL.DecodeString(part[3])
	all := []tried{
		good, plain,
		good.but("another audience", func(c *tried) { c.Audience = "https://other.example" }),
		good.but("another issuer", func(c *tried) { c.Issuer = "https://other.example" }),
		good.but("another type", func(c *tried) { c.Type = "session" }),
		good.but("another assertion", func(c *tried) { c.Assertion = []byte("tenant 8") }),
		good.but("its assertion left out", func(c *tried) { c.Assertion = nil }),
		plain.but("an assertion too many", func(c *tried) { c.Assertion = []byte("tenant 7") }),
		good.but("another key", func(c *tried) { c.Key = other }),
		good.but("another version", func(c *tried) { c.Token = swapVersion(c.Token) }),
		good.but("no footer", func(c *tried) { c.Token = strings.Join(part[:3], ".") }),
		good.but("another typ in the footer", func(c *tried) {
			c.Token, c.Type = join(rawURL.EncodeToString(bytes.Replace(footer, []byte("at+paseto"), []byte("session"), 1))), "session"
		}),
		good.but("expired", func(c *tried) {
			c.Token = token(func(g *plugins.Grant) { back(g, time.Hour) })
		}),
		good.but("not yet valid", func(c *tried) {
			c.Token = token(func(g *plugins.Grant) { back(g, -time.Hour) })
		}),
	}
	return append(all, flips(t, good)...)
}

// back moves a grant's times.
func back(g *plugins.Grant, by time.Duration) {
	g.IssuedAt, g.NotBefore, g.Expires = g.IssuedAt.Add(-by), g.NotBefore.Add(-by), g.Expires.Add(-by)
}

// flips are a token with each byte of its payload and footer changed in turn,
// in one bit. Where time is short, each sixteenth.
func flips(t *testing.T, good tried) []tried {
	t.Helper()
	part := strings.Split(good.Token, ".")
	var all []tried
	for i := 2; i < 4; i++ {
		raw, err := base64.RawURLEncoding.DecodeString(part[i])
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if testing.Short() {
			step = 16
		}
		for at := 0; at < len(raw); at += step {
			raw[at] ^= 1 << (at % 8)
			changed := append([]string(nil), part...)
			changed[i] = rawURL.EncodeToString(raw)
			raw[at] ^= 1 << (at % 8)
			all = append(all, good.but(fmt.Sprintf("part %d, byte %d", i, at), func(c *tried) { c.Token, c.Fast = strings.Join(changed, "."), at%16 != 0 }))
		}
	}
	return all
}

// TestOtherLanguagesVerifyBothVersions has two libraries of Node.js verify
// tokens of both versions (one knows v4 alone) and refuse each that was changed
// in any byte, is old or early, is for somebody else or of another assertion.
func TestOtherLanguagesVerifyBothVersions(t *testing.T) {
	all := append(variants(t, signers.Ed25519), variants(t, signers.ECDSAP384)...)
	verdicts := map[string]string{}
	verifiers.Node(t, "paseto.mjs", map[string]any{"cases": all}, &verdicts)
	good := 0
	for _, c := range all {
		for _, library := range []string{"panva", "auth70"} {
			if library == "auth70" && (c.Fast || !strings.HasPrefix(c.Key, "k4.")) {
				continue
			}
			verdict := verdicts[library+" "+c.Name]
			if (verdict == "good") != c.good || verdict == "" {
				t.Errorf("%s: %s: %q, want good: %v", library, c.Name, verdict, c.good)
			}
			if c.good {
				good++
			}
		}
	}
	t.Logf("%d verdicts, %d of them good", len(verdicts), good)
}
