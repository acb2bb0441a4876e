package jwt_test

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/verifiers"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/signers"
)

// A tried token, and whether it is good.
type tried struct {
	Name     string `json:"name"`
	Token    string `json:"token"`
	Audience string `json:"audience"`
	Issuer   string `json:"issuer"`
	Type     string `json:"type"`
	good     bool
}

// fresh is the grant, good for five minutes from now: not every verifier takes
// a clock.
func fresh() plugins.Grant {
	return with(func(g *plugins.Grant) {
		g.IssuedAt = time.Now().UTC().Truncate(time.Second)
		g.NotBefore, g.Expires = g.IssuedAt, g.IssuedAt.Add(5*time.Minute)
	})
}

// everyAlgorithm makes a token of each algorithm, and of each what must fail.
func everyAlgorithm(t *testing.T) (set json.RawMessage, all []tried) {
	t.Helper()
	var keys []plugins.VerifyingKey
	for _, alg := range signers.Algorithms() {
		if p, _ := alg.Params(); p.Bits > 2048 && (testing.Short() || p.Hash != crypto.SHA256) {
			continue // long keys take long to make
		}
		pub, sign := signer(t, alg)
		k := plugins.VerifyingKey{ID: string(alg), Algorithm: alg, Public: pub}
		keys = append(keys, k)
		all = append(all, variants(t, k, sign)...)
	}
	set, err := jwt.JWKS(keys)
	if err != nil {
		t.Fatal(err)
	}
	return set, all
}

func variants(t *testing.T, k plugins.VerifyingKey, sign func([]byte) []byte) []tried {
	t.Helper()
	token := func(g plugins.Grant) string {
		d, err := jwt.New().Prepare(context.Background(), g, k)
		if err != nil {
			t.Fatal(err)
		}
		token, err := d.Frame.Join(k.Algorithm, sign(d.ToBeSigned))
		if err != nil {
			t.Fatal(err)
		}
		return string(token)
	}
	good := token(fresh())
	part := strings.Split(good, ".")
	claims, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	other := encode([]byte(strings.Replace(string(claims), "ci/build", "ci/admin", 1)))
	header, _ := base64.RawURLEncoding.DecodeString(part[0])
	sig, _ := base64.RawURLEncoding.DecodeString(part[2])
	sig[len(sig)/2] ^= 1
	expired := fresh()
	expired.IssuedAt, expired.NotBefore, expired.Expires = expired.IssuedAt.Add(-time.Hour), expired.IssuedAt.Add(-time.Hour), expired.IssuedAt.Add(-time.Minute)
	name := string(k.Algorithm) + " "
	return []tried{
		{name + "good", good, "https://api.example", "https://signet.example", "at+jwt", true},
		{name + "other audience", good, "https://other.example", "https://signet.example", "at+jwt", false},
		{name + "other issuer", good, "https://api.example", "https://other.example", "at+jwt", false},
		{name + "other type", good, "https://api.example", "https://signet.example", "login+jwt", false},
		{name + "expired", token(expired), "https://api.example", "https://signet.example", "at+jwt", false},
		{name + "another claim", part[0] + "." + other + "." + part[2], "https://api.example", "https://signet.example", "at+jwt", false},
		{name + "another typ", encode([]byte(strings.Replace(string(header), "at+jwt", "login+jwt", 1))) + "." + part[1] + "." + part[2], "https://api.example", "https://signet.example", "login+jwt", false},
		{name + "another bit of the signature", part[0] + "." + part[1] + "." + encode(sig), "https://api.example", "https://signet.example", "at+jwt", false},
		{name + "no signature", part[0] + "." + part[1] + ".", "https://api.example", "https://signet.example", "at+jwt", false},
		{name + "alg none", encode([]byte(`{"alg":"none","kid":"`+k.ID+`","typ":"at+jwt"}`)) + "." + part[1] + ".", "https://api.example", "https://signet.example", "at+jwt", false},
	}
}

// TestOtherLanguagesVerifyEachAlgorithm has jose of Node.js and PyJWT verify
// tokens of every JWS algorithm, and refuse each that was changed, is old or is
// for somebody else.
func TestOtherLanguagesVerifyEachAlgorithm(t *testing.T) {
	set, all := everyAlgorithm(t)
	in := map[string]any{"jwks": set, "cases": all}
	for name, verify := range map[string]func(t *testing.T, out any){
		"node": func(t *testing.T, out any) { verifiers.Node(t, "jwt.mjs", in, out) },
		"python": func(t *testing.T, out any) {
			verifiers.Python(t, "jwt_verify.py", map[string]string{"jwt": "python3-jwt", "cryptography": "python3-cryptography"}, in, out)
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdicts := map[string]string{}
			verify(t, &verdicts)
			for _, c := range all {
				if verdict := verdicts[c.Name]; (verdict == "good") != c.good || verdict == "" {
					t.Errorf("%s: %q, want good: %v", c.Name, verdict, c.good)
				}
			}
			t.Logf("%d tokens, %d of them good", len(all), len(all)/10)
		})
	}
}
