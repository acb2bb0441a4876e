package signers

import (
	"errors"
	"fmt"
)

// ECDSA signatures travel in two forms. Back-ends and [Algorithm.Verify] use
// DER (RFC 3279 section 2.2.3); JWS and PKCS#11 use R‖S, both numbers as long
// as the curve's order (RFC 7518 section 3.4).

var errNotDER = errors.New("not DER")

// RawLength returns the length in bytes of R‖S for an ECDSA algorithm: 64, 96
// or 132.
func (a Algorithm) RawLength() (int, error) {
	p, err := a.Params()
	if err != nil {
		return 0, err
	}
	if p.Kind != KindECDSA {
		return 0, fmt.Errorf("signers: %s has no R‖S form: %w", a, ErrMismatch)
	}
	return 2 * ((p.Curve.Params().BitSize + 7) / 8), nil
}

// RawFromDER turns an ECDSA signature from DER into R‖S. It takes the one DER
// form of two positive numbers no longer than the curve, and nothing else. It
// is on the way of every token: encoding/asn1 takes ten times as long.
func (a Algorithm) RawFromDER(der []byte) ([]byte, error) {
	n, err := a.RawLength()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, n)
	rest, err := derSequence(der)
	for _, to := range [][]byte{raw[:n/2], raw[n/2:]} {
		if err == nil {
			rest, err = derNumber(rest, to)
		}
	}
	if err == nil && len(rest) != 0 {
		err = errNotDER
	}
	if err != nil {
		return nil, fmt.Errorf("signers: %s: signature is not one DER sequence of two positive numbers that fit: %w", a, ErrBadSignature)
	}
	return raw, nil
}

// derSequence returns what is inside a sequence that is all of der. The longest
// here has 138 bytes: the length has one byte, or two from 128 on.
func derSequence(der []byte) ([]byte, error) {
	switch {
	case len(der) >= 2 && der[0] == 0x30 && der[1] < 0x80 && int(der[1]) == len(der)-2:
		return der[2:], nil
	case len(der) >= 3 && der[0] == 0x30 && der[1] == 0x81 && der[2] >= 0x80 && int(der[2]) == len(der)-3:
		return der[3:], nil
	}
	return nil, errNotDER
}

// derNumber reads one positive number into to and returns what follows it.
func derNumber(b, to []byte) ([]byte, error) {
	if len(b) < 3 || b[0] != 0x02 || b[1] == 0 || b[1] >= 0x80 || len(b) < 2+int(b[1]) {
		return nil, errNotDER
	}
	value, rest := b[2:2+int(b[1])], b[2+int(b[1]):]
	switch {
	case value[0] >= 0x80: // negative
		return nil, errNotDER
	case value[0] == 0 && (len(value) == 1 || value[1] < 0x80): // zero, or not minimal
		return nil, errNotDER
	case value[0] == 0:
		value = value[1:]
	}
	if len(value) > len(to) {
		return nil, errNotDER
	}
	copy(to[len(to)-len(value):], value)
	return rest, nil
}

// DERFromRaw turns an ECDSA signature from R‖S of exactly RawLength into DER.
func (a Algorithm) DERFromRaw(raw []byte) ([]byte, error) {
	n, err := a.RawLength()
	if err != nil {
		return nil, err
	}
	if len(raw) != n {
		return nil, fmt.Errorf("signers: %s: signature has %d bytes, not %d: %w", a, len(raw), n, ErrBadSignature)
	}
	body := make([]byte, 3, n+9)
	body = appendDERNumber(appendDERNumber(body, raw[:n/2]), raw[n/2:])
	inside := len(body) - 3
	if inside < 0x80 {
		body[1], body[2] = 0x30, byte(inside) //nolint:gosec // under 128
		return body[1:], nil
	}
	body[0], body[1], body[2] = 0x30, 0x81, byte(inside) //nolint:gosec // at most 138
	return body, nil
}

// appendDERNumber writes a positive number in its shortest form.
func appendDERNumber(b, number []byte) []byte {
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	if number[0] >= 0x80 {
		b = append(b, 0x02, byte(len(number)+1), 0) //nolint:gosec // at most 66
	} else {
		b = append(b, 0x02, byte(len(number))) //nolint:gosec // at most 66
	}
	return append(b, number...)
}
