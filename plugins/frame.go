package plugins

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/signetd/signet/signers"
)

// A Frame says how the daemon itself joins a signature to its token:
//
//	Prefix + Encoding(Head + signature in Form + Tail) + Suffix
//
//	JWS      Prefix "header.claims."        base64url  raw (R‖S)
//	PASETO   Prefix "v4.public."            base64url  Head message, raw, Suffix ".footer"
//	SSH      Prefix "ssh-…-cert-v01@… "     base64     Head body, SSH form
type Frame struct {
	Prefix, Head, Tail, Suffix []byte
	Form                       Form
	Encoding                   Encoding
}

// A Form is how a format writes a signature.
type Form uint8

// The forms of a signature. The zero Form is refused.
const (
	Raw Form = iota + 1 // R‖S for ECDSA, else the bytes as they are
	DER                 // as signers.Algorithm.Verify takes it
	SSH                 // string(string name, string blob), RFC 4253 section 6.6
)

// An Encoding is how a format writes the signed part of its token.
type Encoding uint8

// The encodings. The zero Encoding is refused.
const (
	Binary    Encoding = iota + 1
	Base64URL          // RFC 4648 section 5, unpadded
	Base64             // RFC 4648 section 4, padded
)

// MaxToken is the largest token the daemon will join, in bytes.
const MaxToken = 64 << 10

// Equal reports whether f and g are the same, byte for byte.
func (f Frame) Equal(g Frame) bool {
	return f.Form == g.Form && f.Encoding == g.Encoding &&
		bytes.Equal(f.Prefix, g.Prefix) && bytes.Equal(f.Head, g.Head) &&
		bytes.Equal(f.Tail, g.Tail) && bytes.Equal(f.Suffix, g.Suffix)
}

// Check returns ErrRefused for a frame that no signature fits: an unknown
// form or encoding, or a token over MaxToken. It is called before the intent
// is recorded, so that Join cannot fail after the key was used.
func (f Frame) Check(alg signers.Algorithm) error {
	if f.Form < Raw || f.Form > SSH {
		return fmt.Errorf("frame: signature form %d is unknown: %w", f.Form, ErrRefused)
	}
	if f.Encoding < Binary || f.Encoding > Base64 {
		return fmt.Errorf("frame: encoding %d is unknown: %w", f.Encoding, ErrRefused)
	}
	if _, err := alg.Params(); err != nil {
		return fmt.Errorf("frame: %w: %w", err, ErrRefused)
	}
	if _, err := SSHAlgorithm(alg); f.Form == SSH && err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	// 4096-bit RSA is the longest signature; base64 adds a third.
	n := len(f.Prefix) + len(f.Suffix) + (len(f.Head)+len(f.Tail)+512)*4/3 + 4
	if n > MaxToken {
		return fmt.Errorf("frame: the token would have about %d bytes, the limit is %d: %w", n, MaxToken, ErrRefused)
	}
	return nil
}

// Write turns sig, as signers.Algorithm.Verify accepts it, into form f.
func (f Form) Write(alg signers.Algorithm, sig []byte) ([]byte, error) {
	p, err := alg.Params()
	if err != nil {
		return nil, err
	}
	switch {
	case f == SSH:
		return writeSSH(alg, sig)
	case f == Raw && p.Kind == signers.KindECDSA:
		return alg.RawFromDER(sig)
	}
	return sig, nil
}

// Join makes the token from f and sig, which is in the form that
// signers.Algorithm.Verify accepts.
func (f Frame) Join(alg signers.Algorithm, sig []byte) (Token, error) {
	if err := f.Check(alg); err != nil {
		return nil, err
	}
	written, err := f.Form.Write(alg, sig)
	if err != nil {
		return nil, err
	}
	return f.JoinWritten(written)
}

// JoinWritten is Join for a signature that is in the frame's form already.
func (f Frame) JoinWritten(written []byte) (Token, error) {
	body := bytes.Join([][]byte{f.Head, written, f.Tail}, nil)
	token := append(make(Token, 0, len(f.Prefix)+len(body)*4/3+4+len(f.Suffix)), f.Prefix...)
	switch f.Encoding {
	case Base64URL:
		token = base64.RawURLEncoding.AppendEncode(token, body)
	case Base64:
		token = base64.StdEncoding.AppendEncode(token, body)
	case Binary:
		token = append(token, body...)
	default:
		return nil, fmt.Errorf("frame: encoding %d is unknown: %w", f.Encoding, ErrRefused)
	}
	return append(token, f.Suffix...), nil
}
