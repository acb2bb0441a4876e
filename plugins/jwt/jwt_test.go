package jwt_test

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
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golangjwt "github.com/golang-jwt/jwt/v5"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/issuertest"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/signers"
)

var issued = time.Unix(1767323045, 0).UTC()

// thumb is a thumbprint of the right form.
var thumb = base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

func grant() plugins.Grant {
	return plugins.Grant{
		Type: "at+jwt", Issuer: "https://signet.example", TokenID: "aZ09-_", Subject: "ci/build \"7\" é",
		Audience: []string{"https://api.example", "https://b.example"}, Scope: []string{"read", "write"},
		IssuedAt: issued, NotBefore: issued, Expires: issued.Add(5 * time.Minute),
		Holder: plugins.Holder{Kind: "jkt", Value: thumb}, Claims: []byte(`{"client_id":"ci","nested":{"a":[1,true]},"team":"core"}`),
	}
}

// with is the grant with one thing changed.
func with(change func(*plugins.Grant)) plugins.Grant {
	g := grant()
	change(&g)
	return g
}

func TestThePromisesOfAnIssuer(t *testing.T) {
	conformance.Run(t, issuertest.Checks(), func(*testing.T) issuertest.Subject {
		return issuertest.Subject{Issuer: jwt.New(), Inspector: jwt.NewInspector(), Grant: grant(), Refused: map[string]plugins.Grant{
			"no type":              with(func(g *plugins.Grant) { g.Type = "" }),
			"no issuer":            with(func(g *plugins.Grant) { g.Issuer = "" }),
			"no subject":           with(func(g *plugins.Grant) { g.Subject = "" }),
			"no id":                with(func(g *plugins.Grant) { g.TokenID = "" }),
			"no audience":          with(func(g *plugins.Grant) { g.Audience = nil }),
			"a blank audience":     with(func(g *plugins.Grant) { g.Audience = []string{""} }),
			"no expiry":            with(func(g *plugins.Grant) { g.Expires = time.Time{} }),
			"an expiry before nbf": with(func(g *plugins.Grant) { g.Expires = g.NotBefore }),
			"half a second":        with(func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(time.Second / 2) }),
			"a scope with a space": with(func(g *plugins.Grant) { g.Scope = []string{"a b"} }),
			"an empty scope":       with(func(g *plugins.Grant) { g.Scope = []string{""} }),
			"an SSH holder":        with(func(g *plugins.Grant) { g.Holder.Kind = "sshkey" }),
			"a short thumbprint":   with(func(g *plugins.Grant) { g.Holder.Value = "AAAA" }),
			"a reserved claim":     with(func(g *plugins.Grant) { g.Claims = []byte(`{"sub":"root"}`) }),
			"a variant of one":     with(func(g *plugins.Grant) { g.Claims = []byte(`{"Sub":"root"}`) }),
			"claims that are none": with(func(g *plugins.Grant) { g.Claims = []byte(`[1]`) }),
			"an assertion":         with(func(g *plugins.Grant) { g.Assertion = []byte("a") }),
			"a serial":             with(func(g *plugins.Grant) { g.Serial = 1 }),
			"principals":           with(func(g *plugins.Grant) { g.Principals = []string{"root"} }),
			"SSH options":          with(func(g *plugins.Grant) { g.Options = map[string]string{"a": "b"} }),
			"SSH extensions":       with(func(g *plugins.Grant) { g.Extensions = map[string]string{"a": "b"} }),
		}}
	})
}

// signer makes a key for an algorithm, and a function that signs with it.
func signer(t *testing.T, alg signers.Algorithm) (crypto.PublicKey, func([]byte) []byte) {
	t.Helper()
	p, err := alg.Params()
	if err != nil {
		t.Fatal(err)
	}
	var key crypto.Signer
	switch p.Kind {
	case signers.KindECDSA:
		key, err = ecdsa.GenerateKey(p.Curve, rand.Reader)
	case signers.KindEd25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case signers.KindRSA:
		key, err = rsa.GenerateKey(rand.Reader, p.Bits)
	}
	if err != nil {
		t.Fatal(err)
	}
	var opts crypto.SignerOpts = p.Hash
	if p.PSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: p.Hash}
	}
	return key.Public(), func(m []byte) []byte {
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

// make1 makes a finished token and the JWK Set for it.
func make1(t *testing.T, alg signers.Algorithm, g plugins.Grant) (string, []byte, crypto.PublicKey) {
	t.Helper()
	pub, sign := signer(t, alg)
	k := plugins.VerifyingKey{ID: "k1", Algorithm: alg, Public: pub}
	d, err := jwt.New().Prepare(context.Background(), g, k)
	if err != nil {
		t.Fatal(err)
	}
	token, err := d.Frame.Join(alg, sign(d.ToBeSigned))
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwt.JWKS([]plugins.VerifyingKey{k})
	if err != nil {
		t.Fatal(err)
	}
	return string(token), set, pub
}

// TestOtherLibrariesVerifyEachAlgorithm has go-jose (in Verify) and golang-jwt
// verify tokens of every JWS algorithm.
func TestOtherLibrariesVerifyEachAlgorithm(t *testing.T) {
	names := map[string]bool{}
	for _, alg := range signers.Algorithms() {
		if p, _ := alg.Params(); p.Bits > 2048 {
			continue
		}
		token, set, pub := make1(t, alg, grant())
		v, err := jwt.Verify(token, set, jwt.VerifyOptions{Audience: "https://b.example", Issuer: "https://signet.example", Type: "at+jwt", Now: issued.Add(time.Minute)})
		if err != nil {
			t.Errorf("%s: go-jose: %v", alg, err)
		} else if field := v.Diff(grant()); field != "" {
			t.Errorf("%s: another %s than was granted", alg, field)
		}
		names[v.Algorithm] = true
		_, err = golangjwt.Parse(token, func(*golangjwt.Token) (any, error) { return pub, nil },
			golangjwt.WithTimeFunc(func() time.Time { return issued.Add(time.Minute) }),
			golangjwt.WithAudience("https://api.example"), golangjwt.WithExpirationRequired())
		if err != nil {
			t.Errorf("%s: golang-jwt: %v", alg, err)
		}
	}
	if len(names) != 10 {
		t.Errorf("JWS algorithms: got %v, want ES, RS, PS in three sizes each and EdDSA", names)
	}
}

func TestVerifyRefuses(t *testing.T) {
	token, set, _ := make1(t, signers.ECDSAP256, grant())
	_, otherSet, _ := make1(t, signers.ECDSAP256, grant())
	good := jwt.VerifyOptions{Audience: "https://api.example", Now: issued.Add(time.Minute)}
	parts := strings.Split(token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"k1","typ":"at+jwt"}`)) + "." + parts[1] + "."
	for _, c := range []struct {
		name, token string
		set         []byte
		change      func(*jwt.VerifyOptions)
	}{
		{"another audience", token, set, func(o *jwt.VerifyOptions) { o.Audience = "https://c.example" }},
		{"another issuer", token, set, func(o *jwt.VerifyOptions) { o.Issuer = "x" }},
		{"another type", token, set, func(o *jwt.VerifyOptions) { o.Type = "logout+jwt" }},
		{"expired", token, set, func(o *jwt.VerifyOptions) { o.Now = issued.Add(5 * time.Minute) }},
		{"not yet valid", token, set, func(o *jwt.VerifyOptions) { o.Now = issued.Add(-time.Second) }},
		{"another key", token, otherSet, nil},
		{"no key", token, []byte(`{"keys":[]}`), nil},
		{"alg none", none, set, nil},
		{"a changed claim", parts[0] + "." + "A" + parts[1][1:] + "." + parts[2], set, nil},
		{"not a token", "x", set, nil},
		{"too long", strings.Repeat("x", plugins.MaxToken+1), set, nil},
	} {
		o := good
		if c.change != nil {
			c.change(&o)
		}
		if _, err := jwt.Verify(c.token, c.set, o); !errors.Is(err, jwt.ErrNotGood) {
			t.Errorf("%s: got %v, want ErrNotGood", c.name, err)
		}
	}
	if _, err := jwt.Verify(token, set, good); err != nil {
		t.Errorf("the token itself: %v", err)
	}
}

// TestHostileBodies has the inspector read every vector.
func TestHostileBodies(t *testing.T) {
	files, err := filepath.Glob("../../conformance/vectors/jwt/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: "KID", Algorithm: signers.ECDSAP256, Public: &priv.PublicKey}
	for _, file := range files {
		v := readVector(t, file)
		body := v["raw"]
		if body == "" {
			enc := base64.RawURLEncoding
			body = enc.EncodeToString([]byte(v["header"])) + "." + enc.EncodeToString([]byte(v["claims"]))
		}
		_, err := jwt.NewInspector().Inspect([]byte(body), k)
		if filepath.Base(file) == "good.txt" {
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		if !errors.Is(err, plugins.ErrRefused) || !strings.Contains(fmt.Sprint(err), v["says"]) {
			t.Errorf("%s (%s): got %v, want ErrRefused with %q", filepath.Base(file), v["why"], err, v["says"])
		}
	}
}

func readVector(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		v[strings.TrimSuffix(name, ":")] = value
	}
	return v
}

func TestDescribeShowsWhatATokenSays(t *testing.T) {
	token, _, _ := make1(t, signers.Ed25519, grant())
	said, err := jwt.Describe(token)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Team, Sub string }
	if err := json.Unmarshal(said.Claims, &claims); err != nil || claims.Team != "core" || said.Signature != 64 {
		t.Errorf("Describe: got %s, %d bytes, %v", said.Claims, said.Signature, err)
	}
	for _, bad := range []string{"", "a.b", "a.b.c.d", "!.e30.e30", "e30." + "e31" + ".e30"} {
		if _, err := jwt.Describe(bad); !errors.Is(err, jwt.ErrNotGood) {
			t.Errorf("Describe(%q): got %v, want ErrNotGood", bad, err)
		}
	}
}

// FuzzInspect holds that whatever the inspector accepts reads the same to
// encoding/json.
func FuzzInspect(f *testing.F) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: "k1", Algorithm: signers.ECDSAP256, Public: &priv.PublicKey}
	d, err := jwt.New().Prepare(context.Background(), grant(), k)
	if err != nil {
		f.Fatal(err)
	}
	_, claims, _ := bytes.Cut(d.ToBeSigned, []byte("."))
	raw, err := base64.RawURLEncoding.DecodeString(string(claims))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	header, _, _ := bytes.Cut(d.ToBeSigned, []byte("."))
	f.Fuzz(func(t *testing.T, payload []byte) {
		body := append(append(bytes.Clone(header), '.'), base64.RawURLEncoding.EncodeToString(payload)...)
		g, err := jwt.NewInspector().Inspect(body, k)
		if err != nil {
			return
		}
		var other struct {
			Sub string
			Exp int64
			Iss string
		}
		if err := json.Unmarshal(payload, &other); err != nil {
			t.Fatalf("accepted %q, which encoding/json does not read: %v", payload, err)
		}
		if other.Sub != g.Subject || other.Exp != g.Expires.Unix() || other.Iss != g.Issuer {
			t.Errorf("%q reads as %+v here and as %+v there", payload, g, other)
		}
	})
}

func BenchmarkPrepare(b *testing.B) { benchmark(b, false) }
func BenchmarkInspect(b *testing.B) { benchmark(b, true) }

func benchmark(b *testing.B, inspect bool) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: thumb, Algorithm: signers.ECDSAP256, Public: &priv.PublicKey}
	g := grant()
	d, err := jwt.New().Prepare(context.Background(), g, k)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if inspect {
			_, err = jwt.NewInspector().Inspect(d.ToBeSigned, k)
		} else {
			_, err = jwt.New().Prepare(context.Background(), g, k)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
