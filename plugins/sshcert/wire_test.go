package sshcert_test

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/issuertest"
	"github.com/signetd/signet/plugins/host"
	"github.com/signetd/signet/plugins/host/sandbox"
	"github.com/signetd/signet/plugins/serve"
	"github.com/signetd/signet/plugins/sshcert"
)

// TestMain makes this binary its own trampoline and its own issuer.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		fmt.Fprintln(os.Stderr, sandbox.Exec(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "issuer" {
		serve.Main(sshcert.New())
		return
	}
	os.Exit(m.Run())
}

// TestThePromisesOfAnIssuerOverTheWire has the same checks ask an issuer in a
// process of its own, as the daemon does.
func TestThePromisesOfAnIssuerOverTheWire(t *testing.T) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	p, err := host.Launch(t.Context(), host.Spec{
		Name: sshcert.Format, Self: self, Args: []string{"issuer", sshcert.Format},
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Deadline: 20 * time.Second, StartTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	conformance.Run(t, issuertest.Checks(), func(t *testing.T) issuertest.Subject { return subject(t, p, grant(t)) })
}
