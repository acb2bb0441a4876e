package sshcert

import (
	"bytes"
	"encoding/base64"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// Parse takes a finished certificate apart: its body, and its signature in the
// form that k's algorithm verifies. One line, one text: base64 of no other
// form, no comment.
func (inspector) Parse(t plugins.Token, k plugins.VerifyingKey, _ []byte) (tbs, sig []byte, err error) {
	whole, err := unwrap(t)
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.ParsePublicKey(whole)
	if err != nil {
		return nil, nil, refuse("the certificate: %w", err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || !bytes.Equal(cert.Marshal(), whole) {
		return nil, nil, refuse("the certificate is not in the form that it is written in")
	}
	tail := 4 + len(ssh.Marshal(cert.Signature))
	sig, err = signature(cert.Signature, k.Algorithm)
	return whole[:len(whole)-tail], sig, err
}

// unwrap reads "TYPE BASE64".
func unwrap(t plugins.Token) ([]byte, error) {
	if len(t) > plugins.MaxToken {
		return nil, refuse("the certificate has %d bytes, the limit is %d", len(t), plugins.MaxToken)
	}
	kind, encoded, _ := bytes.Cut(t, []byte{' '})
	// The library passes over line ends, strict or not.
	if bytes.ContainsAny(encoded, "\r\n") {
		return nil, refuse("the certificate has more than one line")
	}
	whole, err := base64.StdEncoding.Strict().AppendDecode(nil, encoded)
	if err != nil {
		return nil, refuse("the certificate is not TYPE BASE64")
	}
	// Past the limit of a body there is still a signature.
	name, err := certType(whole[:min(len(whole), maxBody)])
	if err == nil && name != string(kind) {
		err = refuse("the certificate is of another type than its line says")
	}
	return whole, err
}

// signature turns an SSH signature (RFC 4253 section 6.6, RFC 8332, RFC 5656
// section 3.1.2, RFC 8709 section 6) into what alg verifies. An ECDSA
// signature is two mpints, each in its shortest form.
func signature(s *ssh.Signature, alg signers.Algorithm) ([]byte, error) {
	name, err := plugins.SSHAlgorithm(alg)
	if err != nil {
		return nil, err
	}
	if s.Format != name || len(s.Rest) > 0 {
		return nil, refuse("the signature is %.64q, not %s", s.Format, name)
	}
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	switch p.Kind {
	case signers.KindEd25519:
		return s.Blob, sized(s.Blob, 64)
	case signers.KindRSA:
		return s.Blob, sized(s.Blob, p.Bits/8)
	case signers.KindECDSA:
		return fromNumbers(s.Blob, alg)
	}
	return nil, refuse("a signature of kind %s is unknown", p.Kind)
}

func sized(blob []byte, want int) error {
	if len(blob) != want {
		return refuse("the signature has %d bytes, not %d", len(blob), want)
	}
	return nil
}

func fromNumbers(blob []byte, alg signers.Algorithm) ([]byte, error) {
	size, err := alg.RawLength()
	if err != nil {
		return nil, err
	}
	var two struct{ R, S []byte }
	if err := ssh.Unmarshal(blob, &two); err != nil {
		return nil, refuse("the signature is not two numbers")
	}
	raw := make([]byte, size)
	for i, n := range [][]byte{two.R, two.S} {
		if len(n) == 0 || n[0] >= 0x80 || n[0] == 0 && (len(n) == 1 || n[1] < 0x80) {
			return nil, refuse("a number of the signature is not positive or not in its shortest form")
		}
		if n = bytes.TrimPrefix(n, []byte{0}); len(n) > size/2 {
			return nil, refuse("a number of the signature is too long")
		}
		half := raw[i*size/2 : (i+1)*size/2]
		copy(half[len(half)-len(n):], n)
	}
	return alg.DERFromRaw(raw)
}
