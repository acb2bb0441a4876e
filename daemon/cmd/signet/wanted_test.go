package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const aPublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"

// asked is what flags ask for.
func asked(t *testing.T, args ...string) (wanted, error) {
	t.Helper()
	var w wanted
	c := &cobra.Command{}
	w.flags(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	_, err := w.request("p")
	return w, err
}

func TestFlagsOfACertificate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(file, []byte(aPublicKey+" me@here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := asked(t, "--public-key", file, "--principal", "a,b", "--principal", "c", "--assertion", "t",
		"--option", "source-address=192.0.2.1,192.0.2.2", "--option", "verify-required", "--option", "force-command=a=b", "--extension", "permit-pty")
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.request("p")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"source-address": "192.0.2.1,192.0.2.2", "verify-required": "", "force-command": "a=b"}
	if d := cmp.Diff(want, r.Options); d != "" {
		t.Errorf("options (-want +got):\n%s", d)
	}
	if r.Holder["sshkey"] != aPublicKey || len(r.Principals) != 3 || string(r.Assertion) != "t" || len(r.Extensions) != 1 {
		t.Errorf("got %+v", r)
	}
	wire := wireRequest(r)
	if wire.GetHolderKind() != "sshkey" || len(wire.GetOptions()) != 3 || len(wire.GetPrincipals()) != 3 || len(wire.GetExtensions()) != 1 || string(wire.GetAssertion()) != "t" {
		t.Errorf("explain asks for %v", wire)
	}
}

func TestFlagsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"two.pub": aPublicKey + "\n" + aPublicKey + "\n", "options.pub": "restrict " + aPublicKey + "\n", "private": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"--option", "a=1", "--option", "a=2"}, {"--option", "=1"}, {"--extension", "permit-pty", "--extension", "permit-pty"},
		{"--public-key", filepath.Join(dir, "two.pub")}, {"--public-key", filepath.Join(dir, "options.pub")},
		{"--public-key", filepath.Join(dir, "private")}, {"--public-key", filepath.Join(dir, "none")},
	} {
		if _, err := asked(t, args...); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%q: got %v, want an error with a hint", args, err)
		}
	}
}
