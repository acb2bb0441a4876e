package paseto_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/issuertest"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/signers"
)

var issued = time.Unix(1767323045, 0).UTC()

// thumb is a thumbprint of the right form.
var rawURL = base64.RawURLEncoding

var thumb = rawURL.EncodeToString(bytes.Repeat([]byte{7}, 32))

func grant() plugins.Grant {
	return plugins.Grant{
		Type: "at+paseto", Issuer: "https://signet.example", TokenID: "aZ09-_", Subject: "ci/build \"7\" é",
		Audience: []string{"https://api.example"}, Scope: []string{"read", "write"},
		IssuedAt: issued, NotBefore: issued, Expires: issued.Add(5 * time.Minute),
		Holder: plugins.Holder{Kind: "jkt", Value: thumb}, Claims: []byte(`{"nested":{"a":[1,true]},"team":"core"}`),
		Assertion: []byte("tenant\x00 7\xff"),
	}
}

// with is the grant with one thing changed.
func with(change func(*plugins.Grant)) plugins.Grant {
	g := grant()
	change(&g)
	return g
}

// refused are grants that no PASETO carries whole.
func refused() map[string]plugins.Grant {
	return map[string]plugins.Grant{
		"no type":              with(func(g *plugins.Grant) { g.Type = "" }),
		"no issuer":            with(func(g *plugins.Grant) { g.Issuer = "" }),
		"no subject":           with(func(g *plugins.Grant) { g.Subject = "" }),
		"no id":                with(func(g *plugins.Grant) { g.TokenID = "" }),
		"no audience":          with(func(g *plugins.Grant) { g.Audience = nil }),
		"a blank audience":     with(func(g *plugins.Grant) { g.Audience = []string{""} }),
		"two audiences":        with(func(g *plugins.Grant) { g.Audience = []string{"a", "b"} }),
		"no expiry":            with(func(g *plugins.Grant) { g.Expires = time.Time{} }),
		"no time of issue":     with(func(g *plugins.Grant) { g.IssuedAt = time.Time{} }),
		"an expiry before nbf": with(func(g *plugins.Grant) { g.Expires = g.NotBefore }),
		"half a second":        with(func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(time.Second / 2) }),
		"the year 10000":       with(func(g *plugins.Grant) { g.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"a scope with a space": with(func(g *plugins.Grant) { g.Scope = []string{"a b"} }),
		"an empty scope":       with(func(g *plugins.Grant) { g.Scope = []string{""} }),
		"an SSH holder":        with(func(g *plugins.Grant) { g.Holder.Kind = "sshkey" }),
		"a short thumbprint":   with(func(g *plugins.Grant) { g.Holder.Value = "AAAA" }),
		"a reserved claim":     with(func(g *plugins.Grant) { g.Claims = []byte(`{"sub":"root"}`) }),
		"a variant of one":     with(func(g *plugins.Grant) { g.Claims = []byte(`{"Sub":"root"}`) }),
		"a kid as a claim":     with(func(g *plugins.Grant) { g.Claims = []byte(`{"kid":"k4.pid.x"}`) }),
		"a wrapped key":        with(func(g *plugins.Grant) { g.Claims = []byte(`{"wpk":"k4.seal.x"}`) }),
		"claims that are none": with(func(g *plugins.Grant) { g.Claims = []byte(`[1]`) }),
		"a serial":             with(func(g *plugins.Grant) { g.Serial = 1 }),
		"principals":           with(func(g *plugins.Grant) { g.Principals = []string{"root"} }),
		"SSH options":          with(func(g *plugins.Grant) { g.Options = map[string]string{"a": "b"} }),
		"SSH extensions":       with(func(g *plugins.Grant) { g.Extensions = map[string]string{"a": "b"} }),
		"too much to assert":   with(func(g *plugins.Grant) { g.Assertion = make([]byte, 48<<10) }),
	}
}

func TestThePromisesOfAnIssuer(t *testing.T) {
	conformance.Run(t, issuertest.Checks(), func(*testing.T) issuertest.Subject { return subject(paseto.New()) })
}

func subject(i plugins.Issuer) issuertest.Subject {
	return issuertest.Subject{Issuer: i, Inspector: paseto.NewInspector(), Grant: grant(), Refused: refused(), Kid: paseto.Kid}
}

func TestOtherKeysAreRefused(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 2048)
	k, _ := newKey(t, signers.Ed25519)
	for alg, pub := range map[signers.Algorithm]crypto.PublicKey{
		signers.ECDSAP256: &p256.PublicKey, "rsa2048-pss-sha384": &weak.PublicKey, "rsa2048-pkcs1-sha256": &weak.PublicKey,
		signers.ECDSAP384: k.Public, // not of its algorithm
	} {
		other := plugins.VerifyingKey{ID: "k", Algorithm: alg, Public: pub}
		if _, err := paseto.New().Prepare(t.Context(), grant(), other); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Prepare with %s: got %v, want ErrRefused", alg, err)
		}
		if _, ok := pub.(ed25519.PublicKey); ok {
			continue
		}
		if _, err := paseto.Kid(pub); !errors.Is(err, paseto.ErrNotKey) {
			t.Errorf("Kid of %s: got %v, want ErrNotKey", alg, err)
		}
		if _, err := paseto.PublicPASERK(pub); !errors.Is(err, paseto.ErrNotKey) {
			t.Errorf("PublicPASERK of %s: got %v, want ErrNotKey", alg, err)
		}
	}
}

func TestWhatIsNoPASERKIsRefused(t *testing.T) {
	k, _ := newKey(t, signers.ECDSAP384)
	good, err := paseto.PublicPASERK(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "k4.public.", "k4.public.AAAA", "k3.public.AAAA", "k4.secret." + strings.Repeat("A", 86), "k4.local." + strings.Repeat("A", 43),
		"k2.public." + strings.Repeat("A", 43), strings.Replace(good, "k3", "k4", 1), good + "=", good + "\n", " " + good,
		"k4.public." + strings.Repeat("A", 42) + "B", // bits to spare
		"k3.public.BA" + good[len("k3.public.")+2:],  // 4: an uncompressed point
	} {
		if _, err := paseto.ParsePASERK(bad); !errors.Is(err, paseto.ErrNotKey) {
			t.Errorf("ParsePASERK(%q): got %v, want ErrNotKey", bad, err)
		}
	}
}

// newKey makes a key as the daemon would name it, and a function that signs.
func newKey(t testing.TB, alg signers.Algorithm) (plugins.VerifyingKey, func([]byte) []byte) {
	t.Helper()
	var key crypto.Signer
	var err error
	var opts crypto.SignerOpts = crypto.Hash(0)
	if alg == signers.ECDSAP384 {
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		opts = crypto.SHA384
	} else {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	kid, err := paseto.Kid(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return plugins.VerifyingKey{ID: kid, Algorithm: alg, Public: key.Public()}, func(m []byte) []byte {
		digest, err := alg.Digest(m)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := key.Sign(rand.Reader, digest, opts)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

// newToken makes a finished token and the PASERK that verifies it.
func newToken(t testing.TB, alg signers.Algorithm, g plugins.Grant) (token, paserk string) {
	t.Helper()
	k, sign := newKey(t, alg)
	d, err := paseto.New().Prepare(context.Background(), g, k)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := d.Frame.Join(alg, sign(d.ToBeSigned))
	if err != nil {
		t.Fatal(err)
	}
	paserk, err = paseto.PublicPASERK(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	return string(joined), paserk
}

// both are the algorithms that PASETO signs with.
var both = []signers.Algorithm{signers.Ed25519, signers.ECDSAP384}

// accept is what the relying party of these tests accepts.
func accept() paseto.VerifyOptions {
	return paseto.VerifyOptions{
		Audience: "https://api.example", Issuer: "https://signet.example", Type: "at+paseto",
		Assertion: grant().Assertion, Now: issued.Add(time.Minute),
	}
}

func TestAnotherLibraryVerifiesBothVersions(t *testing.T) {
	versions := map[string]bool{}
	for _, alg := range both {
		token, paserk := newToken(t, alg, grant())
		v, err := paseto.Verify(token, []string{paserk}, accept())
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		} else if field := v.Diff(grant()); field != "" {
			t.Errorf("%s: another %s than was granted", alg, field)
		}
		versions[v.Version] = true
	}
	if !versions["v3.public"] || !versions["v4.public"] {
		t.Errorf("got %v, want v3.public and v4.public", versions)
	}
}

func TestVerifyRefuses(t *testing.T) {
	for _, alg := range both {
		token, paserk := newToken(t, alg, grant())
		_, other := newToken(t, alg, grant())
		keys, none := []string{paserk}, []string{}
		parts := strings.Split(token, ".")
		for _, c := range []struct {
			name, token string
			keys        []string
			change      func(*paseto.VerifyOptions)
		}{
			{"another audience", token, keys, func(o *paseto.VerifyOptions) { o.Audience = "https://c.example" }},
			{"no audience", token, keys, func(o *paseto.VerifyOptions) { o.Audience = "" }},
			{"another issuer", token, keys, func(o *paseto.VerifyOptions) { o.Issuer = "x" }},
			{"another type", token, keys, func(o *paseto.VerifyOptions) { o.Type = "AT+paseto" }},
			{"another assertion", token, keys, func(o *paseto.VerifyOptions) { o.Assertion = []byte("tenant 8") }},
			{"no assertion", token, keys, func(o *paseto.VerifyOptions) { o.Assertion = nil }},
			{"expired", token, keys, func(o *paseto.VerifyOptions) { o.Now = issued.Add(5 * time.Minute) }},
			{"not yet valid", token, keys, func(o *paseto.VerifyOptions) { o.Now = issued.Add(-time.Second) }},
			{"another key", token, []string{other}, nil},
			{"no key", token, none, nil},
			{"the other version", swapVersion(token), keys, nil},
			{"a local token", strings.Replace(token, "public", "local", 1), keys, nil},
			{"no footer", strings.Join(parts[:3], "."), keys, nil},
			{"a changed claim", parts[0] + "." + parts[1] + ".A" + parts[2][1:] + "." + parts[3], keys, nil},
			{"a second footer", token + ".e30", keys, nil},
			{"a line end", token + "\n", keys, nil},
			{"not a token", "x", keys, nil},
			{"too long", strings.Repeat("x", plugins.MaxToken+1), keys, nil},
		} {
			o := accept()
			if c.change != nil {
				c.change(&o)
			}
			if _, err := paseto.Verify(c.token, c.keys, o); !errors.Is(err, paseto.ErrNotGood) {
				t.Errorf("%s, %s: got %v, want ErrNotGood", alg, c.name, err)
			}
		}
		if _, err := paseto.Verify(token, []string{other, paserk}, accept()); err != nil {
			t.Errorf("%s: the token itself: %v", alg, err)
		}
		if _, err := paseto.Verify(token, []string{"k4.public.x"}, accept()); !errors.Is(err, paseto.ErrNotKey) {
			t.Errorf("%s: a bad key: got %v, want ErrNotKey", alg, err)
		}
	}
}

// swapVersion puts the header of the other version before a token.
func swapVersion(token string) string {
	if rest, ok := strings.CutPrefix(token, "v4"); ok {
		return "v3" + rest
	}
	return "v4" + token[2:]
}

func TestDescribeShowsWhatATokenSays(t *testing.T) {
	token, _ := newToken(t, signers.ECDSAP384, grant())
	said, err := paseto.Describe(token)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Team, Exp string }
	if err := json.Unmarshal(said.Claims, &claims); err != nil || claims.Team != "core" || claims.Exp != "2026-01-02T03:09:05Z" || said.Signature != 96 {
		t.Errorf("Describe: got %s, %d bytes, %v", said.Claims, said.Signature, err)
	}
	if said.Version != "v3.public" || !strings.Contains(string(said.Footer), `"typ":"at+paseto"`) {
		t.Errorf("Describe: got %s with the footer %s", said.Version, said.Footer)
	}
	for _, bad := range []string{"", "v4.public.", "v4.public.AAAA", "v4.local." + token[10:], token + ".", token + ".e30", "v4.public." + strings.Repeat("A", 90)} {
		if _, err := paseto.Describe(bad); !errors.Is(err, paseto.ErrNotGood) {
			t.Errorf("Describe(%q): got %v, want ErrNotGood", bad, err)
		}
	}
}

func BenchmarkPrepare(b *testing.B) { benchmark(b, false) }
func BenchmarkInspect(b *testing.B) { benchmark(b, true) }

func benchmark(b *testing.B, inspect bool) {
	for _, alg := range both {
		b.Run(string(alg), func(b *testing.B) {
			k, _ := newKey(b, alg)
			d, err := paseto.New().Prepare(context.Background(), grant(), k)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if inspect {
					_, err = paseto.NewInspector().Inspect(d.ToBeSigned, k)
				} else {
					_, err = paseto.New().Prepare(context.Background(), grant(), k)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
