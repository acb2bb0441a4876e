package sshcert

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/signers"
)

// ErrNotGood says that a certificate must not be accepted. The text around it
// says why.
var ErrNotGood = errors.New("certificate is not good")

// VerifyOptions say what a server or a client accepts. Principal and Now are
// required.
type VerifyOptions struct {
	Principal string     // the account, or the host's name
	Type      string     // User or Host; "" accepts both
	Source    netip.Addr // where the holder connects from; the zero Addr is not looked at
	Now       time.Time
	Leeway    time.Duration
}

// Verified is what a good certificate says.
type Verified struct {
	plugins.Grant

	CA        string // fingerprint
	Algorithm string // of the signature, as SSH names it
}

// Verify verifies a certificate against the CA keys that are trusted, one on
// each line as TrustedUserCAKeys has them, as a server or client would: with
// x/crypto/ssh, which did not make it. It is stricter than they have to be:
// what signet would not sign is not good.
func Verify(line string, cas []byte, o VerifyOptions) (Verified, error) {
	cert, err := readLine(line)
	if err != nil {
		return Verified{}, err
	}
	trusted, err := readCAs(cas)
	if err != nil {
		return Verified{}, err
	}
	ca := cert.SignatureKey.Marshal()
	if !slices.ContainsFunc(trusted, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), ca) }) {
		return Verified{}, fmt.Errorf("%w: its CA %s is not among the keys that are trusted\nhint: fetch them again; the key may be new, or revoked", ErrNotGood, ssh.FingerprintSHA256(cert.SignatureKey))
	}
	g, err := grantOf(cert)
	if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrNotGood, err)
	}
	v := Verified{Grant: g, CA: ssh.FingerprintSHA256(cert.SignatureKey), Algorithm: cert.Signature.Format}
	return v, o.accept(v, cert)
}

// readLine reads a certificate as it stands in id_*-cert.pub: with a comment
// or without.
func readLine(line string) (*ssh.Certificate, error) {
	if len(line) > plugins.MaxToken+maxText {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNotGood, len(line), plugins.MaxToken)
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: it is not one line TYPE BASE64\nhint: give what id_*-cert.pub holds", ErrNotGood)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %s key, not a certificate", ErrNotGood, key.Type())
	}
	return cert, nil
}

func readCAs(lines []byte) ([]ssh.PublicKey, error) {
	var all []ssh.PublicKey
	for len(bytes.TrimSpace(lines)) > 0 {
		key, _, _, rest, err := ssh.ParseAuthorizedKey(lines)
		if err != nil {
			return nil, fmt.Errorf("ssh: CA keys: %w\nhint: one TYPE BASE64 on each line; `signet ssh-ca` prints them", err)
		}
		all, lines = append(all, key), rest
	}
	return all, nil
}

// accept holds a certificate of a trusted CA against what is wanted.
func (o VerifyOptions) accept(v Verified, cert *ssh.Certificate) error {
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{signedWell(v.Algorithm), "its signature is " + v.Algorithm},
		{o.Type == "" || o.Type == v.Type, fmt.Sprintf("it is a %s certificate, not a %s certificate", v.Type, o.Type)},
		{o.named(v), fmt.Sprintf("it is for %q, not for %q", v.Principals, o.Principal)},
		{o.Now.Before(v.Expires.Add(o.Leeway)), "it expired at " + v.Expires.Format(time.RFC3339)},
		{!o.Now.Add(o.Leeway).Before(v.NotBefore), "it is not valid before " + v.NotBefore.Format(time.RFC3339)},
		{o.from(v.Options), "its source-address is " + v.Options[optSource]},
	} {
		if !c.ok {
			return fmt.Errorf("%w: %s", ErrNotGood, c.what)
		}
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{optForce, optSource, optVerified},
		Clock:                    func() time.Time { return v.NotBefore }, // times are judged above
	}
	if err := checker.CheckCert(v.Principals[0], cert); err != nil {
		return fmt.Errorf("%w: %w", ErrNotGood, err)
	}
	return nil
}

// signedWell reports whether a signature is of a kind that signet makes: with
// SHA-1 or DSA it is not.
func signedWell(name string) bool {
	return slices.ContainsFunc(signers.Algorithms(), func(a signers.Algorithm) bool {
		known, err := plugins.SSHAlgorithm(a)
		return err == nil && known == name
	})
}

// named compares whole names: OpenSSH takes no patterns. It looks for a host by
// its name in lower case.
func (o VerifyOptions) named(v Verified) bool {
	if v.Type == Host {
		return slices.Contains(v.Principals, strings.ToLower(o.Principal))
	}
	return slices.Contains(v.Principals, o.Principal)
}

// from is source-address, where the holder's address is known.
func (o VerifyOptions) from(options map[string]string) bool {
	list, limited := options[optSource]
	if !limited || !o.Source.IsValid() {
		return true
	}
	return slices.ContainsFunc(strings.Split(list, ","), func(one string) bool {
		if block, err := netip.ParsePrefix(one); err == nil {
			return block.Contains(o.Source.Unmap())
		}
		addr, err := netip.ParseAddr(one)
		return err == nil && addr == o.Source.Unmap()
	})
}

// Said is what a certificate says, verified or not.
type Said struct {
	Type        string            `json:"type"` // user, host or a number
	Key         string            `json:"key"`  // fingerprint of the key that it is for
	KeyType     string            `json:"key_type"`
	CA          string            `json:"ca"` // fingerprint
	Algorithm   string            `json:"algorithm"`
	KeyID       string            `json:"key_id"`
	Serial      uint64            `json:"serial"`
	Principals  []string          `json:"principals"`
	ValidAfter  string            `json:"valid_after"`  // RFC 3339, or "always"
	ValidBefore string            `json:"valid_before"` // RFC 3339, or "forever"
	Options     map[string]string `json:"critical_options,omitempty"`
	Extensions  map[string]string `json:"extensions,omitempty"`
}

// IsCertificate reports whether text starts as a certificate's line does.
func IsCertificate(text string) bool {
	kind, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	return strings.HasSuffix(kind, "-cert-v01@openssh.com")
}

// Describe reads a certificate for a person, without verifying anything.
func Describe(line string) (Said, error) {
	cert, err := readLine(line)
	if err != nil {
		return Said{}, err
	}
	kind := map[uint32]string{ssh.UserCert: User, ssh.HostCert: Host}[cert.CertType]
	if kind == "" {
		kind = fmt.Sprint(cert.CertType)
	}
	return Said{
		Type: kind, Key: ssh.FingerprintSHA256(cert.Key), KeyType: cert.Key.Type(),
		CA: ssh.FingerprintSHA256(cert.SignatureKey), Algorithm: cert.Signature.Format,
		KeyID: cert.KeyId, Serial: cert.Serial, Principals: cert.ValidPrincipals,
		ValidAfter: moment(cert.ValidAfter, 0, "always"), ValidBefore: moment(cert.ValidBefore, ssh.CertTimeInfinity, "forever"),
		Options: cert.CriticalOptions, Extensions: cert.Extensions,
	}, nil
}

func moment(t, limit uint64, word string) string {
	switch {
	case t == limit:
		return word
	case t >= endOfTime:
		return fmt.Sprint(t)
	}
	return time.Unix(int64(t), 0).UTC().Format(time.RFC3339)
}
