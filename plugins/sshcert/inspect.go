package sshcert

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
)

// An inspector reads certificate bodies, in the daemon. It has no state.
type inspector struct{}

// NewInspector returns the inspector of SSH certificates.
func NewInspector() plugins.Inspector { return inspector{} }

// noSignature is a string that holds an empty format and an empty blob: it
// makes a body a certificate that x/crypto/ssh reads.
var noSignature = []byte{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}

// certType is what a body says it is, which must be one that we make: data for
// user authentication, SSHSIG and other keys are not.
func certType(tbs []byte) (string, error) {
	if len(tbs) > maxBody {
		return "", refuse("the certificate body has %d bytes, the limit is %d", len(tbs), maxBody)
	}
	if bytes.HasPrefix(tbs, []byte("SSHSIG")) {
		return "", refuse("SSHSIG data is not a certificate body")
	}
	if len(tbs) < 4 {
		return "", refuse("the bytes are not a certificate body")
	}
	n, rest := uint64(binary.BigEndian.Uint32(tbs)), tbs[4:]
	for _, name := range certTypes {
		if n == uint64(len(name)) && bytes.HasPrefix(rest, []byte(name)) {
			return name, nil
		}
	}
	return "", refuse("the bytes are not a certificate body for a key of a known type")
}

// read reads a body, which must be exactly one: written again it is the same,
// and nothing of it was taken for a signature.
func read(tbs []byte) (*ssh.Certificate, error) {
	if _, err := certType(tbs); err != nil {
		return nil, err
	}
	whole := append(bytes.Clone(tbs), noSignature...)
	key, err := ssh.ParsePublicKey(whole)
	if err != nil {
		return nil, refuse("the certificate body: %w", err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, refuse("the bytes are not a certificate body")
	}
	if cert.Signature.Format != "" || len(cert.Signature.Blob) > 0 || len(cert.Signature.Rest) > 0 {
		return nil, refuse("the certificate body has a signature, or more, behind it")
	}
	if !bytes.Equal(cert.Marshal(), whole) {
		return nil, refuse("the certificate body is not in the form that it is written in")
	}
	return cert, nil
}

// KeyID returns the fingerprint of the CA key that a body names.
func (inspector) KeyID(tbs []byte) (string, error) {
	cert, err := read(tbs)
	if err != nil {
		return "", err
	}
	return ssh.FingerprintSHA256(cert.SignatureKey), nil
}

// Inspect returns everything that a certificate body says, or ErrRefused.
func (inspector) Inspect(tbs []byte, k plugins.VerifyingKey) (plugins.Grant, error) {
	cert, err := read(tbs)
	if err != nil {
		return plugins.Grant{}, err
	}
	if err := signedBy(cert, k); err != nil {
		return plugins.Grant{}, err
	}
	return grantOf(cert)
}

// signedBy wants the CA blob to be the key's own: sshd looks for that blob
// among those it trusts.
func signedBy(cert *ssh.Certificate, k plugins.VerifyingKey) error {
	if _, err := plugins.SSHAlgorithm(k.Algorithm); err != nil {
		return err
	}
	if err := k.Algorithm.Fits(k.Public); err != nil {
		return refuse("%w", err)
	}
	own, err := ssh.NewPublicKey(k.Public)
	if err != nil {
		return refuse("%w", err)
	}
	if !bytes.Equal(own.Marshal(), cert.SignatureKey.Marshal()) {
		return refuse("the CA key in the certificate is not the key's own")
	}
	if ssh.FingerprintSHA256(own) != k.ID {
		return refuse("the key is not called by its fingerprint")
	}
	return nil
}

// grantOf is what a certificate says, if it is complete.
func grantOf(cert *ssh.Certificate) (plugins.Grant, error) {
	g := plugins.Grant{
		TokenID: base64.RawURLEncoding.EncodeToString(cert.Nonce), Subject: cert.KeyId, Serial: cert.Serial,
		Principals: cert.ValidPrincipals, Options: cert.CriticalOptions, Extensions: cert.Extensions,
		Holder: plugins.Holder{Kind: HolderKind, Value: string(bytes.TrimRight(ssh.MarshalAuthorizedKey(cert.Key), "\n"))},
	}
	switch cert.CertType {
	case ssh.UserCert:
		g.Type = User
	case ssh.HostCert:
		g.Type = Host
	default:
		return g, refuse("the type is %d, neither user nor host", cert.CertType)
	}
	if err := subjectKey(cert.Key); err != nil {
		return g, err
	}
	if err := validity(&g, cert); err != nil {
		return g, err
	}
	if err := says(cert); err != nil {
		return g, err
	}
	return g, permissions(cert)
}

// validity wants a first and a last second: 0 and 2^64-1 stand for ever.
func validity(g *plugins.Grant, cert *ssh.Certificate) error {
	switch {
	case cert.ValidBefore == ssh.CertTimeInfinity || cert.ValidBefore == 0:
		return refuse("the certificate would be valid for ever\nhint: ssh-keygen -V +15m")
	case cert.ValidAfter == 0:
		return refuse("the certificate has no first moment\nhint: ssh-keygen -V +15m")
	case cert.ValidBefore >= endOfTime:
		return refuse("the certificate expires after the year 9999")
	case cert.ValidAfter >= cert.ValidBefore:
		return refuse("the certificate expires before it is valid")
	}
	from, until := int64(cert.ValidAfter), int64(cert.ValidBefore) //nolint:gosec // under endOfTime
	g.NotBefore, g.Expires = time.Unix(from, 0).UTC(), time.Unix(until, 0).UTC()
	g.IssuedAt = g.NotBefore // a certificate knows no other
	return nil
}

// Frame computes the frame that belongs to a certificate body.
func (inspector) Frame(tbs []byte) (plugins.Frame, error) {
	name, err := certType(tbs)
	if err != nil {
		return plugins.Frame{}, err
	}
	return plugins.Frame{Prefix: append([]byte(name), ' '), Head: tbs, Form: plugins.SSH, Encoding: plugins.Base64}, nil
}
