package jwt_test

import (
	"crypto"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/signers"
)

// The parts of a body that is good, as RFC 8725's rules are broken in it.
const (
	goodHeader = `{"alg":"ES256","kid":"KID","typ":"at+jwt"}`
	goodClaims = `{"aud":"a","client_id":"c","exp":1767323345,"iat":1767323045,"iss":"i","jti":"j1","sub":"s"}`
)

// bcp are the rules of RFC 8725 that a body can break, each with a body that
// does. Those of sections 3.3 to 3.5 are about keys and signatures, and proven
// where those are: plugins/jwt/README.md lists them all.
var bcp = []struct {
	section, rule, old, with, says string
}{
	{"3.1", "the algorithm is the key's", `ES256`, `ES384`, "section 3.1"},
	{"3.1", "no algorithm of another family", `ES256`, `HS256`, "section 3.1"},
	{"3.2", "never none", `ES256`, `none`, "section 3.1"},
	{"3.2", "no curve that few know", `ES256`, `ES256K`, "section 3.1"},
	{"3.6", "nothing compressed", `"typ"`, `"zip":"DEF","typ"`, "section 3.10"},
	{"3.7", "UTF-8 alone", `"sub":"s"`, "\"sub\":\"\xff\"", "not strict JSON"},
	{"3.8", "an issuer", `"iss":"i",`, ``, "iss is missing"},
	{"3.8", "a subject", `,"sub":"s"`, ``, "sub is missing"},
	{"3.9", "an audience", `"aud":"a",`, ``, "aud is missing"},
	{"3.9", "an audience that is somebody", `"aud":"a"`, `"aud":[]`, "aud has the wrong form"},
	{"3.10", "the key is not looked for where the token says", `"typ"`, `"jku":"https://evil.example","typ"`, "section 3.10"},
	{"3.10", "nor brought along", `"typ"`, `"jwk":{},"typ"`, ""},
	{"3.10", "nor another of ours", `"KID"`, `"other"`, "section 3.10"},
	{"3.11", "a type", `,"typ":"at+jwt"`, ``, "section 3.11"},
	{"3.11", "one text for a type", `at+jwt`, `application/at+jwt`, "application/"},
	{"3.12", "an access token is one", `"client_id":"c",`, ``, "RFC 9068"},
	{"3.12", "in any case", `at+jwt`, `AT+JWT`, "RFC 9068"}, // without client_id, see below
}

func TestRulesOfRFC8725(t *testing.T) {
	pub, _ := signer(t, signers.ECDSAP256)
	k := plugins.VerifyingKey{ID: "KID", Algorithm: signers.ECDSAP256, Public: pub}
	if _, err := inspected(k, goodHeader, goodClaims); err != nil {
		t.Fatal(err)
	}
	for _, c := range bcp {
		header, claims := strings.Replace(goodHeader, c.old, c.with, 1), strings.Replace(goodClaims, c.old, c.with, 1)
		if c.with == "AT+JWT" {
			claims = strings.Replace(claims, `"client_id":"c",`, "", 1)
		}
		if header == goodHeader && claims == goodClaims {
			t.Errorf("section %s, %s: nothing was broken", c.section, c.rule)
		}
		_, err := inspected(k, header, claims)
		if !errors.Is(err, plugins.ErrRefused) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("section %s, %s: got %v, want it refused saying %q", c.section, c.rule, err, c.says)
		}
	}
}

func inspected(k plugins.VerifyingKey, header, claims string) (plugins.Grant, error) {
	enc := base64.RawURLEncoding.EncodeToString
	return jwt.NewInspector().Inspect([]byte(enc([]byte(header))+"."+enc([]byte(claims))), k)
}

// Section 3.2: what may sign a JWT is a closed list, and RSA is long enough.
func TestAlgorithmsOfRFC8725(t *testing.T) {
	for _, alg := range signers.Algorithms() {
		p, err := alg.Params()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jwt.AlgorithmName(alg); err == nil && (p.Kind == signers.KindRSA && p.Bits < 2048 || p.Hash == crypto.SHA1) {
			t.Errorf("%s may sign", alg)
		}
	}
	if name, err := jwt.AlgorithmName("hmac-sha256"); err == nil {
		t.Errorf("hmac-sha256 is called %s", name)
	}
}

// What SPIFFE (JWT-SVID section 2.1) and Kubernetes expect of typ JWT is not
// EdDSA; with a typ of its own it may sign.
func TestEdDSANeedsATypeOfItsOwn(t *testing.T) {
	pub, _ := signer(t, signers.Ed25519)
	k := plugins.VerifyingKey{ID: "KID", Algorithm: signers.Ed25519, Public: pub}
	for typ, good := range map[string]bool{"JWT": false, "JOSE": false, "jwt": false, "at+jwt": true, "x+jwt": true} {
		header := strings.Replace(strings.Replace(goodHeader, "at+jwt", typ, 1), "ES256", "EdDSA", 1)
		if _, err := inspected(k, header, goodClaims); (err == nil) != good {
			t.Errorf("inspect %s: got %v", typ, err)
		}
		g := with(func(g *plugins.Grant) { g.Type = typ })
		if _, err := jwt.New().Prepare(t.Context(), g, k); (err == nil) != good {
			t.Errorf("prepare %s: got %v", typ, err)
		}
	}
}

// An issuer that would draft what the inspector refuses is a fault of its own:
// both know what an access token is.
func TestBothHalvesKnowAccessTokens(t *testing.T) {
	pub, _ := signer(t, signers.ECDSAP256)
	k := plugins.VerifyingKey{ID: "KID", Algorithm: signers.ECDSAP256, Public: pub}
	for claims, good := range map[string]bool{
		``: false, `{"team":"core"}`: false, `{"client_id":""}`: false, `{"client_id":7}`: false, `{"client_id":["c"]}`: false, `{"client_id":"c"}`: true,
	} {
		for _, typ := range []string{"at+jwt", "AT+jwt"} {
			g := with(func(g *plugins.Grant) { g.Type, g.Claims = typ, []byte(claims) })
			if _, err := jwt.New().Prepare(t.Context(), g, k); (err == nil) != good {
				t.Errorf("prepare %s %s: got %v", typ, claims, err)
			}
			more := strings.TrimSuffix(strings.TrimPrefix(claims, "{"), "}")
			body := strings.Replace(goodClaims, `"client_id":"c"`, more, 1)
			if more == "" {
				body = strings.Replace(goodClaims, `"client_id":"c",`, "", 1)
			}
			if _, err := inspected(k, strings.Replace(goodHeader, "at+jwt", typ, 1), body); (err == nil) != good {
				t.Errorf("inspect %s %s: got %v", typ, claims, err)
			}
		}
	}
	g := with(func(g *plugins.Grant) { g.Type = "application/at+jwt" })
	if _, err := jwt.New().Prepare(t.Context(), g, k); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("application/: got %v", err)
	}
}
