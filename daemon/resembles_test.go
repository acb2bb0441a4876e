package daemon

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/signers"
)

// Each is made by whoever else makes it, not by hand, where there is a library.
func TestWhatAnotherVerifierWouldTakeIsSeen(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]byte{
		"a JWS signing input":                  jwtBody(t, key),
		"a PASETO pre-authentication encoding": pae("v4.public.", "{}", "", ""),
		"an SSH certificate":                   sshBody(t, key),
		"an SSH login":                         append(append(binary.BigEndian.AppendUint32(nil, 32), make([]byte, 32)...), 50, 0),
		"an SSHSIG or an SSH revocation list":  []byte("SSHSIG\x00\x00\x00\x04file"),
		"a TLS handshake's":                    []byte(strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32)),
		"an ASN.1 SEQUENCE, as X.509 signs":    cert.RawTBSCertificate,
	}
	for what, tbs := range rows {
		if got := resembles(tbs); got != what {
			t.Errorf("got %q, want %q", got, what)
		}
	}
	if len(rows) != len(lookalikes) {
		t.Errorf("%d rows for %d lookalikes", len(rows), len(lookalikes))
	}
	exchange := append(make([]byte, 64), 3, 0, 29, 32)
	for name, tbs := range map[string][]byte{
		"a JWS with a bare payload":   []byte("eyJhbGciOiJFUzI1NiIsImI2NCI6ZmFsc2V9.\x00\xff."),
		"a PASETO of version 3":       pae("\x02"+strings.Repeat("x", 48), "v3.public.", "{}", "", ""),
		"a TLS 1.2 key exchange":      append(exchange, make([]byte, 32)...),
		"a revocation list":           []byte("SSHKRL\n\x00"),
		"a SEQUENCE without a length": {0x30, 0x80, 1, 0, 0},
		"a SEQUENCE, long-winded":     {0x30, 0x82, 0, 1, 5},
	} {
		if resembles(tbs) == "" {
			t.Errorf("%s is not seen", name)
		}
	}
	for name, tbs := range map[string][]byte{
		"nothing": nil, "a COSE Sig_structure": []byte("\x84\x6aSignature1\x43\xa1\x01\x26\x40\x40"), "text": []byte("toy.eyJLaWQ.x"),
		"a zero": []byte("0"), "a short SEQUENCE": {0x30, 5, 1}, "half a length": {0x30, 0x84, 1},
	} {
		if got := resembles(tbs); got != "" {
			t.Errorf("%s: got %q, want nothing", name, got)
		}
	}
}

func jwtBody(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	at := time.Unix(1767323045, 0)
	d, err := jwt.New().Prepare(t.Context(), plugins.Grant{
		Type: "x+jwt", Issuer: "i", TokenID: "t", Subject: "s", Audience: []string{"a"}, IssuedAt: at, NotBefore: at, Expires: at.Add(time.Minute),
	}, plugins.VerifyingKey{ID: "k", Algorithm: signers.ECDSAP256, Public: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	return d.ToBeSigned
}

func sshBody(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"root"}}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(cert.Marshal(), ssh.Marshal(struct{ S []byte }{ssh.Marshal(cert.Signature)}))
}

func pae(pieces ...string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(pieces)))
	for _, p := range pieces {
		b = append(binary.LittleEndian.AppendUint64(b, uint64(len(p))), p...)
	}
	return b
}
