package tokens

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// OpaquePrefix begins an opaque token; 256 random bits and their CRC-32 follow,
// base64url. The prefix lets scanners of leaked secrets find it, and the checksum lets us
// refuse what never was a token without a look at the disk.
const OpaquePrefix = "sgt_"

const opaqueBytes = 32

// NewOpaque draws an opaque token.
func NewOpaque(random io.Reader) (string, error) {
	var b [opaqueBytes + crc32.Size]byte
	if _, err := io.ReadFull(random, b[:opaqueBytes]); err != nil {
		return "", fmt.Errorf("tokens: %w", err)
	}
	copy(b[opaqueBytes:], checksum(b[:opaqueBytes]))
	return OpaquePrefix + base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// IsOpaque reports whether text has the form of an opaque token, live or not.
func IsOpaque(text string) bool {
	body, ok := strings.CutPrefix(text, OpaquePrefix)
	if !ok || strings.ContainsAny(body, "\r\n") {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	return err == nil && len(b) == opaqueBytes+crc32.Size && subtle.ConstantTimeCompare(b[opaqueBytes:], checksum(b[:opaqueBytes])) == 1
}

func checksum(b []byte) []byte { return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
