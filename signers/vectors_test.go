package signers_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/signetd/signet/signers"
)

const vectors = "../conformance/vectors"

// A joseVector is one file of the JOSE cookbook (RFC 7520, RFC 8037).
type joseVector struct {
	Input struct {
		Key struct{ Kty, Crv, N, E, X, Y string }
		Alg string
	}
	Signing struct {
		Input string `json:"sig-input"`
		Sig   string
	}
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func base64url(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (v joseVector) public(t *testing.T) crypto.PublicKey {
	number := func(s string) *big.Int { return new(big.Int).SetBytes(base64url(t, s)) }
	switch k := v.Input.Key; k.Kty + k.Crv {
	case "RSA":
		return &rsa.PublicKey{N: number(k.N), E: int(number(k.E).Int64())}
	case "ECP-521":
		point := slices.Concat([]byte{4}, base64url(t, k.X), base64url(t, k.Y))
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P521(), point)
		if err != nil {
			t.Fatal(err)
		}
		return pub
	case "OKPEd25519":
		return ed25519.PublicKey(base64url(t, k.X))
	default:
		t.Fatalf("unknown key type %s %s", k.Kty, k.Crv)
		return nil
	}
}

func TestSignaturesOfTheJOSECookbook(t *testing.T) {
	tests := []struct {
		file, jose string
		alg        signers.Algorithm
	}{
		{"jose/jws/4_1.rsa_v15_signature.json", "RS256", "rsa2048-pkcs1-sha256"},
		{"jose/jws/4_2.rsa-pss_signature.json", "PS384", "rsa2048-pss-sha384"},
		{"jose/jws/4_3.ecdsa_signature.json", "ES512", "ecdsa-p521-sha512"},
		{"jose/ed25519-jws.json", "EdDSA", "ed25519"},
	}
	for _, tt := range tests {
		var v joseVector
		readJSON(t, tt.file, &v)
		if v.Input.Alg != tt.jose {
			t.Errorf("%s: alg is %s, want %s", tt.file, v.Input.Alg, tt.jose)
		}
		message, sig := []byte(v.Signing.Input), base64url(t, v.Signing.Sig)
		if tt.jose == "ES512" {
			der, err := tt.alg.DERFromRaw(sig)
			if err != nil {
				t.Fatal(err)
			}
			sig = der
		}
		if err := tt.alg.Verify(v.public(t), message, sig); err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
		message[0] ^= 1
		if err := tt.alg.Verify(v.public(t), message, sig); !errors.Is(err, signers.ErrBadSignature) {
			t.Errorf("%s, changed: got %v, want ErrBadSignature", tt.file, err)
		}
	}
}

// TestEd25519EdgeCases states what Go does with odd points, so that a change is
// seen: it takes any public key, and refuses an R that is not canonical or that
// only verifies with the cofactor. Our keys come from our back-ends, so nothing
// rests on this.
func TestEd25519EdgeCases(t *testing.T) {
	var cases []struct {
		Number        int
		Key, Sig, Msg string
		Flags         []string
	}
	readJSON(t, "cctv/ed25519/ed25519vectors.json", &cases)
	if len(cases) != 914 {
		t.Fatalf("got %d cases, want 914", len(cases))
	}
	for _, c := range cases {
		key, errKey := hex.DecodeString(c.Key)
		sig, errSig := hex.DecodeString(c.Sig)
		if err := errors.Join(errKey, errSig); err != nil {
			t.Fatal(err)
		}
		want := error(nil)
		if slices.ContainsFunc(c.Flags, func(f string) bool {
			return f == "low_order_residue" || f == "non_canonical_R"
		}) {
			want = signers.ErrBadSignature
		}
		if err := signers.Ed25519.Verify(ed25519.PublicKey(key), []byte(c.Msg), sig); !errors.Is(err, want) {
			t.Errorf("case %d %v: got %v, want %v", c.Number, c.Flags, err, want)
		}
	}
}
