package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/daemon/metrics"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/daemon/server"
	"github.com/signetd/signet/daemon/tokens"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/keyring/filestore"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/softkey"
)

// A rig is a pipeline behind a real socket, with an issuer and a ledger that
// tests can make misbehave.
type rig struct {
	t       *testing.T
	dir     string // of the sockets
	home    string // of everything
	shape   shape
	client  *client.Client
	admin   signetv1.AdminClient
	backend *softkey.Backend
	ring    *keyring.Ring
	ledger  *audit.Log
	tokens  *tokens.Store
	now     atomic.Int64 // Unix seconds
	spoil   func(*plugins.Draft)
	down    error // what the issuer returns
	full    atomic.Bool
	formats map[string]server.Format // the pipeline's
}

// Describe and Prepare make the rig an issuer: the real one, spoiled.
func (r *rig) Describe(ctx context.Context) (plugins.Description, error) {
	return r.shape.issuer.Describe(ctx)
}

func (r *rig) Prepare(ctx context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	d, err := r.shape.issuer.Prepare(ctx, g, k)
	if r.spoil != nil {
		r.spoil(&d)
	}
	if r.down != nil {
		return plugins.Draft{}, r.down
	}
	return d, err
}

func (r *rig) clock() time.Time { return time.Unix(r.now.Load(), 0) }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newRig(t *testing.T, rights ...server.Right) *rig {
	t.Helper()
	return newRigOf(t, shape{"jwt", "at+jwt", signers.ECDSAP256, jwt.New(), jwt.NewInspector(), nil, clientCI}, rights...)
}

// A shape is the format of a rig's one profile.
type shape struct {
	format, typ string
	algorithm   signers.Algorithm
	issuer      plugins.Issuer
	inspector   plugins.Inspector
	kid         func(string, crypto.PublicKey) (string, error)
	fixed       map[string]json.RawMessage // claims
}

// clientCI is what an access token needs beside the registered claims.
var clientCI = map[string]json.RawMessage{"client_id": json.RawMessage(`"ci"`)}

func newRigOf(t *testing.T, s shape, rights ...server.Right) *rig {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "sg"))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, home: dir, shape: s}
	r.now.Store(1767323045)
	uid := uint32(os.Getuid())
	gate := must[*policy.Gate](t)(policy.New([]policy.Profile{{
		Name: "ci", Key: "ci", Format: s.format, Type: s.typ, Issuer: "https://signet.example",
		Callers: []policy.CallerRule{{UID: &uid}}, Audiences: []string{"https://api.example"},
		Scopes: []string{"read"}, Subjects: []string{"ci/*"}, MaxTTL: 15 * time.Minute,
		AllowAssertion: s.format == "paseto",
		FixedClaims:    s.fixed,
	}}, policy.Options{Now: r.clock, Rand: rand.Reader}))
	r.backend = must[*softkey.Backend](t)(softkey.Open(t.Context(), softkey.Options{}))
	store := must[*filestore.Store](t)(filestore.Open(filepath.Join(dir, "keyring"), filestore.Options{}))
	r.ring = must[*keyring.Ring](t)(keyring.Open(t.Context(), store, map[string]signers.Backend{"main": r.backend},
		keyring.Options{Now: r.clock, Rand: rand.Reader, LeadTime: time.Minute, Drain: 30 * time.Second, Kid: s.kid}))
	sink, tail, err := audit.OpenFile(audit.FileOptions{Dir: filepath.Join(dir, "ledger"), Fault: func(op string) error {
		if r.full.Load() && op != "truncate" {
			return syscall.ENOSPC
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.ledger = must[*audit.Log](t)(audit.Open(sink, audit.Options{Tail: tail, Now: r.clock}))
	r.formats = map[string]server.Format{s.format: {Issuer: r, Reader: server.BuiltIn{Inspector: s.inspector}}}
	r.serve(&server.Pipeline{
		Gate: gate, Ring: r.ring, Ledger: r.ledger, Metrics: metrics.New("test", "ci"),
		Formats: r.formats,
		Log:     slog.New(slog.DiscardHandler), Now: r.clock,
	}, rights)
	spec := keyring.Spec{Backend: "main", Algorithm: s.algorithm, Format: s.format}
	v := must[keyring.Version](t)(r.ring.Create(t.Context(), "ci", spec))
	must[keyring.Version](t)(r.ring.Activate(t.Context(), "ci", v.Number, keyring.Activation{Keep: 15 * time.Minute}))
	return r
}

// serve puts the pipeline behind two sockets.
func (r *rig) serve(p *server.Pipeline, rights []server.Right) {
	r.t.Helper()
	uid := uint32(os.Getuid())
	stopping := make(chan struct{})
	issue, adm := grpc.NewServer(grpc.Creds(peer.Credentials())), grpc.NewServer(grpc.Creds(peer.Credentials()))
	signetv1.RegisterSignerServer(issue, &server.Signer{Pipeline: p, Stopping: stopping})
	signetv1.RegisterAdminServer(adm, &server.Admin{
		Pipeline: p, Rights: []server.AdminRule{{Who: policy.CallerRule{UID: &uid}, Rights: rights}},
		Keys:    map[string]keyring.Spec{"ci": {Backend: "main", Algorithm: signers.ECDSAP256, Format: "jwt"}},
		Keep:    func(string) time.Duration { return 15 * time.Minute },
		Backend: func(string) string { return "ready" },
		Parts:   func(context.Context) []*signetv1.Part { return nil },
		Plugins: func() []*signetv1.Plugin { return nil },
	})
	for name, s := range map[string]*grpc.Server{"issue": issue, "admin": adm} {
		l := must[net.Listener](r.t)(net.Listen("unix", filepath.Join(r.dir, name)))
		go func() { _ = s.Serve(l) }()
		r.t.Cleanup(s.Stop)
	}
	r.client = must[*client.Client](r.t)(client.Dial(filepath.Join(r.dir, "issue")))
	r.t.Cleanup(func() { _ = r.client.Close() })
	var err error
	var conn *grpc.ClientConn
	if r.admin, conn, err = client.DialAdmin(filepath.Join(r.dir, "admin")); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
}

func (r *rig) issue() (client.Token, error) {
	return r.client.Issue(r.t.Context(), client.Request{
		Profile: "ci", Subject: "ci/7", Audience: []string{"https://api.example"}, Scope: []string{"read"}, TTL: 5 * time.Minute,
	})
}

// count is how many records of a kind the ledger has.
func (r *rig) count(kind audit.Kind) uint64 {
	r.t.Helper()
	return must[audit.Report](r.t)(audit.Verify(filepath.Join(r.home, "ledger"))).Kinds[kind]
}

// body is a token body that a caller writes, with text replaced in it.
func (r *rig) body(replace ...string) []byte {
	r.t.Helper()
	kid := "?"
	if s, err := r.client.Signer(r.t.Context(), "ci"); err == nil {
		kid = s.KeyID()
	}
	now := r.now.Load()
	text := strings.NewReplacer(replace...).Replace(fmt.Sprintf(
		`{"alg":"ES256","kid":"%s","typ":"at+jwt"}.{"aud":"https://api.example","client_id":"ci","exp":%d,"iat":%d,"iss":"https://signet.example","jti":"j-1","scope":"read","sub":"ci/7"}`,
		kid, now+300, now))
	header, claims, _ := strings.Cut(text, ".{")
	enc := base64.RawURLEncoding
	return []byte(enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte("{"+claims)))
}

func (r *rig) sign(body []byte) (client.Signature, error) {
	return r.client.Sign(r.t.Context(), "ci", body)
}

func expect(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestBothLanesMakeTokensThatVerify(t *testing.T) {
	r := newRig(t)
	token := must[client.Token](t)(r.issue())
	body := r.body()
	sig := must[client.Signature](t)(r.sign(body))
	own := string(body) + "." + base64.RawURLEncoding.EncodeToString(sig.Bytes)
	_, set, err := r.client.PublicKeys(t.Context(), "ci")
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range []string{token.Value, own} {
		if _, err := jwt.Verify(tok, set, jwt.VerifyOptions{Audience: "https://api.example", Issuer: "https://signet.example", Type: "at+jwt", Now: r.clock()}); err != nil {
			t.Error(err)
		}
	}
	s := must[*client.Signer](t)(r.client.Signer(t.Context(), "ci"))
	der := must[[]byte](t)(s.SignMessage(nil, r.body(), nil))
	if err := signers.ECDSAP256.Verify(s.Public(), r.body(), der); err != nil {
		t.Errorf("MessageSigner: %v", err)
	}
	if _, err := s.Sign(nil, make([]byte, 32), nil); err == nil {
		t.Error("Sign of a digest: got no error")
	}
	if r.count(audit.KindOutcome) != 3 || r.count(audit.KindIntent) != 3 {
		t.Errorf("three signatures, and %d intents and %d outcomes on record", r.count(audit.KindIntent), r.count(audit.KindOutcome))
	}
}

// TestAHostileIssuerGetsNothingSigned has the issuer change its draft in every
// place: nothing is signed, and each attempt is on record.
func TestAHostileIssuerGetsNothingSigned(t *testing.T) {
	r := newRig(t)
	spoils := map[string]func(*plugins.Draft){
		"suffix":   func(d *plugins.Draft) { d.Frame.Suffix = []byte(".x") },
		"head":     func(d *plugins.Draft) { d.Frame.Head = []byte("x") },
		"tail":     func(d *plugins.Draft) { d.Frame.Tail = []byte("x") },
		"form":     func(d *plugins.Draft) { d.Frame.Form = plugins.DER },
		"encoding": func(d *plugins.Draft) { d.Frame.Encoding = plugins.Base64 },
		"prefix":   func(d *plugins.Draft) { d.Frame.Prefix = append([]byte("x"), d.Frame.Prefix...) },
		"scope":    replaceIn(`"scope":"read"`, `"scope":"read write"`),
		"audience": replaceIn("api.example", "evil.example"),
		"subject":  replaceIn("ci/7", "root"),
		"expiry":   replaceIn(`"exp":17673`, `"exp":27673`),
		"nothing":  func(d *plugins.Draft) { d.ToBeSigned = nil },
		"SSHSIG":   func(d *plugins.Draft) { d.ToBeSigned = []byte("SSHSIG\x00\x00\x00\x04file") },
	}
	for i := 0; i < 400; i += 7 {
		spoils[fmt.Sprintf("byte %d", i)] = func(d *plugins.Draft) {
			d.ToBeSigned = bytes.Clone(d.ToBeSigned)
			d.ToBeSigned[i%len(d.ToBeSigned)] ^= 4
		}
	}
	for name, spoil := range spoils {
		r.spoil = spoil
		_, err := r.issue()
		expect(t, name, err, codes.Internal)
	}
	if n := r.count(audit.KindIntent); n != 0 {
		t.Errorf("%d intents to sign, want none", n)
	}
	if n := r.count(audit.KindDenied); n != uint64(len(spoils)) {
		t.Errorf("%d refusals on record, want %d", n, len(spoils))
	}
}

// replaceIn changes what a draft's claims say, frame included.
func replaceIn(old, with string) func(*plugins.Draft) {
	return func(d *plugins.Draft) {
		header, claims, _ := strings.Cut(string(d.ToBeSigned), ".")
		text, _ := base64.RawURLEncoding.DecodeString(claims)
		changed := base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(string(text), old, with)))
		d.ToBeSigned = []byte(header + "." + changed)
		d.Frame.Prefix = append(bytes.Clone(d.ToBeSigned), '.')
	}
}

func TestWhatIsBrokenReleasesNothing(t *testing.T) {
	r := newRig(t)
	r.down = fmt.Errorf("test: %w", host.ErrDown)
	_, err := r.issue()
	expect(t, "an issuer that is down", err, codes.Unavailable)
	r.down = nil
	r.full.Store(true)
	_, err = r.issue()
	expect(t, "a full disk", err, codes.Unavailable)
	_, err = r.sign(r.body())
	expect(t, "a full disk, Sign", err, codes.Unavailable)
	r.full.Store(false)
	r.now.Add(5)
	if _, err := r.issue(); err != nil {
		t.Errorf("after space returned: %v", err)
	}
	r.backend.SetFaults(softkey.Faults{WrongSignature: true})
	_, err = r.issue()
	expect(t, "a wrong signature", err, codes.Internal)
	r.backend.SetFaults(softkey.Faults{})
	_, err = r.issue()
	expect(t, "a version in quarantine", err, codes.FailedPrecondition)
	if r.count(audit.KindOutcome) != 1 || r.count(audit.KindFailed) != 1 {
		t.Errorf("%d outcomes and %d failures on record, want one each", r.count(audit.KindOutcome), r.count(audit.KindFailed))
	}
}

func TestTheSignLaneJudgesWhatTheBytesSay(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name string
		body []byte
		want codes.Code
	}{
		{"a wider scope", r.body(`"scope":"read"`, `"scope":"read admin"`), codes.PermissionDenied},
		{"another audience", r.body("api.example", "evil.example"), codes.PermissionDenied},
		{"another subject", r.body("ci/7", "root"), codes.PermissionDenied},
		{"another issuer", r.body("signet.example", "other.example"), codes.PermissionDenied},
		{"another type", r.body("at+jwt", "logout+jwt"), codes.PermissionDenied},
		{"too long a life", r.body(`"exp":1767323345`, `"exp":1767423345`), codes.PermissionDenied},
		{"a claim that is not allowed", r.body(`"sub"`, `"role":"root","sub"`), codes.PermissionDenied},
		{"issued tomorrow", r.body(`"iat":1767323045`, `"iat":1767409445`), codes.PermissionDenied},
		{"an unknown kid", r.body(`"kid":"`, `"kid":"x`), codes.FailedPrecondition},
		{"alg none", r.body("ES256", "none"), codes.InvalidArgument},
		{"no audience", r.body(`"aud":"https://api.example",`, ""), codes.InvalidArgument},
		{"an SSH signature", []byte("SSHSIG\x00\x00\x00\x04file\x00"), codes.InvalidArgument},
		{"a digest", bytes.Repeat([]byte{7}, 32), codes.InvalidArgument},
		{"nothing", nil, codes.InvalidArgument},
		{"a megabyte", bytes.Repeat([]byte("e30."), 1<<18), codes.InvalidArgument},
	} {
		before := r.count(audit.KindDenied)
		_, err := r.sign(c.body)
		expect(t, c.name, err, c.want)
		if n := r.count(audit.KindDenied) - before; n != 1 {
			t.Errorf("%s: %d refusals on record, want one", c.name, n)
		}
	}
	if n := r.count(audit.KindIntent); n != 0 {
		t.Errorf("%d intents to sign, want none", n)
	}
	_, err := r.client.Sign(t.Context(), "nobody", r.body())
	expect(t, "an unknown profile", err, codes.PermissionDenied)
}

func TestAVersionThatWasRotatedSignsUntilItsDrainIsOver(t *testing.T) {
	r := newRig(t)
	v := must[keyring.Version](t)(r.ring.Rotate(t.Context(), "ci"))
	r.now.Add(62)
	old := r.body()
	must[keyring.Version](t)(r.ring.Activate(t.Context(), "ci", v.Number, keyring.Activation{Keep: 15 * time.Minute}))
	if _, err := r.sign(old); err != nil {
		t.Errorf("while it drains: %v", err)
	}
	r.now.Add(31)
	_, err := r.sign(old)
	expect(t, "after its drain", err, codes.FailedPrecondition)
	if !client.IsRotated(err) {
		t.Errorf("IsRotated(%v): got false", err)
	}
	if _, err := r.sign(r.body()); err != nil {
		t.Errorf("the new version: %v", err)
	}
	must[keyring.Version](t)(r.ring.Revoke(t.Context(), "ci", v.Number))
	_, err = r.issue()
	expect(t, "a key whose versions are revoked or retired", err, codes.FailedPrecondition)
}

func TestEachMethodOfAdminNeedsItsRight(t *testing.T) {
	key := &signetv1.KeyRequest{Name: "ci", Version: 1, Reason: "test", ConfirmKid: "x"}
	methods := map[server.Right][]func(*rig) error{
		server.RightView: {
			func(r *rig) error { _, err := r.admin.ListKeys(t.Context(), &signetv1.ListKeysRequest{}); return err },
			func(r *rig) error { _, err := r.admin.Status(t.Context(), &signetv1.StatusRequest{}); return err },
			func(r *rig) error {
				_, err := r.admin.ListPlugins(t.Context(), &signetv1.ListPluginsRequest{})
				return err
			},
		},
		server.RightPolicy: {func(r *rig) error { _, err := r.admin.Explain(t.Context(), &signetv1.ExplainRequest{}); return err }},
		server.RightRotate: {
			func(r *rig) error {
				_, err := r.admin.CreateKey(t.Context(), &signetv1.CreateKeyRequest{Name: "ci", Reason: "test"})
				return err
			},
			func(r *rig) error { _, err := r.admin.Rotate(t.Context(), key); return err },
			func(r *rig) error { _, err := r.admin.Activate(t.Context(), key); return err },
			func(r *rig) error { _, err := r.admin.Retire(t.Context(), key); return err },
		},
		server.RightRevoke:  {func(r *rig) error { _, err := r.admin.Revoke(t.Context(), key); return err }},
		server.RightDestroy: {func(r *rig) error { _, err := r.admin.Destroy(t.Context(), key); return err }},
	}
	for held := range methods {
		r := newRig(t, held)
		for needed, calls := range methods {
			for i, call := range calls {
				denied := status.Code(call(r)) == codes.PermissionDenied
				if denied == (needed == held) {
					t.Errorf("method %d of %q with the right %q: denied is %t", i, needed, held, denied)
				}
			}
		}
	}
}

func TestAnOperatorsChangeIsOnRecordWithWhoAndWhy(t *testing.T) {
	r := newRig(t, server.RightRotate, server.RightRevoke)
	_, err := r.admin.Rotate(t.Context(), &signetv1.KeyRequest{Name: "ci"})
	expect(t, "no reason", err, codes.InvalidArgument)
	if _, err := r.admin.Rotate(t.Context(), &signetv1.KeyRequest{Name: "ci", Reason: "monthly"}); err != nil {
		t.Fatal(err)
	}
	last := must[[]audit.Record](t)(audit.ReadTail(filepath.Join(r.dir, "ledger"), 2))
	who := fmt.Sprintf("uid=%d", os.Getuid())
	if last[0].Op != "key.rotate" || last[0].Reason != "monthly" || !strings.Contains(last[0].Caller, who) || last[1].Op != "key.rotate.done" || last[1].Version != 2 {
		t.Errorf("on record: %+v", last)
	}
	r.full.Store(true)
	_, err = r.admin.Rotate(t.Context(), &signetv1.KeyRequest{Name: "ci", Reason: "x"})
	expect(t, "a rotation that can't be recorded", err, codes.Unavailable)
	_, err = r.admin.Revoke(t.Context(), &signetv1.KeyRequest{Name: "ci", Version: 1, Reason: "leak"})
	expect(t, "a revocation that can't be recorded at all", err, codes.OK)
	r.full.Store(false)
	r.now.Add(5)
	_, err = r.issue()
	expect(t, "the revoked key", err, codes.FailedPrecondition)
}
