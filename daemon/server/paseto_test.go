package server_test

import (
	"bytes"
	"crypto"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/signers"
)

// pasetoRig is a rig whose profile makes PASETOs with an assertion of the
// caller's.
func pasetoRig(t *testing.T, alg signers.Algorithm) *rig {
	t.Helper()
	kid := func(_ string, pub crypto.PublicKey) (string, error) { return paseto.Kid(pub) }
	return newRigOf(t, shape{"paseto", "at+paseto", alg, paseto.New(), paseto.NewInspector(), kid, nil})
}

func (r *rig) issuePASETO() (client.Token, error) {
	return r.client.Issue(r.t.Context(), client.Request{
		Profile: "ci", Subject: "ci/7", Audience: []string{"https://api.example"}, Scope: []string{"read"}, TTL: 5 * time.Minute,
		Assertion: []byte("tenant 7"),
	})
}

// drafted is what a caller of the Sign lane writes.
func (r *rig) drafted(change func(*plugins.Grant)) plugins.Draft {
	r.t.Helper()
	keys, _, err := r.client.PublicKeys(r.t.Context(), "ci")
	if err != nil || len(keys) != 1 {
		r.t.Fatalf("%d keys, %v", len(keys), err)
	}
	k := plugins.VerifyingKey{ID: keys[0].Kid, Algorithm: signers.Algorithm(keys[0].Algorithm), Public: keys[0].Public}
	now := r.clock().UTC()
	g := plugins.Grant{
		Type: "at+paseto", Issuer: "https://signet.example", TokenID: "aZ09-_aZ09-_aZ09-_aZ09", Subject: "ci/7",
		Audience: []string{"https://api.example"}, IssuedAt: now, NotBefore: now, Expires: now.Add(time.Minute), Assertion: []byte("tenant 7"),
	}
	if change != nil {
		change(&g)
	}
	return must[plugins.Draft](r.t)(paseto.New().Prepare(r.t.Context(), g, k))
}

func TestBothLanesMakePASETOsThatVerify(t *testing.T) {
	for _, alg := range []signers.Algorithm{signers.Ed25519, signers.ECDSAP384} {
		r := pasetoRig(t, alg)
		keys := must[[]string](t)(r.client.PASERK(t.Context(), "ci"))
		o := paseto.VerifyOptions{Audience: "https://api.example", Type: "at+paseto", Assertion: []byte("tenant 7"), Now: r.clock()}
		issued := must[client.Token](t)(r.issuePASETO())
		if _, err := paseto.Verify(issued.Value, keys, o); err != nil {
			t.Errorf("%s, Issue: %v", alg, err)
		}
		d := r.drafted(nil)
		sig := must[client.Signature](t)(r.sign(d.ToBeSigned))
		written := must[plugins.Token](t)(d.Frame.JoinWritten(sig.Bytes))
		v, err := paseto.Verify(string(written), keys, o)
		if err != nil || v.Kid != issued.Kid || v.Kid != sig.Kid {
			t.Errorf("%s, Sign: kid %q, %q and %q, %v", alg, v.Kid, issued.Kid, sig.Kid, err)
		}
		if _, set, err := r.client.PublicKeys(t.Context(), ""); err != nil || bytes.Contains(set, []byte(`"kid"`)) {
			t.Errorf("%s: a key of PASETOs in the JWK Set: %s, %v", alg, set, err)
		}
	}
}

// TestTheSignLaneJudgesWhatAPAESays, the assertion included, which no token
// carries.
func TestTheSignLaneJudgesWhatAPAESays(t *testing.T) {
	r := pasetoRig(t, signers.Ed25519)
	for name, change := range map[string]func(*plugins.Grant){
		"another subject":    func(g *plugins.Grant) { g.Subject = "root" },
		"another audience":   func(g *plugins.Grant) { g.Audience[0] = "https://evil.example" },
		"another issuer":     func(g *plugins.Grant) { g.Issuer = "https://evil.example" },
		"another type":       func(g *plugins.Grant) { g.Type = "session" },
		"a day":              func(g *plugins.Grant) { g.Expires = g.Expires.Add(24 * time.Hour) },
		"a scope":            func(g *plugins.Grant) { g.Scope = []string{"admin"} },
		"too much to assert": func(g *plugins.Grant) { g.Assertion = bytes.Repeat([]byte("x"), 40<<10) },
	} {
		_, err := r.sign(r.drafted(change).ToBeSigned)
		expect(t, name, err, codes.PermissionDenied)
	}
	good := r.drafted(nil).ToBeSigned
	for name, bad := range map[string][]byte{
		"trailing": append(bytes.Clone(good), 0), "nothing": nil, "a JWS": []byte("e30.e30"), "a digest": bytes.Repeat([]byte{7}, 64),
	} {
		_, err := r.sign(bad)
		expect(t, name, err, codes.InvalidArgument)
	}
	if n := r.count(audit.KindIntent); n != 0 {
		t.Errorf("%d intents to sign, want none", n)
	}
}

func TestAHostileIssuerOfPASETOsGetsNothingSigned(t *testing.T) {
	for _, alg := range []signers.Algorithm{signers.Ed25519, signers.ECDSAP384} {
		r := pasetoRig(t, alg)
		n := uint64(0)
		try := func(name string, spoil func(*plugins.Draft)) {
			r.spoil = spoil
			_, err := r.issuePASETO()
			expect(t, name, err, codes.Internal)
			n++
		}
		try("another assertion", func(d *plugins.Draft) {
			d.ToBeSigned = bytes.Replace(d.ToBeSigned, []byte("tenant 7"), []byte("tenant 8"), 1)
		})
		try("a footer that the frame lacks", func(d *plugins.Draft) { d.Frame.Suffix = nil })
		try("a message that was not signed", func(d *plugins.Draft) { d.Frame.Head = bytes.Replace(d.Frame.Head, []byte("ci/7"), []byte("root"), 1) })
		// More refusals than these would not be on record one by one.
		for i, size := 0, len(r.drafted(nil).ToBeSigned); i < size; i += 5 {
			try(fmt.Sprintf("byte %d", i), func(d *plugins.Draft) {
				d.ToBeSigned = bytes.Clone(d.ToBeSigned)
				d.ToBeSigned[i] ^= 1 << (i % 8)
			})
		}
		if intents, denied := r.count(audit.KindIntent), r.count(audit.KindDenied); intents != 0 || denied != n {
			t.Errorf("%s: %d intents and %d refusals on record, want none and %d", alg, intents, denied, n)
		}
	}
}
