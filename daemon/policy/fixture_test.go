package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins"
)

// noon is when every test takes place: a Wednesday.
var noon = time.Date(2025, 3, 5, 12, 0, 0, 123456789, time.UTC)

// counter is randomness that a test can foretell.
type counter byte

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(*c)
		*c++
	}
	return len(b), nil
}

func options() Options {
	return Options{Now: func() time.Time { return noon }, Rand: new(counter), Skew: 5 * time.Second}
}

func ptr(id uint32) *uint32 { return &id }

func myUID() *uint32 { return ptr(uint32(os.Getuid())) }

// pay is a profile with every kind of rule.
func pay() Profile {
	return Profile{
		Name: "pay", Key: "pay-key", Format: "jwt", Type: "pay+jwt", Issuer: "https://issuer.example",
		Callers:       []CallerRule{{UID: ptr(4242)}, {UID: myUID()}},
		Audiences:     []string{"https://pay.example", "https://refund.example"},
		Scopes:        []string{"charge", "refund"},
		Subjects:      []string{"till-1", "svc-*"},
		MaxTTL:        15 * time.Minute,
		AllowedClaims: []string{"amr", "order"},
		FixedClaims:   map[string]json.RawMessage{"env": json.RawMessage(` "prod" `), "tier": json.RawMessage("2")},
	}
}

// thumbprint has the form of a holder's value.
var thumbprint = base64.RawURLEncoding.EncodeToString(func() []byte { h := sha256.Sum256([]byte("key")); return h[:] }())

// self is this process, as the kernel tells it.
func self(t testing.TB) peer.Caller {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mine, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	theirs, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	c, err := peer.FromConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// gate makes a Gate of the profile pay, changed by each edit.
func gate(t testing.TB, edits ...func(*Profile)) *Gate {
	t.Helper()
	p := pay()
	for _, edit := range edits {
		edit(&p)
	}
	g, err := New([]Profile{p, {
		Name: "hidden", Key: "hidden-key", Format: "jwt", Type: "pay+jwt", Issuer: "https://issuer.example",
		Callers: []CallerRule{{UID: ptr(7777)}}, Audiences: []string{"https://hidden.example"}, Subjects: []string{"hidden-subject"}, MaxTTL: time.Minute,
	}}, options())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// request is one that pay allows.
func request(t testing.TB) Request {
	return Request{
		Caller: self(t), Profile: "pay", Subject: "svc-till", Audience: []string{"https://pay.example"},
		Scope: []string{"charge"}, TTL: 5 * time.Minute, Claims: []byte(`{"order": 17, "amr":["pwd"]}`),
	}
}

// written is a body that pay allows.
func written() plugins.Grant {
	at := noon.Truncate(time.Second)
	return plugins.Grant{
		Type: "pay+jwt", Issuer: "https://issuer.example", TokenID: "id-1", Subject: "svc-till",
		Audience: []string{"https://pay.example"}, Scope: []string{"charge"},
		IssuedAt: at, NotBefore: at, Expires: at.Add(5 * time.Minute),
		Claims: []byte(`{"env":"prod","order":17,"tier":2}`),
	}
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }
