package sshcert

import (
	"crypto/rsa"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// says wants what no certificate goes without, in a form that servers and
// people read the same way.
func says(cert *ssh.Certificate) error {
	switch {
	case len(cert.Nonce) != nonceLength:
		return refuse("the nonce has %d bytes, not %d", len(cert.Nonce), nonceLength)
	case len(cert.Reserved) != 0:
		return refuse("the reserved field is not empty")
	case cert.Serial == 0:
		return refuse("the serial is 0\nhint: ssh-keygen -z takes one")
	case !printable(cert.KeyId) || cert.KeyId == "" || len(cert.KeyId) > maxText:
		return refuse("the key id is empty, over %d bytes or not printable\nhint: ssh-keygen -I takes one", maxText)
	case len(cert.ValidPrincipals) == 0:
		return refuse("there are no principals: it would be good for every name\nhint: ssh-keygen -n takes them")
	case len(cert.ValidPrincipals) > MaxPrincipals:
		return refuse("there are %d principals, the limit is %d", len(cert.ValidPrincipals), MaxPrincipals)
	}
	for _, p := range cert.ValidPrincipals {
		if !principal(p, cert.CertType) {
			return refuse("principal %.64q can't be one", p)
		}
	}
	return nil
}

// printable is text that looks like what it is.
func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// principal reports whether a name can be one: a user's has no space or comma,
// a host's no more than a host name or an address needs: ssh takes no pattern.
func principal(p string, kind uint32) bool {
	if p == "" || len(p) > maxName || !printable(p) {
		return false
	}
	for _, r := range p {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		switch {
		case r == ',' || r == ' ':
			return false
		case kind == ssh.HostCert && !letter && !strings.ContainsRune("-._:", r):
			return false
		}
	}
	return true
}

// subjectKey judges the key that a certificate is for. That it is of a type
// that can have one, certType has seen.
func subjectKey(key ssh.PublicKey) error {
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if pub, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			// x/crypto reads a negative modulus too.
			if bits := pub.N.BitLen(); pub.N.Sign() <= 0 || pub.N.Bit(0) == 0 || bits < minRSA || bits > maxRSA {
				return refuse("the subject's RSA key has %d bits or is malformed, %d to %d are allowed", bits, minRSA, maxRSA)
			}
		}
	}
	if strings.HasPrefix(key.Type(), "sk-") && !forSSH(key) {
		return refuse("the subject's security key is for another application than ssh")
	}
	return nil
}

// forSSH reads the application of a security key, the last string of its blob.
func forSSH(key ssh.PublicKey) bool {
	var last string
	blob := key.Marshal()
	for len(blob) > 0 {
		var field struct {
			S    string
			Rest []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(blob, &field); err != nil {
			return false
		}
		last, blob = field.S, field.Rest
	}
	return strings.HasPrefix(last, "ssh:") && printable(last) && len(last) <= maxName
}

// permissions judges options and extensions.
func permissions(cert *ssh.Certificate) error {
	if cert.CertType == ssh.HostCert && len(cert.CriticalOptions)+len(cert.Extensions) > 0 {
		return refuse("a host certificate has options or extensions")
	}
	for name, value := range cert.CriticalOptions {
		known, ok := options[name]
		if !ok {
			return refuse("critical option %.64q is unknown", name)
		}
		if !known(value) {
			return refuse("critical option %s has a value that it can't have", name)
		}
	}
	for name, value := range cert.Extensions {
		if !extension(name, value) {
			return refuse("extension %.64q is unknown, or has a value that it can't have", name)
		}
	}
	return nil
}

// options are the critical options, each with what its value may be.
var options = map[string]func(string) bool{
	optForce:    func(v string) bool { return v != "" && printable(v) },
	optSource:   sources,
	optVerified: func(v string) bool { return v == "" },
}

// sources is a list of addresses and blocks, each written as netip writes it
// and with no bit set past its length, or sshd refuses the list.
func sources(list string) bool {
	for _, one := range strings.Split(list, ",") {
		block, err := netip.ParsePrefix(one)
		addr := block.Addr()
		if err != nil {
			addr, err = netip.ParseAddr(one)
			block = netip.PrefixFrom(addr, addr.BitLen())
		}
		if err != nil || block.Masked() != block || one != block.String() && one != addr.String() {
			return false
		}
		if addr.Zone() != "" || addr.Is4In6() {
			return false
		}
	}
	return true
}

// extension knows OpenSSH's, which have no value, and those with a domain.
func extension(name, value string) bool {
	for _, f := range flags {
		if name == f {
			return value == ""
		}
	}
	if len(name) > 64 || !printable(name) || strings.ContainsAny(name, " ,") || strings.Count(name, "@") != 1 {
		return false
	}
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return false
		}
	}
	return name[0] != '@' && name[len(name)-1] != '@' && printable(value)
}
