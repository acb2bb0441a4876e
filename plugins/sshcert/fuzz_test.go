package sshcert_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/sshcert"
	"github.com/signetd/signet/signers"
)

// fixedCA is the same in every run, so that what a fuzzer kept stays of use.
func fixedCA(t testing.TB) ca {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	kid, err := sshcert.Kid(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return ca{plugins.VerifyingKey{ID: kid, Algorithm: signers.Ed25519, Public: key.Public()}, key}
}

// seedBodies are the bodies of all vectors.
func seedBodies(f *testing.F, c ca) {
	files, err := filepath.Glob(vectors + "*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(body(f, readVector(f, file), blob(f, line(f, c.Public))))
	}
}

// FuzzInspect holds that whatever the inspector accepts, the issuer, which
// shares no code with it, writes again as the same bytes.
func FuzzInspect(f *testing.F) {
	c := fixedCA(f)
	seedBodies(f, c)
	f.Fuzz(func(t *testing.T, tbs []byte) {
		in := sshcert.NewInspector()
		g, err := in.Inspect(tbs, c.VerifyingKey)
		if err != nil {
			return
		}
		if kid, err := in.KeyID(tbs); err != nil || kid != c.ID {
			t.Errorf("%q names key %q, %v", tbs, kid, err)
		}
		d, err := sshcert.New().Prepare(context.Background(), g, c.VerifyingKey)
		if err != nil || !bytes.Equal(d.ToBeSigned, tbs) {
			t.Fatalf("%q reads as %+v, which is written as %q, %v", tbs, g, d.ToBeSigned, err)
		}
		if frame, err := in.Frame(tbs); err != nil || !frame.Equal(d.Frame) {
			t.Errorf("%q: another frame, %v", tbs, err)
		}
	})
}

// FuzzPrepare holds that whatever the issuer writes reads as the grant: a
// grant that only one of the two refuses would look like a forgery.
func FuzzPrepare(f *testing.F) {
	c := fixedCA(f)
	f.Add(true, "ci/1", "deploy", "build.example.com", uint64(1), int64(1), int64(2), "force-command", "uptime", "permit-pty", "", line(f, subjectKey.Public()))
	f.Add(true, "é", "a b", "x", uint64(0), int64(0), int64(2), "source-address", "192.0.2.0/24,::1", "a@b", "v", "ssh-ed25519 AAAA")
	f.Add(false, "é", "h", "[::1]", uint64(9), int64(1), int64(253402300799), "verify-required", "", "no-touch-required", "", line(f, subjectKey.Public()))
	f.Add(true, "\u202e", "\xff", "a\x00", uint64(9), int64(5), int64(3), "source-address", "::ffff:1.2.3.4/96", "@a", "", "sk-ssh-ed25519@openssh.com AAAA")
	f.Fuzz(func(t *testing.T, user bool, id, p1, p2 string, serial uint64, from, until int64, option, optionValue, extension, extensionValue, holder string) {
		g := plugins.Grant{
			Type: sshcert.Host, TokenID: tokenID(1), Subject: id, Serial: serial, Principals: []string{p1, p2},
			IssuedAt: time.Unix(from, 0), NotBefore: time.Unix(from, 0), Expires: time.Unix(until, 0),
			Holder: plugins.Holder{Kind: sshcert.HolderKind, Value: holder},
		}
		if user {
			g.Type = sshcert.User
			if option != "" {
				g.Options = map[string]string{option: optionValue}
			}
			if extension != "" {
				g.Extensions = map[string]string{extension: extensionValue}
			}
		}
		d, err := sshcert.New().Prepare(context.Background(), g, c.VerifyingKey)
		if err != nil {
			return
		}
		says, err := sshcert.NewInspector().Inspect(d.ToBeSigned, c.VerifyingKey)
		if err != nil || !says.Equal(g) {
			t.Fatalf("%+v was written and reads as %+v, %v", g, says, err)
		}
	})
}

// FuzzParse holds that a finished certificate that is taken apart is, put
// together again, the same text.
func FuzzParse(f *testing.F) {
	for _, alg := range authorities(f) {
		f.Add(string(alg), newCA(f, alg).issue(f, grant(f)))
	}
	f.Fuzz(func(t *testing.T, alg, token string) {
		k := plugins.VerifyingKey{Algorithm: signers.Algorithm(alg)}
		in := sshcert.NewInspector()
		tbs, sig, err := in.Parse(plugins.Token(token), k, nil)
		if err != nil {
			return
		}
		frame, err := in.Frame(tbs)
		if err != nil {
			t.Fatalf("%q has a body without a frame: %v", token, err)
		}
		if again, err := frame.Join(k.Algorithm, sig); err != nil || string(again) != token {
			t.Errorf("%q put together again: %q, %v", token, again, err)
		}
	})
}

// FuzzVerify holds that no text brings the verifier down, and that it accepts
// none that the CA did not sign.
func FuzzVerify(f *testing.F) {
	c := fixedCA(f)
	genuine := c.issue(f, grant(f))
	f.Add(genuine, "deploy")
	f.Add(c.issue(f, hostGrant(f)), "build.example.com")
	trusted := []byte(line(f, c.Public))
	f.Fuzz(func(t *testing.T, cert, principal string) {
		_, _ = sshcert.Describe(cert)
		v, err := sshcert.Verify(cert, trusted, sshcert.VerifyOptions{Principal: principal, Type: sshcert.User, Now: issued.Add(time.Minute)})
		if err == nil && (!strings.HasPrefix(strings.TrimSpace(cert), genuine[:40]) || v.Subject != grant(t).Subject) {
			t.Errorf("accepted for %q: %q", principal, cert)
		}
	})
}
