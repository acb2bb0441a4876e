package plugins

import (
	"encoding/binary"
	"fmt"

	"github.com/signetd/signet/signers"
)

// SSHAlgorithm is what SSH calls a signature of an algorithm (RFC 4253 section
// 6.6, RFC 8332, RFC 5656 section 3.1, RFC 8709), or ErrRefused for one that it
// has no name for: RSA with PSS or SHA-384.
func SSHAlgorithm(alg signers.Algorithm) (string, error) {
	p, err := alg.Params()
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, ErrRefused)
	}
	switch {
	case p.Kind == signers.KindEd25519:
		return "ssh-ed25519", nil
	case p.Kind == signers.KindECDSA:
		return fmt.Sprintf("ecdsa-sha2-nistp%d", p.Curve.Params().BitSize), nil
	case p.Kind == signers.KindRSA && !p.PSS && p.Hash.Size() != 48:
		return fmt.Sprintf("rsa-sha2-%d", p.Hash.Size()*8), nil
	}
	return "", fmt.Errorf("algorithm %q has no SSH name: %w", alg, ErrRefused)
}

// writeSSH writes a signature as SSH does, as one string: its algorithm's name
// and a blob. For ECDSA the blob is two mpints, else the bytes as they are.
func writeSSH(alg signers.Algorithm, sig []byte) ([]byte, error) {
	name, err := SSHAlgorithm(alg)
	if err != nil {
		return nil, err
	}
	blob := sig
	if n, err := alg.RawLength(); err == nil {
		raw, err := alg.RawFromDER(sig)
		if err != nil {
			return nil, err
		}
		blob = appendMPInt(appendMPInt(nil, raw[:n/2]), raw[n/2:])
	}
	return appendSSH(nil, appendSSH(appendSSH(nil, []byte(name)), blob)), nil
}

// appendSSH writes b as a string (RFC 4251 section 5): its length, and itself.
func appendSSH(to, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(b))), b...) //nolint:gosec // a signature's length
}

// appendMPInt writes a positive number in its shortest form (RFC 4251 section 5).
func appendMPInt(to, number []byte) []byte {
	for len(number) > 0 && number[0] == 0 {
		number = number[1:]
	}
	if len(number) > 0 && number[0] >= 0x80 {
		number = append([]byte{0}, number...)
	}
	return appendSSH(to, number)
}
