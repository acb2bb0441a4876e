package server_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/daemon/metrics"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/daemon/tokens"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
)

const api = "https://api.example"

// newVerifierRig is a rig with profiles whose tokens are introspected: "ref" of
// opaque tokens, "once" of opaque and "ticket" of signed single-use ones; those
// of "others" are verified by somebody else.
func newVerifierRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	uid := uint32(os.Getuid())
	other := uid + 1
	of := func(name, format, key string, single bool, verifier uint32) policy.Profile {
		return policy.Profile{
			Name: name, Key: key, Format: format, Type: name + "+x", Issuer: "https://signet.example",
			Callers: []policy.CallerRule{{UID: &uid}}, Verifiers: []policy.CallerRule{{UID: &verifier}}, SingleUse: single,
			Audiences: []string{api, "https://b.example"}, Scopes: []string{"read"}, Subjects: []string{"ci/*"}, MaxTTL: 15 * time.Minute, AllowedClaims: []string{"team"},
		}
	}
	gate := must[*policy.Gate](t)(policy.New([]policy.Profile{
		of("ref", policy.FormatOpaque, "", false, uid), of("once", policy.FormatOpaque, "", true, uid), of("ticket", "jwt", "ci", true, uid),
		of("many", "jwt", "ci", false, uid), of("others", policy.FormatOpaque, "", true, other),
	}, policy.Options{Now: r.clock, Rand: rand.Reader}))
	r.remember()
	p := &server.Pipeline{
		Gate: gate, Ring: r.ring, Ledger: r.ledger, Metrics: metrics.New("test"), Tokens: r.tokens, Rand: rand.Reader,
		Formats: map[string]server.Format{"jwt": {Issuer: r, Reader: server.BuiltIn{Inspector: jwt.NewInspector()}}},
		Log:     slog.New(slog.DiscardHandler), Now: r.clock,
	}
	r.dir = must[string](t)(os.MkdirTemp(r.dir, "v")) // sockets of its own
	r.serve(p, nil)
	return r
}

// remember opens the store anew, as after a restart.
func (r *rig) remember() {
	r.t.Helper()
	if r.tokens != nil {
		_ = r.tokens.Close()
	}
	r.tokens = must[*tokens.Store](r.t)(tokens.OpenStore(tokens.StoreOptions{Path: filepath.Join(r.home, "tokens.db"), Now: r.clock}))
	r.t.Cleanup(func() { _ = r.tokens.Close() })
}

func (r *rig) of(profile string) client.Token {
	r.t.Helper()
	return must[client.Token](r.t)(r.client.Issue(r.t.Context(), client.Request{
		Profile: profile, Subject: "ci/7", Audience: []string{api}, Scope: []string{"read"}, TTL: 5 * time.Minute, Claims: []byte(`{"team":"red"}`),
	}))
}

func (r *rig) redeem(token, profile, audience string) (client.Content, error) {
	return r.client.Redeem(r.t.Context(), client.Shown{Token: token, Profile: profile, Audience: audience})
}

func (r *rig) active(token, profile string) (client.Content, bool) {
	r.t.Helper()
	c, ok, err := r.client.Introspect(r.t.Context(), client.Shown{Token: token, Profile: profile})
	if err != nil {
		r.t.Fatal(err)
	}
	return c, ok
}

func TestAnOpaqueTokenIsKnownByIntrospectionAlone(t *testing.T) {
	r := newVerifierRig(t)
	token := r.of("ref")
	if !tokens.IsOpaque(token.Value) || token.Kid != "" {
		t.Errorf("got %+v, want random text and no key", token)
	}
	want := client.Content{
		Profile: "ref", Type: "ref+x", Issuer: "https://signet.example", ID: token.ID, Subject: "ci/7", Audience: []string{api}, Scope: []string{"read"},
		IssuedAt: r.now.Load(), NotBefore: r.now.Load(), Expires: r.now.Load() + 300, Claims: []byte(`{"team":"red"}`),
	}
	for _, profile := range []string{"ref", ""} {
		got, ok := r.active(token.Value, profile)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("profile %q: active %t (-want +got):\n%s", profile, ok, diff)
		}
	}
	for what, shown := range map[string]string{
		"no token": "", "another's form": "a.b.c", "a flipped bit": token.Value[:len(token.Value)-1] + "A",
		"one that was never made": must[string](t)(tokens.NewOpaque(rand.Reader)),
	} {
		if _, ok := r.active(shown, ""); ok {
			t.Errorf("%s is active", what)
		}
	}
	if _, ok := r.active(token.Value, "once"); ok {
		t.Error("it is active as a token of another profile")
	}
	r.now.Add(300)
	if _, ok := r.active(token.Value, "ref"); ok {
		t.Error("it is active after its end")
	}
}

func TestWhoMayAskAboutAToken(t *testing.T) {
	r := newVerifierRig(t)
	token := r.of("others")
	if _, ok := r.active(token.Value, ""); ok {
		t.Error("somebody else's token is active for us")
	}
	_, _, err := r.client.Introspect(t.Context(), client.Shown{Token: token.Value, Profile: "others"})
	expect(t, "introspect as no verifier", err, codes.PermissionDenied)
	_, err = r.redeem(token.Value, "others", api)
	expect(t, "redeem as no verifier", err, codes.PermissionDenied)
	_, err = r.redeem(r.of("ref").Value, "ref", api)
	expect(t, "redeem what is good many times", err, codes.PermissionDenied)
}

func TestATokenIsRedeemedOnce(t *testing.T) {
	r := newVerifierRig(t)
	for _, profile := range []string{"once", "ticket"} {
		token := r.of(profile).Value
		for what, c := range map[string]struct {
			profile, audience, token string
			code                     codes.Code
		}{
			"no audience":         {profile, "", token, codes.InvalidArgument},
			"another's audience":  {profile, "https://b.example", token, codes.FailedPrecondition},
			"another profile":     {map[string]string{"once": "ticket", "ticket": "once"}[profile], api, token, codes.FailedPrecondition},
			"a changed signature": {profile, api, token[:len(token)-8] + "AAAAAAAA", codes.FailedPrecondition},
			"nothing":             {profile, api, "", codes.FailedPrecondition},
			"an unknown profile":  {"nope", api, token, codes.PermissionDenied},
		} {
			_, err := r.redeem(c.token, c.profile, c.audience)
			expect(t, profile+": "+what, err, c.code)
		}
		var good atomic.Int64
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				c, err := r.redeem(token, profile, api)
				if err == nil && c.Subject == "ci/7" {
					good.Add(1)
				} else {
					expect(t, "a second time", err, codes.FailedPrecondition)
				}
			})
		}
		all.Wait()
		if good.Load() != 1 {
			t.Errorf("%s: redeemed %d times, want once", profile, good.Load())
		}
		if _, ok := r.active(token, profile); ok {
			t.Errorf("%s: active after it was redeemed", profile)
		}
		if n := r.count(audit.KindRecord); n == 0 {
			t.Error("no redemption is on record")
		}
	}
	if _, ok := r.active(r.of("many").Value, "many"); !ok {
		t.Error("a signed token that is good many times is not active")
	}
}

// TestARedemptionThatIsNotOnRecordIsNotAnswered, and the token stays used.
func TestARedemptionThatIsNotOnRecordIsNotAnswered(t *testing.T) {
	r := newVerifierRig(t)
	token := r.of("once").Value
	r.full.Store(true)
	_, err := r.redeem(token, "once", api)
	expect(t, "with a full disk", err, codes.Unavailable)
	r.full.Store(false)
	r.now.Add(2) // the ledger is tried again
	_, err = r.redeem(token, "once", api)
	expect(t, "afterwards", err, codes.FailedPrecondition)
	if st := status.Convert(err); st.Message() == "" {
		t.Error("no reason")
	}
}

// TestAnOpaqueTokenThatIsNotKeptDoesNotLeave breaks what remembers.
func TestAnOpaqueTokenThatIsNotKeptDoesNotLeave(t *testing.T) {
	r := newVerifierRig(t)
	p := &server.Pipeline{
		Gate: must[*policy.Gate](t)(policy.New([]policy.Profile{{
			Name: "ref", Format: policy.FormatOpaque, Type: "ref+x", Issuer: "i", Callers: []policy.CallerRule{{UID: ptr(os.Getuid())}},
			Verifiers: []policy.CallerRule{{UID: ptr(os.Getuid())}}, Audiences: []string{api}, Subjects: []string{"ci/*"}, MaxTTL: time.Minute,
		}}, policy.Options{Now: r.clock, Rand: rand.Reader})),
		Ring: r.ring, Ledger: r.ledger, Metrics: metrics.New("test"), Tokens: forgetful{r.tokens}, Rand: rand.Reader,
		Log: slog.New(slog.DiscardHandler), Now: r.clock,
	}
	r.dir = must[string](t)(os.MkdirTemp(r.home, "f"))
	r.serve(p, nil)
	_, err := r.client.Issue(t.Context(), client.Request{Profile: "ref", Subject: "ci/7", Audience: []string{api}, TTL: time.Minute})
	expect(t, "a token that is not kept", err, codes.ResourceExhausted)
}

func ptr(n int) *uint32 { u := uint32(n); return &u }

// forgetful remembers nothing.
type forgetful struct{ server.Tokens }

func (forgetful) Keep(string, plugins.Grant) error {
	return errors.Join(errors.New("disk"), tokens.ErrFull)
}
