package jwt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/signers"
)

// TestLineEndsInBase64AreRefused: Go's decoder passes over them, others do not.
func TestLineEndsInBase64AreRefused(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := plugins.VerifyingKey{ID: "KID", Algorithm: signers.ECDSAP256, Public: &priv.PublicKey}
	v := readVector(t, "../../conformance/vectors/jwt/good.txt")
	enc := base64.RawURLEncoding
	head, claims := enc.EncodeToString([]byte(v["header"])), enc.EncodeToString([]byte(v["claims"]))
	in := jwt.NewInspector()
	if _, err := in.Inspect([]byte(head+"."+claims), k); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"\n", "\r", "\r\n"} {
		for _, body := range []string{head + "." + end + claims, head + "." + claims[:8] + end + claims[8:], head + "." + claims + end, end + head + "." + claims} {
			if _, err := in.Inspect([]byte(body), k); !errors.Is(err, plugins.ErrRefused) {
				t.Errorf("%q: got %v, want ErrRefused", strings.ReplaceAll(body, claims, "…"), err)
			}
		}
		if _, err := in.KeyID([]byte(head[:4] + end + head[4:] + "." + claims)); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("KeyID with %q: got %v, want ErrRefused", end, err)
		}
	}
}
