package softkey

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"

	"github.com/signetd/signet/signers"
)

func newTestSeal(t testing.TB) *seal {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSeal(i.String())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTestEntry(t testing.TB, alg signers.Algorithm) *entry {
	t.Helper()
	priv, err := generateKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEntry("pay", alg, priv)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSealOpensWhatItClosed(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := newSeal(hybrid.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*seal{newTestSeal(t), pq} {
		file, err := s.close(newTestEntry(t, signers.Ed25519))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.open("pay", file); err != nil {
			t.Errorf("open: %v", err)
		}
		if _, err := newTestSeal(t).open("pay", file); !errors.Is(err, errDamaged) {
			t.Errorf("open with another secret: got %v, want errDamaged", err)
		}
	}
}

// TestNoChangedFileOpens cuts, lengthens, overwrites and splices key files.
func TestNoChangedFileOpens(t *testing.T) {
	s := newTestSeal(t)
	good, err := s.close(newTestEntry(t, signers.ECDSAP256))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(good)).Draw(t, "at")
		cut := rapid.IntRange(0, len(good)-at).Draw(t, "cut")
		put := rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "put")
		bad := append(append(bytes.Clone(good[:at]), put...), good[at+cut:]...)
		if bytes.Equal(bad, good) {
			t.Skip("unchanged")
		}
		if _, err := s.open("pay", bad); !errors.Is(err, errDamaged) {
			t.Fatalf("open of a changed file: got %v, want errDamaged", err)
		}
	})
}

func TestNoSingleByteMayChange(t *testing.T) {
	s := newTestSeal(t)
	good, err := s.close(newTestEntry(t, signers.Ed25519))
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := s.open("pay", bad); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d changed: got %v, want errDamaged", i, err)
		}
	}
}

// body is the record inside a key file.
func body(t testing.TB, s *seal, e *entry) string {
	t.Helper()
	file, err := s.close(e)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := decrypt(file, s.identity)
	if err != nil {
		t.Fatal(err)
	}
	_, record, _ := bytes.Cut(plain, []byte("\n"))
	return string(record)
}

func TestParseRecordRefuses(t *testing.T) {
	good := body(t, newTestSeal(t), newTestEntry(t, signers.ECDSAP256))
	swap := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	tests := []struct{ name, body string }{
		{"nothing", ""},
		{"another key's algorithm", swap("ecdsa-p256-sha256", "ed25519")},
		{"another curve", swap("ecdsa-p256-sha256", "ecdsa-p384-sha384")},
		{"an unknown algorithm", swap("ecdsa-p256-sha256", "none")},
		{"a bad id", swap(`"pay"`, `"../pay"`)},
		{"an unknown field", swap(`{`, `{"extra":1,`)},
		{"a second record", good + good},
		{"something behind", good + "x"},
		{"no key", `{"id":"pay","algorithm":"ed25519"}`},
		{"a cut key", swap(`"pkcs8":"M`, `"pkcs8":"`)},
		{"a key that cannot sign", `{"id":"pay","algorithm":"ed25519","pkcs8":"` + x25519PKCS8 + `"}`},
	}
	for _, tt := range tests {
		if e, err := parseRecord([]byte(tt.body)); err == nil {
			t.Errorf("%s: got a key for %s, want an error", tt.name, e.alg)
		}
	}
	if _, err := parseRecord([]byte(good)); err != nil {
		t.Errorf("the record they were made from: %v", err)
	}
}

// x25519PKCS8 is a private key for key agreement (RFC 8410, with a body of 1s).
const x25519PKCS8 = "MC4CAQAwBQYDK2VuBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"

// FuzzParseRecord: whatever parses is a key that signs for its algorithm.
func FuzzParseRecord(f *testing.F) {
	s := newTestSeal(f)
	for _, alg := range []signers.Algorithm{signers.ECDSAP256, signers.Ed25519, "rsa2048-pss-sha256"} {
		f.Add([]byte(body(f, s, newTestEntry(f, alg))))
	}
	f.Add([]byte(`{"id":"pay","algorithm":"ed25519","pkcs8":"` + x25519PKCS8 + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseRecord(data)
		if err != nil {
			return
		}
		if err := e.id.Check(); err != nil {
			t.Error(err)
		}
		sig, err := e.sign([]byte("a message"))
		if err != nil {
			t.Fatalf("a key that parsed does not sign: %v", err)
		}
		if err := e.alg.Verify(e.pub, []byte("a message"), sig); err != nil {
			t.Error(err)
		}
	})
}
