package sshcert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/conformance/openssh"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/sshcert"
	"github.com/signetd/signet/signers"
)

// needOpenSSH skips on a laptop without it and fails in CI.
func needOpenSSH(t *testing.T) {
	t.Helper()
	if err := openssh.Installed(); err != nil {
		if os.Getenv("REQUIRE_OPENSSH") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// private is a private key as ssh-keygen writes it.
func private(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

// fresh is a grant that is good now.
func fresh(t testing.TB, holder crypto.PublicKey, change func(*plugins.Grant)) plugins.Grant {
	now := time.Now().Truncate(time.Second)
	g := plugins.Grant{
		Type: sshcert.User, TokenID: tokenID(7), Subject: "ci/7", Serial: 7, Principals: []string{"other", "deploy"},
		IssuedAt: now.Add(-time.Minute), NotBefore: now.Add(-time.Minute), Expires: now.Add(10 * time.Minute),
		Holder: plugins.Holder{Kind: sshcert.HolderKind, Value: line(t, holder)},
	}
	if change != nil {
		change(&g)
	}
	return g
}

func hostAs(names ...string) func(*plugins.Grant) {
	return func(g *plugins.Grant) { g.Type, g.Principals = sshcert.Host, names }
}

// A site is a server with a host certificate, and the CAs behind it all.
type site struct {
	*openssh.Server

	cas   map[signers.Algorithm]ca
	hosts ca
	user  ed25519.PrivateKey
}

func newSite(t *testing.T) site {
	t.Helper()
	needOpenSSH(t)
	s := site{cas: map[signers.Algorithm]ca{}, hosts: newCA(t, signers.ECDSAP384)}
	var lines []string
	for _, alg := range authorities(t) {
		s.cas[alg] = newCA(t, alg)
		lines = append(lines, line(t, s.cas[alg].Public))
	}
	_, host, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, s.user, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	s.Server, err = openssh.Start(openssh.Config{
		Dir: t.TempDir(), CAs: lines, Principals: []string{"deploy"}, HostKey: private(t, host),
		HostCert: s.hosts.issue(t, fresh(t, host.Public(), hostAs("web.example.com", "build.example.com"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// login is a login with a certificate, to a host that its certificate names.
func (s site) login(t testing.TB, cert string) openssh.Login {
	return openssh.Login{
		Dir: t.TempDir(), Key: private(t, s.user), Cert: cert, Host: "web.example.com",
		KnownHosts: "@cert-authority *.example.com " + line(t, s.hosts.Public), Command: "echo in as $((40+2))",
	}
}

// TestALoginWithEachKindOfCA has sshd accept a certificate of each algorithm,
// behind a host certificate that ssh accepts.
func TestALoginWithEachKindOfCA(t *testing.T) {
	s := newSite(t)
	for alg, c := range s.cas {
		cert := c.issue(t, fresh(t, s.user.Public(), nil))
		out, err := s.login(t, cert).Do(t.Context(), s.Server)
		if err != nil || out != "in as 42\n" {
			t.Errorf("%s: got %q, %v\n%s", alg, out, err, s.Log())
		}
		if want := "ID ci/7 (serial 7) CA"; !strings.Contains(s.Log(), want) {
			t.Errorf("%s: sshd's log has no %q", alg, want)
		}
	}
}

// TestALoginForEachKindOfKey has sshd accept keys of each type that a test can
// hold.
func TestALoginForEachKindOfKey(t *testing.T) {
	s := newSite(t)
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p521, err2 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsa2048, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p256, p521, rsa2048} {
		l := s.login(t, s.cas[signers.Ed25519].issue(t, fresh(t, key.Public(), nil)))
		l.Key = private(t, key)
		if out, err := l.Do(t.Context(), s.Server); err != nil || out != "in as 42\n" {
			t.Errorf("%T: got %q, %v", key, out, err)
		}
	}
}

// TestALoginThatSSHDRefuses, each for the reason that it should have.
func TestALoginThatSSHDRefuses(t *testing.T) {
	s := newSite(t)
	good := s.cas[signers.ECDSAP256]
	ago := func(start, end time.Duration) func(*plugins.Grant) {
		return func(g *plugins.Grant) {
			now := time.Now().Truncate(time.Second)
			g.IssuedAt, g.NotBefore, g.Expires = now.Add(start), now.Add(start), now.Add(end)
		}
	}
	option := func(name, value string) func(*plugins.Grant) {
		return func(g *plugins.Grant) { g.Options = map[string]string{name: value} }
	}
	for _, c := range []struct {
		name   string
		ca     ca
		change func(*plugins.Grant)
		reason string
	}{
		{"another principal", good, func(g *plugins.Grant) { g.Principals = []string{"Deploy", "deploy2", "*"} }, "does not contain an authorized principal"},
		{"expired", good, ago(-time.Hour, -time.Minute), "Certificate invalid: expired"},
		{"not yet valid", good, ago(time.Hour, 2*time.Hour), "Certificate invalid: not yet valid"},
		{"from elsewhere", good, option("source-address", "192.0.2.0/24,2001:db8::/32"), "not from a permitted source address"},
		{"another CA", newCA(t, signers.ECDSAP256), nil, "ED25519-CERT"},
		{"the hosts' CA", s.hosts, nil, "ED25519-CERT"},
	} {
		before := len(s.Log())
		out, err := s.login(t, c.ca.issue(t, fresh(t, s.user.Public(), c.change))).Do(t.Context(), s.Server)
		if err == nil || strings.Contains(out, "in as") || !strings.Contains(fmt.Sprint(err), "Permission denied") {
			t.Errorf("%s: got %q, %v; want to be denied", c.name, out, err)
		}
		said := s.Log()[before:]
		if !strings.Contains(said, c.reason) {
			t.Errorf("%s: sshd said\n%s\nwant %q", c.name, said, c.reason)
		}
	}
	here := s.login(t, good.issue(t, fresh(t, s.user.Public(), option("source-address", "127.0.0.1,192.0.2.0/24"))))
	if out, err := here.Do(t.Context(), s.Server); err != nil || out != "in as 42\n" {
		t.Errorf("from an address that is listed: got %q, %v", out, err)
	}
}

func TestAForcedCommandRunsWhateverIsAsked(t *testing.T) {
	s := newSite(t)
	cert := s.cas[signers.Ed25519].issue(t, fresh(t, s.user.Public(), func(g *plugins.Grant) {
		g.Options = map[string]string{"force-command": `echo "forced, not $SSH_ORIGINAL_COMMAND"`}
	}))
	out, err := s.login(t, cert).Do(t.Context(), s.Server)
	if err != nil || !strings.HasPrefix(out, "forced, not echo in as") {
		t.Errorf("got %q, %v; want the forced command", out, err)
	}
}

// TestSSHKnowsTheHostByItsCertificate, and no other.
func TestSSHKnowsTheHostByItsCertificate(t *testing.T) {
	s := newSite(t)
	cert := s.cas[signers.Ed25519].issue(t, fresh(t, s.user.Public(), nil))
	for _, c := range []struct {
		name, host, known string
		good              bool
	}{
		{"a host that it names", "build.example.com", "@cert-authority *.example.com " + line(t, s.hosts.Public), true},
		{"a host that it does not name", "mail.example.com", "@cert-authority * " + line(t, s.hosts.Public), false},
		{"another CA", "web.example.com", "@cert-authority * " + line(t, newCA(t, signers.ECDSAP384).Public), false},
		{"a users' CA", "web.example.com", "@cert-authority * " + line(t, s.cas[signers.Ed25519].Public), false},
	} {
		l := s.login(t, cert)
		l.Host, l.KnownHosts = c.host, c.known
		out, err := l.Do(t.Context(), s.Server)
		if good := err == nil && out == "in as 42\n"; good != c.good {
			t.Errorf("%s: got %q, %v; want good=%v", c.name, out, err, c.good)
		}
		if !c.good && !strings.Contains(fmt.Sprint(err), "Host key verification failed") {
			t.Errorf("%s: ssh said %v", c.name, err)
		}
	}
}

// flips are a certificate's texts with one bit changed, one for each byte.
func flips(t testing.TB, cert string) (blobs [][]byte) {
	t.Helper()
	whole := blob(t, cert)
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1 << (i % 8)
		blobs = append(blobs, changed)
	}
	return blobs
}

// TestSSHKeygenReadsWhatWasGranted has ssh-keygen -L print a certificate of
// each algorithm and type of key, and none of those with a changed byte.
func TestSSHKeygenReadsWhatWasGranted(t *testing.T) {
	needOpenSSH(t)
	sk := "sk-ssh-ed25519@openssh.com " + base64.StdEncoding.EncodeToString(
		append(append(str([]byte("sk-ssh-ed25519@openssh.com")), str(bytes.Repeat([]byte{42}, 32))...), str([]byte("ssh:"))...))
	for _, alg := range authorities(t) {
		c := newCA(t, alg)
		for what, g := range map[string]plugins.Grant{
			"user": grant(t), "host": hostGrant(t),
			"sk": with(grant(t), func(g *plugins.Grant) { g.Holder.Value = sk }),
		} {
			cert := c.issue(t, g)
			shown, err := openssh.Show(t.Context(), t.TempDir(), cert+" comment\n")
			if err != nil {
				t.Errorf("%s, %s: %v", alg, what, err)
			}
			for _, want := range wanted(c, g) {
				if !strings.Contains(shown, want) {
					t.Errorf("%s, %s: no %q in\n%s", alg, what, want, shown)
				}
			}
		}
		changed := c.issue(t, grant(t)) + " the good one\n"
		kind, _, _ := strings.Cut(changed, " ")
		for _, b := range flips(t, changed[:strings.LastIndex(changed, " the")]) {
			changed += kind + " " + base64.StdEncoding.EncodeToString(b) + "\n"
		}
		shown, err := openssh.Show(t.Context(), t.TempDir(), changed)
		if n := strings.Count(shown, "Key ID:"); n != 1 || err != nil {
			t.Errorf("%s: of a good certificate and one for each changed byte, %d are shown, %v; want 1", alg, n, err)
		}
	}
}

// wanted is what ssh-keygen -L prints of a grant.
func wanted(c ca, g plugins.Grant) []string {
	name, _ := plugins.SSHAlgorithm(c.Algorithm)
	all := []string{
		"Type: ", " " + g.Type + " certificate", c.ID + " (using " + name + ")", "Serial: 41\n",
		"Valid: from 2026-01-02T03:04:05 to 2026-01-02T03:09:05\n", `Key ID: "ci/build`,
	}
	for _, p := range g.Principals {
		if p != "role:é" { // ssh-keygen escapes what is not ASCII
			all = append(all, "                "+p+"\n")
		}
	}
	if g.Type == sshcert.Host {
		return append(all, "Critical Options: (none)\n", "Extensions: (none)\n")
	}
	return append(all, "force-command uptime -p\n", "source-address 192.0.2.7,2001:db8::/32\n", "verify-required\n", "permit-pty\n", "no-touch-required\n", "ticket@example.com UNKNOWN OPTION")
}

// A changedKey is offered to sshd as it is, whatever it parses as.
type changedKey struct {
	kind string
	blob []byte
	key  ssh.Signer
}

func (k changedKey) PublicKey() ssh.PublicKey                           { return k }
func (k changedKey) Type() string                                       { return k.kind }
func (k changedKey) Marshal() []byte                                    { return k.blob }
func (changedKey) Verify([]byte, *ssh.Signature) error                  { return errors.New("not here") }
func (k changedKey) Sign(r io.Reader, b []byte) (*ssh.Signature, error) { return k.key.Sign(r, b) }

// TestSSHDRefusesEveryChangedByte offers sshd each certificate with one bit
// changed, one for each byte, then a host's, and at last the certificate itself,
// which logs in.
func TestSSHDRefusesEveryChangedByte(t *testing.T) {
	s := newSite(t)
	account, err := openssh.Account()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromSigner(s.user)
	if err != nil {
		t.Fatal(err)
	}
	for alg, c := range s.cas {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel() // sshd takes its time over each refusal
			cert := c.issue(t, fresh(t, s.user.Public(), nil))
			kind, _, _ := strings.Cut(cert, " ")
			var keys []ssh.Signer
			for i, b := range flips(t, cert) {
				if !testing.Short() || i%17 == 0 {
					keys = append(keys, watched{changedKey{kind, b, key}, func() { t.Errorf("byte %d is changed, and sshd accepts it", i) }})
				}
			}
			host := c.issue(t, fresh(t, s.user.Public(), hostAs("deploy")))
			keys = append(keys, watched{changedKey{kind, blob(t, host), key}, func() { t.Error("sshd accepts a host's certificate for a user") }})
			keys = append(keys, changedKey{kind, blob(t, cert), key})
			conn, err := ssh.Dial("tcp", s.Addr(), &ssh.ClientConfig{
				User: account, Auth: []ssh.AuthMethod{ssh.PublicKeys(keys...)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			})
			if err != nil {
				t.Fatalf("the certificate itself, after %d others: %v", len(keys)-1, err)
			}
			_ = conn.Close()
		})
	}
}

// watched tells when it is asked to sign: the server has accepted the key.
type watched struct {
	changedKey

	told func()
}

func (w watched) Sign(r io.Reader, b []byte) (*ssh.Signature, error) {
	w.told()
	return w.changedKey.Sign(r, b)
}
