package signers

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// ECDSA signatures travel in two forms. Back-ends and [Algorithm.Verify] use
// DER (RFC 3279 section 2.2.3); JWS and PKCS#11 use R‖S, both numbers as long
// as the curve's order (RFC 7518 section 3.4).

type ecdsaSignature struct{ R, S *big.Int }

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

// RawFromDER turns an ECDSA signature from DER into R‖S. It refuses trailing
// bytes, negative numbers and numbers longer than the curve.
func (a Algorithm) RawFromDER(der []byte) ([]byte, error) {
	n, err := a.RawLength()
	if err != nil {
		return nil, err
	}
	sig, err := parseDER(der)
	if err != nil {
		return nil, fmt.Errorf("signers: %s: signature is not one DER sequence of two numbers: %w", a, ErrBadSignature)
	}
	if sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 4*n || sig.S.BitLen() > 4*n {
		return nil, fmt.Errorf("signers: %s: a signature number is out of range: %w", a, ErrBadSignature)
	}
	raw := make([]byte, n)
	sig.R.FillBytes(raw[:n/2])
	sig.S.FillBytes(raw[n/2:])
	return raw, nil
}

// parseDER takes the numbers out one by one: asn1.Unmarshal into the struct
// passes over whatever follows them inside the sequence.
func parseDER(der []byte) (sig ecdsaSignature, err error) {
	var seq asn1.RawValue
	rest, err := asn1.Unmarshal(der, &seq)
	if err != nil || len(rest) != 0 || seq.Class != asn1.ClassUniversal || seq.Tag != asn1.TagSequence || !seq.IsCompound {
		return sig, errNotDER
	}
	rest = seq.Bytes
	for _, number := range []**big.Int{&sig.R, &sig.S} {
		if rest, err = asn1.Unmarshal(rest, number); err != nil {
			return sig, err
		}
	}
	if len(rest) != 0 {
		return sig, errNotDER
	}
	return sig, nil
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
	return asn1.Marshal(ecdsaSignature{R: new(big.Int).SetBytes(raw[:n/2]), S: new(big.Int).SetBytes(raw[n/2:])})
}
