package keyring

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"testing"
)

// TestKidsAreThoseOfTheRFCs holds Thumbprint against the worked examples of
// RFC 7638 section 3.1 and RFC 8037 appendix A.3.
func TestKidsAreThoseOfTheRFCs(t *testing.T) {
	bytes := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	n := bytes("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	for want, pub := range map[string]crypto.PublicKey{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537},
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": ed25519.PublicKey(bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")),
	} {
		if kid, err := Thumbprint(pub); kid != want || err != nil {
			t.Errorf("Thumbprint(%T): got %q, %v; want %q", pub, kid, err, want)
		}
	}
	if kid, err := Thumbprint("no key"); err == nil {
		t.Errorf("Thumbprint of what is no key: got %q, want an error", kid)
	}
}

// TestAFormatMayNameItsKeys by what it calls them everywhere else, also after
// a restart; that a public key is one version's does not rest on it.
func TestAFormatMayNameItsKeys(t *testing.T) {
	w := newWorld(t)
	w.opts.Kid = func(format string, _ crypto.PublicKey) (string, error) {
		if format != spec.Format {
			t.Errorf("asked for format %q, want %q", format, spec.Format)
		}
		return "ours", nil
	}
	w.restart()
	signs(t, w.signer("pay"))
	w.restart()
	if k, err := w.Named("pay", "ours"); err != nil || k.Kid() != "ours" {
		t.Errorf("Named: got %v, want the version that the format calls so", err)
	}
	thumbprint, err := Thumbprint(w.current("pay").Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, taken := w.claimed(thumbprint); !taken {
		t.Error("its public key is nobody's: another version could have it")
	}
	w.opts.Kid = nil
	if _, err := Open(t.Context(), w.shop, w.backends, w.opts); !errors.Is(err, errOtherKid) {
		t.Errorf("a kid that is not its public key's: got %v, want %v", err, errOtherKid)
	}
}
