package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/plugins/jwt"
)

// more are profiles of the other kinds, all of the key that signs access tokens.
const more = `
  - {name: login, key: demo, issuer: https://signet.example, kind: authentication, type: login+jwt, callers: [{uid: UID}], audiences: [https://api.example], subjects: ["*"], max_ttl: 5m, claims: {required: [auth_time], allowed: [nonce]}}
  - {name: workload, key: demo, issuer: https://signet.example, kind: svid, type: JWT, trust_domain: prod.example, callers: [{uid: UID}], audiences: [https://api.example], subjects: ["spiffe://prod.example/*"], max_ttl: 5m}
  - {name: invoice, key: demo, issuer: https://signet.example, type: invoice+jwt, callers: [{uid: UID}], audiences: [https://api.example], subjects: ["*"], max_ttl: 5m, claims: {allowed: [amount]}}
`

// kinds are what each profile is asked for, in both lanes, and what is too much.
var kinds = []struct {
	profile, typ, subject, claims string
	badSubject, badClaims         string // "" where nothing of it can be bad
}{
	{"demo", "at+jwt", "demo/1", `{"client_id":"demo","environment":"trial"}`, "root", `{"client_id":"other","environment":"trial"}`},
	{"login", "login+jwt", "alice", `{"auth_time":1700000000,"nonce":"n"}`, "", `{"auth_time":4000000000}`},
	{"workload", "JWT", "spiffe://prod.example/ci", ``, "spiffe://prod.example/ci/../root", `{"role":"root"}`},
	{"invoice", "invoice+jwt", "invoice/7", `{"amount":7}`, "", `{"amount":7,"auth_time":1}`},
}

// TestEachKindOfJWTOverTheDaemon issues, and signs what the caller wrote: good
// tokens verify by the daemon's own JWK Set, in the type of their kind alone;
// bad ones are refused alike in both lanes.
func TestEachKindOfJWTOverTheDaemon(t *testing.T) {
	tr := newTrial(t, "\nadmins:\n", strings.ReplaceAll(more, "UID", uid())+"\nadmins:\n")
	c, err := client.Dial(filepath.Join(tr.dir, "run", "issue.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, set, err := c.PublicKeys(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		for lane, token := range lanes(c) {
			value, err := token(t, k.profile, k.typ, k.subject, k.claims)
			if err != nil {
				t.Errorf("%s, %s: %v", k.profile, lane, err)
				continue
			}
			for _, other := range kinds {
				_, err := jwt.Verify(value, set, jwt.VerifyOptions{Audience: "https://api.example", Issuer: "https://signet.example", Type: other.typ, Now: time.Now()})
				if (err == nil) != (other.typ == k.typ) {
					t.Errorf("%s, %s, verified as %s: %v", k.profile, lane, other.typ, err)
				}
			}
			if _, err := token(t, k.profile, k.typ, k.subject, k.badClaims); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s, %s, claims %s: got %v, want PermissionDenied", k.profile, lane, k.badClaims, err)
			}
			if _, err := token(t, k.profile, k.typ, k.badSubject, k.claims); k.badSubject != "" && status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s, %s, subject %s: got %v, want PermissionDenied", k.profile, lane, k.badSubject, err)
			}
		}
	}
}

type makeToken func(t *testing.T, profile, typ, subject, claims string) (string, error)

// lanes are the two ways to a token.
func lanes(c *client.Client) map[string]makeToken {
	return map[string]makeToken{
		"issue": func(t *testing.T, profile, _, subject, claims string) (string, error) {
			token, err := c.Issue(t.Context(), client.Request{
				Profile: profile, Subject: subject, Audience: []string{"https://api.example"}, TTL: time.Minute, Claims: json.RawMessage(claims),
			})
			return token.Value, err
		},
		"sign": func(t *testing.T, profile, typ, subject, claims string) (string, error) {
			body, sig, err := c.SignFresh(t.Context(), profile, func(k client.PublicKey) ([]byte, error) {
				return written(k.Kid, typ, subject, claims)
			})
			return string(body) + "." + base64.RawURLEncoding.EncodeToString(sig.Bytes), err
		},
	}
}

// written is a body as an issuer of the caller's would write it.
func written(kid, typ, subject, claims string) ([]byte, error) {
	now := time.Now().Unix()
	all := map[string]any{
		"iss": "https://signet.example", "sub": subject, "aud": "https://api.example",
		"iat": now, "exp": now + 60, "jti": fmt.Sprint("own-", time.Now().UnixNano()),
	}
	further := map[string]any{}
	if claims != "" {
		if err := json.Unmarshal([]byte(claims), &further); err != nil {
			return nil, err
		}
	}
	maps.Copy(all, further)
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": kid, "typ": typ})
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(all)
	enc := base64.RawURLEncoding.EncodeToString
	return []byte(enc(header) + "." + enc(payload)), err
}
