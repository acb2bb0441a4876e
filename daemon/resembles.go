package daemon

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"
)

// A lookalike is something that verifiers take a signature over, whoever's key
// it is.
type lookalike struct {
	what string
	is   func(toBeSigned []byte) bool
}

// lookalikes are what a plug-in's ToBeSigned must not be (decided wider than
// any one parser: verifiers are laxer than our inspectors). A format that is
// compiled in brings its own, in resembles.
var lookalikes = []lookalike{
	{"a JWS signing input", isJWS},
	{"a PASETO pre-authentication encoding", isPAE},
	{"an SSH certificate", isSSHCertificate},
	{"an SSH login", isSSHLogin},
	{"an SSHSIG or an SSH revocation list", isSSHSIG},
	{"a TLS handshake's", isTLS},
	{"an ASN.1 SEQUENCE, as X.509 signs", isDER},
}

// resembles says what else the bytes are that a plug-in wants signed, "" for
// nothing that we know.
func resembles(tbs []byte) string {
	for _, l := range lookalikes {
		if l.is(tbs) {
			return l.what
		}
	}
	for name, s := range stocks {
		// KeyID looks at less than Inspect does, which is what is wanted here.
		if _, err := s.inspector().KeyID(tbs); err == nil {
			return "a token of the format " + name
		}
	}
	return ""
}

// isJWS: RFC 7515 section 5.1, and RFC 7797, whose payload may be anything.
func isJWS(tbs []byte) bool {
	head, _, found := bytes.Cut(tbs, []byte("."))
	header, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimRight(head, "=")))
	return found && err == nil && bytes.HasPrefix(bytes.TrimSpace(header), []byte("{"))
}

// isPAE: PASETO's count of pieces, and a first piece such as "v4.public.", or a
// second one after v3's compressed public key.
func isPAE(tbs []byte) bool {
	if len(tbs) < 16 || binary.LittleEndian.Uint64(tbs) > 16 {
		return false
	}
	const point = 49
	if n := binary.LittleEndian.Uint64(tbs[8:]); n == point && len(tbs) >= 16+point {
		return isHeader(tbs[16+point:])
	}
	return isHeader(tbs[8:])
}

// isHeader: a piece of a PAE that begins as PASETO's headers do.
func isHeader(piece []byte) bool {
	if len(piece) < 9 {
		return false
	}
	n, rest := binary.LittleEndian.Uint64(piece), piece[8:]
	return n >= 3 && n <= 32 && uint64(len(rest)) >= n && rest[0] == 'v' && bytes.IndexByte(rest[:n], '.') >= 0
}

// sshString reads a string (RFC 4251 section 5).
func sshString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 || uint64(len(b)) < 4+uint64(binary.BigEndian.Uint32(b)) {
		return nil, nil, false
	}
	n := 4 + binary.BigEndian.Uint32(b)
	return b[4:n], b[n:], true
}

// isSSHCertificate: PROTOCOL.certkeys, any vendor's.
func isSSHCertificate(tbs []byte) bool {
	name, _, ok := sshString(tbs)
	return ok && bytes.Contains(name, []byte("-cert-v"))
}

// isSSHLogin: a session's id, and SSH_MSG_USERAUTH_REQUEST (RFC 4252 section 7).
func isSSHLogin(tbs []byte) bool {
	id, rest, ok := sshString(tbs)
	return ok && len(id) >= 16 && len(id) <= 64 && len(rest) > 0 && rest[0] == 50
}

// isSSHSIG: PROTOCOL.sshsig and PROTOCOL.krl.
func isSSHSIG(tbs []byte) bool {
	return bytes.HasPrefix(tbs, []byte("SSHSIG")) || bytes.HasPrefix(tbs, []byte("SSHKRL\n"))
}

// isTLS: 64 spaces (RFC 8446 section 4.4.3), or two randoms and the parameters
// of an elliptic curve (RFC 8422 section 5.4).
func isTLS(tbs []byte) bool {
	if bytes.HasPrefix(tbs, bytes.Repeat([]byte{' '}, 64)) {
		return true
	}
	const randoms = 64
	if len(tbs) < randoms+4 || tbs[randoms] != 3 || len(tbs) != randoms+4+int(tbs[randoms+3]) {
		return false
	}
	return slices.Contains([]uint16{23, 24, 25, 29, 30}, binary.BigEndian.Uint16(tbs[randoms+1:]))
}

// isDER: one SEQUENCE from the first byte to the last, in any form of length:
// certificates, their requests, revocation lists and OCSP answers all are.
func isDER(tbs []byte) bool {
	if len(tbs) < 2 || tbs[0] != 0x30 {
		return false
	}
	n, rest := uint64(tbs[1]), tbs[2:]
	switch {
	case n == 0x80:
		return bytes.HasSuffix(rest, []byte{0, 0})
	case n > 0x80:
		size := int(n & 0x7f)
		if size > 8 || len(rest) < size {
			return false
		}
		n = 0
		for _, b := range rest[:size] {
			n = n<<8 | uint64(b)
		}
		rest = rest[size:]
	}
	return n == uint64(len(rest))
}
