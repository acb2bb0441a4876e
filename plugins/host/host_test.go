package host

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

func testSpec(t testing.TB, mode string) Spec {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { self.Close() })
	return Spec{
		Name: "test", Self: self, Args: []string{"issuer", mode}, TempDir: t.TempDir(),
		LaunchArgs: []string{"signet", "launch", "--"},
		Now:        time.Now, Log: slog.New(slog.DiscardHandler),
		Deadline: 5 * time.Second, StartTimeout: 30 * time.Second,
	}
}

func launch(t testing.TB, s Spec) *Process {
	t.Helper()
	p, err := Launch(context.Background(), s)
	if err != nil {
		t.Fatalf("Launch: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

var testKey = plugins.VerifyingKey{ID: "k1", Algorithm: signers.Ed25519, Public: ed25519.NewKeyFromSeed(make([]byte, 32)).Public()}

func grant(subject string) plugins.Grant {
	return plugins.Grant{Subject: subject, Audience: []string{"a"}, Expires: time.Unix(2e9, 0)}
}

func TestPrepare(t *testing.T) {
	p := launch(t, testSpec(t, "honest"))
	d, err := p.Prepare(context.Background(), grant("alice"), testKey)
	if err != nil || string(d.ToBeSigned) != "alice by k1" {
		t.Fatalf("Prepare: got %q, %v", d.ToBeSigned, err)
	}
	_, err = p.Prepare(context.Background(), grant("refuse"), testKey)
	if !errors.Is(err, plugins.ErrRefused) || !strings.Contains(err.Error(), "cannot be carried") {
		t.Errorf("Prepare(refuse): got %v, want ErrRefused", err)
	}
}
