package sshcert

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"strings"
)

// A subject is the key that a certificate is for.
type subject struct {
	certType string
	fields   []byte // the blob without its type
}

// readSubject reads "TYPE BASE64".
func readSubject(line string) (subject, error) {
	kind, encoded, ok := strings.Cut(line, " ")
	certType := certTypes[kind]
	if !ok || certType == "" {
		return subject{}, refuse("the holder is not TYPE BASE64 of a key that can have a certificate\nhint: RSA, ECDSA, Ed25519 and their sk- kinds can")
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return subject{}, refuse("the holder's key is not base64")
	}
	name, fields, ok := take(blob)
	if !ok || string(name) != kind {
		return subject{}, refuse("the holder's key is of another type than it says")
	}
	if !goodKey(kind, fields) {
		return subject{}, refuse("the holder's %s key is malformed, or RSA outside %d to %d bits", kind, minRSA, maxRSA)
	}
	return subject{certType, fields}, nil
}

// goodKey looks at the fields of a key.
func goodKey(kind string, fields []byte) bool {
	var parts [3][]byte
	n := 0
	for ; n < len(parts) && len(fields) > 0; n++ {
		var ok bool
		if parts[n], fields, ok = take(fields); !ok {
			return false
		}
	}
	if len(fields) > 0 {
		return false
	}
	switch kind {
	case "ssh-rsa":
		return n == 2 && goodRSA(parts[0], parts[1])
	case "ssh-ed25519":
		return n == 1 && len(parts[0]) == 32
	case "sk-ssh-ed25519@openssh.com":
		return n == 2 && len(parts[0]) == 32 && application(parts[1])
	case "sk-ecdsa-sha2-nistp256@openssh.com":
		return n == 3 && string(parts[0]) == "nistp256" && onCurve(ecdh.P256(), parts[1]) && application(parts[2])
	}
	curve, ok := curves[strings.TrimPrefix(kind, "ecdsa-sha2-")]
	return ok && n == 2 && "ecdsa-sha2-"+string(parts[0]) == kind && onCurve(curve, parts[1])
}

var curves = map[string]ecdh.Curve{"nistp256": ecdh.P256(), "nistp384": ecdh.P384(), "nistp521": ecdh.P521()}

// onCurve takes a point uncompressed, as ecdh does.
func onCurve(c ecdh.Curve, point []byte) bool {
	_, err := c.NewPublicKey(point)
	return err == nil
}

// goodRSA wants an odd exponent of at most 24 bits, which is more than anyone
// uses, and a modulus of the size that is allowed.
func goodRSA(exponent, modulus []byte) bool {
	e, ok1 := number(exponent)
	n, ok2 := number(modulus)
	return ok1 && ok2 && e.BitLen() <= 24 && e.Int64() >= 3 && e.Bit(0) == 1 &&
		n.BitLen() >= minRSA && n.BitLen() <= maxRSA && n.Bit(0) == 1
}

// number reads a positive mpint in its shortest form (RFC 4251 section 5).
func number(b []byte) (*big.Int, bool) {
	if len(b) == 0 || b[0] >= 0x80 || b[0] == 0 && (len(b) == 1 || b[1] < 0x80) {
		return nil, false
	}
	return new(big.Int).SetBytes(b), true
}

// application is what a security key signs for: "ssh:" with or without more.
func application(b []byte) bool {
	return strings.HasPrefix(string(b), "ssh:") && text(string(b), maxName)
}

// take reads a string (RFC 4251 section 5).
func take(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if b = b[4:]; n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
