package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/conformance/openssh"
	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

// An sshTrial is a daemon that makes certificates, and a person with a key.
type sshTrial struct {
	*trial

	key  []byte // private, as ssh-keygen writes it
	pub  ssh.PublicKey
	line string // the public key
}

func newSSHTrial(t *testing.T) *sshTrial {
	t.Helper()
	if err := openssh.Installed(); err != nil {
		if os.Getenv("REQUIRE_OPENSSH") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	profiles := fmt.Sprintf(`profiles:
  - name: login
    key: users
    type: user
    callers: [{uid: %[1]d}]
    subjects: ["ci/*"]
    principals: [deploy]
    options: {allowed: [source-address, force-command]}
    extensions: {allowed: [permit-pty]}
    max_ttl: 15m
  - {name: host, key: hosts, type: host, callers: [{uid: %[1]d}], subjects: [web], principals: ["*.example.com"], max_ttl: 1h}
  - name: demo`, os.Getuid())
	keys := `keys:
  - {name: users, backend: main, algorithm: ecdsa-p256-sha256, format: ssh}
  - {name: hosts, backend: main, algorithm: ed25519, format: ssh}
  - name: demo`
	tr := &sshTrial{trial: newTrial(t, "profiles:\n  - name: demo", profiles, "keys:\n  - name: demo", keys)}
	tr.key, tr.pub, tr.line = newPair(t)
	return tr
}

func newPair(t *testing.T) (private []byte, pub ssh.PublicKey, line string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if pub, err = ssh.NewPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), pub, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

// certify asks the daemon for a certificate of a user's key.
func (tr *sshTrial) certify(t *testing.T) string {
	t.Helper()
	token, err := tr.client.Issue(t.Context(), client.Request{
		Profile: "login", Subject: "ci/7", TTL: 5 * time.Minute, Holder: map[string]string{"sshkey": tr.line},
		Principals: []string{"deploy"}, Extensions: map[string]string{"permit-pty": ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	return token.Value
}

// server starts an sshd with a host certificate of the daemon, that trusts the
// CA keys which the daemon publishes now.
func (tr *sshTrial) server(t *testing.T) *openssh.Server {
	t.Helper()
	private, _, line := newPair(t)
	host, err := tr.client.Issue(t.Context(), client.Request{
		Profile: "host", Subject: "web", TTL: time.Hour, Holder: map[string]string{"sshkey": line}, Principals: []string{"web.example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := openssh.Start(openssh.Config{
		Dir: t.TempDir(), CAs: tr.authorities(t, "login"), Principals: []string{"deploy"}, HostKey: private, HostCert: host.Value,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

func (tr *sshTrial) authorities(t *testing.T, profile string) []string {
	t.Helper()
	lines, err := tr.client.SSHAuthorities(t.Context(), profile)
	if err != nil || len(lines) == 0 {
		t.Fatalf("CA keys of %s: %q, %v", profile, lines, err)
	}
	return lines
}

// login reports whether ssh gets in.
func (tr *sshTrial) login(t *testing.T, s *openssh.Server, cert string) error {
	t.Helper()
	out, err := openssh.Login{
		Dir: t.TempDir(), Key: tr.key, Cert: cert, Host: "web.example.com", Command: "echo in",
		KnownHosts: "@cert-authority *.example.com " + tr.authorities(t, "host")[0],
	}.Do(t.Context(), s)
	if err == nil && out != "in\n" {
		return fmt.Errorf("it wrote %q", out)
	}
	return err
}

// TestALoginWithACertificateOfTheDaemon goes through the whole pipeline, twice
// over: what the daemon wrote, and what it signed for somebody who wrote it.
// Both log in, until the CA key is revoked.
func TestALoginWithACertificateOfTheDaemon(t *testing.T) {
	tr := newSSHTrial(t)
	s := tr.server(t)
	issued, written := tr.certify(t), tr.written(t, nil)
	for name, cert := range map[string]string{"issued": issued, "written by the caller": written} {
		if err := tr.login(t, s, cert); err != nil {
			t.Errorf("%s: %v\n%s", name, err, s.Log())
		}
	}
	admin, conn, err := client.DialAdmin(filepath.Join(tr.dir, "run", "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err1 := admin.Rotate(t.Context(), &signetv1.KeyRequest{Name: "users", Reason: "test"})
	_, err2 := admin.Activate(t.Context(), &signetv1.KeyRequest{Name: "users", Reason: "test", BeforeLeadTime: true})
	_, err3 := admin.Revoke(t.Context(), &signetv1.KeyRequest{Name: "users", Version: 1, Reason: "test"})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	later := tr.server(t)
	if err := tr.login(t, later, tr.certify(t)); err != nil {
		t.Errorf("with the new CA key: %v", err)
	}
	if err := tr.login(t, later, issued); err == nil {
		t.Error("a certificate of the revoked CA key logs in where the keys were fetched since")
	}
}

// A remoteCA signs with the daemon, as an HSM's would: what it is asked to sign
// is a certificate's body, or nothing comes of it.
type remoteCA struct {
	t  *testing.T
	tr *sshTrial
}

func (r remoteCA) PublicKey() ssh.PublicKey {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(r.tr.authorities(r.t, "login")[0]))
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

func (r remoteCA) Sign(_ io.Reader, body []byte) (*ssh.Signature, error) {
	made, err := r.tr.client.Sign(r.t.Context(), "login", body)
	if err != nil {
		return nil, err
	}
	var whole struct{ Inner []byte }
	sig := &ssh.Signature{}
	return sig, errors.Join(ssh.Unmarshal(made.Bytes, &whole), ssh.Unmarshal(whole.Inner, sig))
}

// body is a certificate that x/crypto/ssh writes.
func (tr *sshTrial) body(change func(*ssh.Certificate)) *ssh.Certificate {
	now := uint64(time.Now().Unix())
	c := &ssh.Certificate{
		Key: tr.pub, Serial: 99, CertType: ssh.UserCert, KeyId: "ci/8", ValidPrincipals: []string{"deploy"},
		ValidAfter: now - 60, ValidBefore: now + 300,
	}
	c.Extensions = map[string]string{"permit-pty": ""}
	if change != nil {
		change(c)
	}
	return c
}

func (tr *sshTrial) written(t *testing.T, change func(*ssh.Certificate)) string {
	t.Helper()
	c := tr.body(change)
	if err := c.SignCert(rand.Reader, remoteCA{t, tr}); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(c)))
}

// TestTheDaemonSignsNoCertificateThatIsTooMuch: the caller wrote it, and the
// daemon reads it.
func TestTheDaemonSignsNoCertificateThatIsTooMuch(t *testing.T) {
	tr := newSSHTrial(t)
	for name, change := range map[string]func(*ssh.Certificate){
		"no principals":      func(c *ssh.Certificate) { c.ValidPrincipals = nil },
		"root":               func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"} },
		"for ever":           func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 0, ssh.CertTimeInfinity },
		"too long":           func(c *ssh.Certificate) { c.ValidBefore += 3600 },
		"from long ago":      func(c *ssh.Certificate) { c.ValidAfter -= 3600 },
		"no serial":          func(c *ssh.Certificate) { c.Serial = 0 },
		"another subject":    func(c *ssh.Certificate) { c.KeyId = "root" },
		"a host":             func(c *ssh.Certificate) { c.CertType, c.Extensions = ssh.HostCert, nil },
		"an extension":       func(c *ssh.Certificate) { c.Extensions["permit-agent-forwarding"] = "" },
		"an unknown option":  func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x@example.com": ""} },
		"reserved":           func(c *ssh.Certificate) { c.Reserved = []byte{1} },
		"a source for all":   func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "0.0.0.0/0"} },
		"a command of a NUL": func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "a\x00"} },
	} {
		err := tr.body(change).SignCert(rand.Reader, remoteCA{t, tr})
		if code := status.Code(err); code != codes.PermissionDenied && code != codes.InvalidArgument {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	ca := remoteCA{t, tr}
	session := append([]byte{0, 0, 0, 32}, bytes.Repeat([]byte{7}, 32)...)
	for name, data := range map[string][]byte{
		"SSHSIG": []byte("SSHSIG\x00\x00\x00\x04file\x00\x00\x00\x00\x00\x00\x00\x06sha512"),
		"login":  append(session, "2\x00\x00\x00\x04root"...),
		"key":    tr.pub.Marshal(), "nothing": nil,
	} {
		if _, err := ca.Sign(nil, data); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, want InvalidArgument", name, err)
		}
	}
	if cert := tr.written(t, nil); !strings.HasPrefix(cert, ssh.CertAlgoED25519v01+" ") {
		t.Errorf("the body that the others differ from: got %q", cert)
	}
}
