package sshcert

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// An issuer writes certificates. It has no state.
type issuer struct{}

// New returns the issuer of SSH certificates.
func New() plugins.Issuer { return issuer{} }

// Describe names the format and the algorithms that SSH has names for.
func (issuer) Describe(context.Context) (plugins.Description, error) {
	all := slices.DeleteFunc(signers.Algorithms(), func(a signers.Algorithm) bool {
		_, err := plugins.SSHAlgorithm(a)
		return err != nil
	})
	return plugins.Description{Format: Format, Algorithms: all}, nil
}

// Prepare writes a certificate up to its signature, in the order of
// PROTOCOL.certkeys.
func (issuer) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	if _, err := plugins.SSHAlgorithm(k.Algorithm); err != nil {
		return plugins.Draft{}, fmt.Errorf("ssh: %w", err)
	}
	ca, err := caBlob(k)
	if err != nil {
		return plugins.Draft{}, err
	}
	if err := carries(g); err != nil {
		return plugins.Draft{}, err
	}
	s, err := readSubject(g.Holder.Value)
	if err != nil {
		return plugins.Draft{}, err
	}
	body := write(g, s, ca)
	if len(body) > maxBody {
		return plugins.Draft{}, refuse("the certificate would have %d bytes, the limit is %d", len(body), maxBody)
	}
	return plugins.Draft{ToBeSigned: body, Frame: plugins.Frame{
		Prefix: []byte(s.certType + " "), Head: body, Form: plugins.SSH, Encoding: plugins.Base64,
	}}, nil
}

func write(g plugins.Grant, s subject, ca []byte) []byte {
	nonce, _ := nonceEncoding.DecodeString(g.TokenID) // carries has looked
	kind := uint32(userType)
	if g.Type == Host {
		kind = hostType
	}
	var principals []byte
	for _, p := range g.Principals {
		principals = put(principals, p)
	}
	b := put(nil, s.certType)
	b = put(b, nonce)
	b = append(b, s.fields...)
	b = binary.BigEndian.AppendUint64(b, g.Serial)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = put(b, g.Subject)
	b = put(b, principals)
	b = binary.BigEndian.AppendUint64(b, uint64(g.NotBefore.Unix())) //nolint:gosec // carries wants it after 1970
	b = binary.BigEndian.AppendUint64(b, uint64(g.Expires.Unix()))   //nolint:gosec // as above
	b = put(b, tuples(g.Options))
	b = put(b, tuples(g.Extensions))
	b = put(b, "") // reserved
	return put(b, ca)
}

// tuples writes options sorted by name. A value is a string inside a string,
// none at all is an empty one.
func tuples(m map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = put(b, name)
		var data []byte
		if m[name] != "" {
			data = put(nil, m[name])
		}
		b = put(b, data)
	}
	return b
}

// put writes a string (RFC 4251 section 5).
func put[T string | []byte](to []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(s))), s...) //nolint:gosec // a request's parts are far smaller
}

// putNumber writes a positive mpint (RFC 4251 section 5).
func putNumber(to []byte, n *big.Int) []byte {
	b := n.Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return put(to, b)
}

// caBlob writes the public key that will sign (RFC 4253 section 6.6, RFC 5656
// section 3.1, RFC 8709 section 4).
func caBlob(k plugins.VerifyingKey) ([]byte, error) {
	if err := k.Algorithm.Fits(k.Public); err != nil {
		return nil, refuse("%w", err)
	}
	switch pub := k.Public.(type) {
	case ed25519.PublicKey:
		return put(put(nil, "ssh-ed25519"), []byte(pub)), nil
	case *rsa.PublicKey:
		return putNumber(putNumber(put(nil, "ssh-rsa"), big.NewInt(int64(pub.E))), pub.N), nil
	case *ecdsa.PublicKey:
		return ecdsaBlob(pub)
	}
	return nil, unknownKey(k.Public)
}

func unknownKey(pub crypto.PublicKey) error { return refuse("a %T can't sign certificates", pub) }

func ecdsaBlob(pub *ecdsa.PublicKey) ([]byte, error) {
	point, err := pub.Bytes()
	if err != nil {
		return nil, refuse("%w", err)
	}
	curve := fmt.Sprintf("nistp%d", pub.Curve.Params().BitSize)
	return put(put(put(nil, "ecdsa-sha2-"+curve), curve), point), nil
}

var nonceEncoding = base64.RawURLEncoding.Strict()
