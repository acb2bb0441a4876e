package paseto_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/paseto"
	"github.com/signetd/signet/signers"
)

const official = "../../conformance/vectors/paseto/"

// An officialCase is one of paseto-standard's.
type officialCase struct {
	Name      string
	Fails     bool   `json:"expect-fail"`
	Public    string `json:"public-key-pem"`
	Secret    string `json:"secret-key-pem"`
	Token     string
	Payload   *string
	Footer    string
	Assertion string `json:"implicit-assertion"`
	Key       string
	PASERK    *string
}

func readOfficial(t *testing.T, file string) []officialCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(official, file))
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Tests []officialCase }
	if err := json.Unmarshal(data, &all); err != nil || len(all.Tests) == 0 {
		t.Fatalf("%s: %d cases, %v", file, len(all.Tests), err)
	}
	return all.Tests
}

func secret(t *testing.T, text string) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("not PEM: %q", text)
	}
	var key any
	var err error
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

func keyOf(pub crypto.PublicKey) plugins.VerifyingKey {
	if _, ok := pub.(ed25519.PublicKey); ok {
		return plugins.VerifyingKey{ID: "KID", Algorithm: signers.Ed25519, Public: pub}
	}
	return plugins.VerifyingKey{ID: "KID", Algorithm: signers.ECDSAP384, Public: pub}
}

// TestOfficialVectors has the inspector take every v3 and v4 token apart: each
// public one must verify and join to the same token again, for Ed25519 with a
// signature made anew; what must fail, fails.
func TestOfficialVectors(t *testing.T) {
	for version, file := range map[string]string{"v3.public.": "v3.json", "v4.public.": "v4.json"} {
		all := readOfficial(t, file)
		var key crypto.Signer
		good, bad := 0, 0
		for _, c := range all {
			if c.Secret != "" {
				key = secret(t, c.Secret)
			}
		}
		for _, c := range all {
			if !c.Fails && !strings.HasPrefix(c.Token, version) {
				continue // a good local token: not ours to read
			}
			k := keyOf(key.Public())
			tbs, sig, err := paseto.NewInspector().Parse(plugins.Token(c.Token), k, []byte(c.Assertion))
			if err == nil {
				err = k.Algorithm.Verify(k.Public, tbs, sig)
			}
			if c.Fails {
				bad++
				if err == nil {
					t.Errorf("%s: verifies, and must not", c.Name)
				}
				continue
			}
			good++
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			signsTheSame(t, c, key, k, tbs, sig)
		}
		if good != 3 || bad < 5 {
			t.Errorf("%s: %d good and %d bad cases, want 3 and 5", file, good, bad)
		}
	}
}

// signsTheSame joins the signature to the bytes again: what comes of it must
// be the token. Ed25519 signs anew; ECDSA has nonces of its own.
func signsTheSame(t *testing.T, c officialCase, key crypto.Signer, k plugins.VerifyingKey, tbs, sig []byte) {
	t.Helper()
	var err error
	if k.Algorithm == signers.Ed25519 {
		if sig, err = key.Sign(nil, tbs, crypto.Hash(0)); err != nil {
			t.Fatal(err)
		}
	}
	frame, err := paseto.NewInspector().Frame(tbs)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	if string(frame.Head) != *c.Payload {
		t.Errorf("%s: got the message %s, want %s", c.Name, frame.Head, *c.Payload)
	}
	token, err := frame.Join(k.Algorithm, sig)
	if err != nil || string(token) != c.Token {
		t.Errorf("%s: got %s, %v; want %s", c.Name, token, err, c.Token)
	}
}

// TestOfficialVectorsChanged: a good vector is bad with any bit changed, with
// another assertion, and for another key.
func TestOfficialVectorsChanged(t *testing.T) {
	for _, file := range []string{"v3.json", "v4.json"} {
		for _, c := range readOfficial(t, file) {
			if c.Fails || c.Secret == "" {
				continue
			}
			k := keyOf(secret(t, c.Secret).Public())
			verifies := func(token, assertion string) bool {
				tbs, sig, err := paseto.NewInspector().Parse(plugins.Token(token), k, []byte(assertion))
				return err == nil && k.Algorithm.Verify(k.Public, tbs, sig) == nil
			}
			if verifies(c.Token, c.Assertion+" ") {
				t.Errorf("%s: verifies with another assertion", c.Name)
			}
			step := 1
			if k.Algorithm == signers.ECDSAP384 {
				step = 6 // slow, under the race detector above all; the other languages see each
			}
			for i := 0; i < len(c.Token); i += step {
				changed := []byte(c.Token)
				changed[i] ^= 1 << (i % 6)
				if verifies(string(changed), c.Assertion) {
					t.Errorf("%s: verifies with byte %d changed to %q", c.Name, i, changed[i])
				}
			}
		}
	}
}

// TestOfficialPASERKs holds ids and public keys against PASERK's vectors. Some
// of its keys are no points of their curve: they are written, and not read.
func TestOfficialPASERKs(t *testing.T) {
	for _, kind := range []string{"k3", "k4"} {
		for _, c := range readOfficial(t, "PASERK/"+kind+".pid.json") {
			raw, _ := hex.DecodeString(c.Key)
			if c.Fails {
				continue // a key of another size, which no crypto.PublicKey of ours is
			}
			if got, err := paseto.Pid(kind, raw); err != nil || got != *c.PASERK {
				t.Errorf("%s: got %s, %v; want %s", c.Name, got, err, *c.PASERK)
			}
		}
		for _, c := range readOfficial(t, "PASERK/"+kind+".public.json") {
			raw, _ := hex.DecodeString(c.Key)
			pub := publicKey(kind, raw)
			if c.Fails {
				if pub != nil {
					t.Errorf("%s: a key of another version is taken: %s", c.Name, c.Key)
				}
				continue
			}
			k, err := paseto.ParsePASERK(*c.PASERK)
			if pub == nil {
				if err == nil {
					t.Errorf("%s: no point of the curve, and read as one", c.Name)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			if got, err := paseto.PublicPASERK(k.Public); err != nil || got != *c.PASERK {
				t.Errorf("%s: got %s, %v; want %s", c.Name, got, err, *c.PASERK)
			}
			if kid, err := paseto.Kid(pub); err != nil || kid != k.ID {
				t.Errorf("%s: got the ids %q and %q, %v", c.Name, kid, k.ID, err)
			}
		}
	}
}

// publicKey is a key from its bytes, nil if they are none of its kind.
func publicKey(kind string, raw []byte) crypto.PublicKey {
	if kind == "k4" {
		if len(raw) != ed25519.PublicKeySize {
			return nil
		}
		return ed25519.PublicKey(raw)
	}
	x, y := elliptic.UnmarshalCompressed(elliptic.P384(), raw)
	if x == nil {
		return nil
	}
	whole := append([]byte{4}, x.FillBytes(make([]byte, 48))...)
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), append(whole, y.FillBytes(make([]byte, 48))...))
	if err != nil {
		return nil
	}
	return k
}

// TestPAE holds the encoding against the examples of the specification
// (Common.md, "PAE Definition").
func TestPAE(t *testing.T) {
	zero := make([]byte, 8)
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		pieces [][]byte
		want   []byte
	}{
		{nil, zero},
		{[][]byte{{}}, append(bytes.Clone(one), zero...)},
		{[][]byte{[]byte("test")}, append(append(bytes.Clone(one), 4, 0, 0, 0, 0, 0, 0, 0), "test"...)},
	} {
		if got := paseto.PAE(c.pieces...); !bytes.Equal(got, c.want) {
			t.Errorf("PAE(%q): got %x, want %x", c.pieces, got, c.want)
		}
	}
}
