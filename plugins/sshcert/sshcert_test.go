package sshcert_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/conformance/issuertest"
	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/sshcert"
	"github.com/signetd/signet/signers"
)

var issued = time.Unix(1767323045, 0).UTC()

// tokenID is the n-th nonce.
func tokenID(n int) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(n)))
}

// line is a public key as a Holder has it.
func line(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	s, err := sshcert.AuthorizedKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var subjectKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))

func grant(t testing.TB) plugins.Grant {
	return plugins.Grant{
		Type: sshcert.User, TokenID: tokenID(1), Subject: "ci/build \"7\" é", Serial: 41,
		Principals: []string{"deploy", "role:é"}, IssuedAt: issued, NotBefore: issued, Expires: issued.Add(5 * time.Minute),
		Holder:     plugins.Holder{Kind: sshcert.HolderKind, Value: line(t, subjectKey.Public())},
		Options:    map[string]string{"force-command": "uptime -p", "source-address": "192.0.2.7,2001:db8::/32", "verify-required": ""},
		Extensions: map[string]string{"permit-pty": "", "no-touch-required": "", "ticket@example.com": "INC-7", "empty@example.com": ""},
	}
}

func hostGrant(t testing.TB) plugins.Grant {
	g := grant(t)
	g.Type, g.Principals, g.Options, g.Extensions = sshcert.Host, []string{"build.example.com", "192.0.2.1", "::1"}, nil, nil
	return g
}

// with is a grant with one thing changed.
func with(g plugins.Grant, change func(*plugins.Grant)) plugins.Grant {
	g.Options, g.Extensions = maps.Clone(g.Options), maps.Clone(g.Extensions)
	change(&g)
	return g
}

// refused are grants that no certificate can carry.
func refused(t testing.TB) map[string]plugins.Grant {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	shortKey, err := ssh.NewPublicKey(&small.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]plugins.Grant{}
	add := func(what string, change func(*plugins.Grant)) { all[what] = with(grant(t), change) }
	for what, change := range map[string]func(*plugins.Grant){
		"no type":              func(g *plugins.Grant) { g.Type = "" },
		"another type":         func(g *plugins.Grant) { g.Type = "User" },
		"an issuer":            func(g *plugins.Grant) { g.Issuer = "i" },
		"an audience":          func(g *plugins.Grant) { g.Audience = []string{"a"} },
		"a scope":              func(g *plugins.Grant) { g.Scope = []string{"a"} },
		"claims":               func(g *plugins.Grant) { g.Claims = []byte("{}") },
		"an assertion":         func(g *plugins.Grant) { g.Assertion = []byte("a") },
		"a short token id":     func(g *plugins.Grant) { g.TokenID = g.TokenID[1:] },
		"no key id":            func(g *plugins.Grant) { g.Subject = "" },
		"a key id of 2 lines":  func(g *plugins.Grant) { g.Subject = "a\nb" },
		"a key id of 1025":     func(g *plugins.Grant) { g.Subject = strings.Repeat("a", 1025) },
		"serial 0":             func(g *plugins.Grant) { g.Serial = 0 },
		"no principals":        func(g *plugins.Grant) { g.Principals = nil },
		"an empty principal":   func(g *plugins.Grant) { g.Principals = []string{""} },
		"two in one":           func(g *plugins.Grant) { g.Principals = []string{"a,b"} },
		"NUL in a principal":   func(g *plugins.Grant) { g.Principals = []string{"root\x00x"} },
		"257 principals":       func(g *plugins.Grant) { g.Principals = slices.Repeat([]string{"a"}, 257) },
		"no expiry":            func(g *plugins.Grant) { g.Expires = time.Time{} },
		"an expiry in 10000":   func(g *plugins.Grant) { g.Expires = time.Unix(253402300800, 0) },
		"an expiry before nbf": func(g *plugins.Grant) { g.Expires = g.NotBefore },
		"half a second":        func(g *plugins.Grant) { g.Expires = g.Expires.Add(time.Second / 2) },
		"issued at another":    func(g *plugins.Grant) { g.IssuedAt = g.IssuedAt.Add(-time.Second) },
		"nobody's key":         func(g *plugins.Grant) { g.Holder = plugins.Holder{} },
		"a thumbprint":         func(g *plugins.Grant) { g.Holder.Kind = "jkt" },
		"a key with a comment": func(g *plugins.Grant) { g.Holder.Value += " alice" },
		"a key with an end":    func(g *plugins.Grant) { g.Holder.Value += "\n" },
		"a key by other name":  func(g *plugins.Grant) { g.Holder.Value = "ssh-rsa" + strings.TrimPrefix(g.Holder.Value, "ssh-ed25519") },
		"a short RSA key":      func(g *plugins.Grant) { g.Holder.Value = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(shortKey))) },
		"an unknown option":    func(g *plugins.Grant) { g.Options["x@example.com"] = "" },
		"a command of nothing": func(g *plugins.Grant) { g.Options["force-command"] = "" },
		"a bad source":         func(g *plugins.Grant) { g.Options["source-address"] = "192.0.2.1/24" },
		"a value for none":     func(g *plugins.Grant) { g.Options["verify-required"] = "x" },
		"an unknown extension": func(g *plugins.Grant) { g.Extensions["permit-root"] = "" },
		"a flag with a value":  func(g *plugins.Grant) { g.Extensions["permit-pty"] = "x" },
		"too much":             func(g *plugins.Grant) { g.Options["force-command"] = strings.Repeat("x", 48<<10) },
		"a host with options":  func(g *plugins.Grant) { g.Type, g.Extensions = sshcert.Host, nil },
		"a host with more":     func(g *plugins.Grant) { g.Type, g.Options = sshcert.Host, nil },
	} {
		add(what, change)
	}
	all["a host's odd name"] = with(hostGrant(t), func(g *plugins.Grant) { g.Principals = []string{"a/b"} })
	all["a host's pattern"] = with(hostGrant(t), func(g *plugins.Grant) { g.Principals = []string{"*.example.com"} })
	return all
}

func TestThePromisesOfAnIssuer(t *testing.T) {
	for name, g := range map[string]plugins.Grant{"user": grant(t), "host": hostGrant(t)} {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, issuertest.Checks(), func(t *testing.T) issuertest.Subject { return subject(t, sshcert.New(), g) })
		})
	}
}

func subject(t testing.TB, i plugins.Issuer, g plugins.Grant) issuertest.Subject {
	return issuertest.Subject{
		Issuer: i, Inspector: sshcert.NewInspector(), Grant: g, Refused: refused(t), Kid: sshcert.Kid, TokenID: tokenID,
	}
}

// A ca is a key that signs certificates, and its other half.
type ca struct {
	plugins.VerifyingKey

	key crypto.Signer
}

func newCA(t testing.TB, alg signers.Algorithm) ca {
	t.Helper()
	p, err := alg.Params()
	if err != nil {
		t.Fatal(err)
	}
	var key crypto.Signer
	switch p.Kind {
	case signers.KindECDSA:
		key, err = ecdsa.GenerateKey(p.Curve, rand.Reader)
	case signers.KindEd25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case signers.KindRSA:
		key, err = rsa.GenerateKey(rand.Reader, p.Bits)
	}
	if err != nil {
		t.Fatal(err)
	}
	kid, err := sshcert.Kid(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return ca{plugins.VerifyingKey{ID: kid, Algorithm: alg, Public: key.Public()}, key}
}

// issue makes a finished certificate.
func (c ca) issue(t testing.TB, g plugins.Grant) string {
	t.Helper()
	d, err := sshcert.New().Prepare(context.Background(), g, c.VerifyingKey)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := c.Algorithm.Digest(d.ToBeSigned)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := c.Algorithm.Params()
	sig, err := c.key.Sign(rand.Reader, digest, p.Hash)
	if err != nil {
		t.Fatal(err)
	}
	token, err := d.Frame.Join(c.Algorithm, sig)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// authorities are the algorithms of a CA, RSA of one size.
func authorities(t testing.TB) []signers.Algorithm {
	d, err := sshcert.New().Describe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(d.Algorithms, func(a signers.Algorithm) bool {
		p, _ := a.Params()
		return p.Bits > 2048
	})
}

func TestVerifyAcceptsEachAlgorithm(t *testing.T) {
	var names []string
	for _, alg := range authorities(t) {
		c := newCA(t, alg)
		trusted := []byte("# two of them\n" + line(t, subjectKey.Public()) + "\ncert-authority " + line(t, c.Public) + " ci@2\n")
		for _, g := range []plugins.Grant{grant(t), hostGrant(t)} {
			v, err := sshcert.Verify(c.issue(t, g)+" comment\n", trusted, sshcert.VerifyOptions{
				Principal: map[string]string{"user": "deploy", "host": "Build.example.com"}[g.Type], Type: g.Type,
				Now: issued.Add(time.Minute), Source: netip.MustParseAddr("2001:db8::7"),
			})
			if err != nil {
				t.Errorf("%s: %v", alg, err)
			} else if field := v.Diff(g); field != "" || v.CA != c.ID {
				t.Errorf("%s: another %s than was granted, or CA %s", alg, field, v.CA)
			}
			names = append(names, v.Algorithm)
		}
	}
	slices.Sort(names)
	want := []string{"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"}
	if names = slices.Compact(names); !slices.Equal(names, want) {
		t.Errorf("algorithms: got %q, want %q", names, want)
	}
}

func TestVerifyRefuses(t *testing.T) {
	c, other := newCA(t, signers.ECDSAP256), newCA(t, signers.Ed25519)
	cert, trusted := c.issue(t, grant(t)), line(t, c.Public)
	good := sshcert.VerifyOptions{Principal: "deploy", Type: sshcert.User, Now: issued.Add(time.Minute)}
	for _, x := range []struct {
		name, cert, trusted string
		change              func(*sshcert.VerifyOptions)
	}{
		{"another principal", cert, trusted, func(o *sshcert.VerifyOptions) { o.Principal = "root" }},
		{"no principal", cert, trusted, func(o *sshcert.VerifyOptions) { o.Principal = "" }},
		{"a principal in capitals", cert, trusted, func(o *sshcert.VerifyOptions) { o.Principal = "Deploy" }},
		{"a host wanted", cert, trusted, func(o *sshcert.VerifyOptions) { o.Type = sshcert.Host }},
		{"expired", cert, trusted, func(o *sshcert.VerifyOptions) { o.Now = issued.Add(5 * time.Minute) }},
		{"not yet valid", cert, trusted, func(o *sshcert.VerifyOptions) { o.Now = issued.Add(-time.Second) }},
		{"from elsewhere", cert, trusted, func(o *sshcert.VerifyOptions) { o.Source = netip.MustParseAddr("192.0.2.8") }},
		{"another CA", cert, line(t, other.Public), nil},
		{"no CA", cert, "", nil},
		{"a key", line(t, c.Public), trusted, nil},
		{"nothing", "", trusted, nil},
		{"two", cert + "\n" + cert, trusted, nil},
		{"options before it", "permit-pty " + cert, trusted, nil},
		{"too long", strings.Repeat("x", 70<<10), trusted, nil},
	} {
		o := good
		if x.change != nil {
			x.change(&o)
		}
		if _, err := sshcert.Verify(x.cert, []byte(x.trusted), o); !errors.Is(err, sshcert.ErrNotGood) {
			t.Errorf("%s: got %v, want ErrNotGood", x.name, err)
		}
	}
	if _, err := sshcert.Verify(cert, []byte(trusted), good); err != nil {
		t.Errorf("the certificate itself: %v", err)
	}
	if _, err := sshcert.Verify(cert, []byte("not a key"), good); err == nil || errors.Is(err, sshcert.ErrNotGood) {
		t.Errorf("CA keys that are none: got %v, want an error about them", err)
	}
}

// TestAChangedByteIsNotGood flips a bit in each byte of a certificate.
func TestAChangedByteIsNotGood(t *testing.T) {
	c := newCA(t, signers.ECDSAP256)
	kind, encoded, _ := strings.Cut(c.issue(t, grant(t)), " ")
	whole, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	o := sshcert.VerifyOptions{Principal: "deploy", Now: issued.Add(time.Minute)}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1 << (i % 8)
		cert := kind + " " + base64.StdEncoding.EncodeToString(changed)
		if _, err := sshcert.Verify(cert, []byte(line(t, c.Public)), o); !errors.Is(err, sshcert.ErrNotGood) {
			t.Errorf("byte %d of %d: got %v, want ErrNotGood", i, len(whole), err)
		}
	}
}

// TestASHA1SignatureIsNotGood has x/crypto sign as OpenSSH did long ago.
func TestASHA1SignatureIsNotGood(t *testing.T) {
	c := newCA(t, "rsa2048-pkcs1-sha512")
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.issue(t, grant(t))))
	if err != nil {
		t.Fatal(err)
	}
	cert := key.(*ssh.Certificate)
	signer, err := ssh.NewSignerFromSigner(c.key)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.SignCert(rand.Reader, old); err != nil {
		t.Fatal(err)
	}
	o := sshcert.VerifyOptions{Principal: "deploy", Now: issued.Add(time.Minute)}
	_, err = sshcert.Verify(string(ssh.MarshalAuthorizedKey(cert)), []byte(line(t, c.Public)), o)
	if !errors.Is(err, sshcert.ErrNotGood) || !strings.Contains(fmt.Sprint(err), "ssh-rsa") {
		t.Errorf("got %v, want ErrNotGood for ssh-rsa", err)
	}
}

func TestDescribeShowsWhatACertificateSays(t *testing.T) {
	c := newCA(t, signers.Ed25519)
	cert := c.issue(t, grant(t))
	said, err := sshcert.Describe(cert + " alice\n")
	if err != nil {
		t.Fatal(err)
	}
	if said.CA != c.ID || said.Serial != 41 || said.Type != "user" || said.ValidAfter != "2026-01-02T03:04:05Z" || said.Options["force-command"] != "uptime -p" {
		t.Errorf("Describe: got %+v", said)
	}
	if !sshcert.IsCertificate(cert) || sshcert.IsCertificate("eyJ.e30.") || sshcert.IsCertificate(line(t, c.Public)) {
		t.Error("IsCertificate takes something else for one, or the reverse")
	}
	for _, bad := range []string{"", "x", line(t, c.Public), cert[:40]} {
		if _, err := sshcert.Describe(bad); !errors.Is(err, sshcert.ErrNotGood) {
			t.Errorf("Describe(%.40q): got %v, want ErrNotGood", bad, err)
		}
	}
}

func BenchmarkPrepare(b *testing.B) { benchmark(b, false) }
func BenchmarkInspect(b *testing.B) { benchmark(b, true) }

func benchmark(b *testing.B, inspect bool) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	kid, err := sshcert.Kid(priv.Public())
	if err != nil {
		b.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: kid, Algorithm: signers.ECDSAP256, Public: &priv.PublicKey}
	g := grant(b)
	d, err := sshcert.New().Prepare(context.Background(), g, k)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if inspect {
			_, err = sshcert.NewInspector().Inspect(d.ToBeSigned, k)
		} else {
			_, err = sshcert.New().Prepare(context.Background(), g, k)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
