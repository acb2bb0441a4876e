// Package sshcert is the format of OpenSSH certificates (PROTOCOL.certkeys of
// OpenSSH), for users and for hosts.
//
// [New] is the issuer, which runs in a process of its own and writes the bytes
// itself; [NewInspector] runs in the daemon and reads them back with
// x/crypto/ssh. The two share no more than the names of things and their
// limits, so that a fault in one is seen by the other.
package sshcert

import (
	"bytes"
	"crypto"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
)

// Format is what this package's format is called.
const Format = "ssh"

// The types of certificate, as Grant.Type has them.
const (
	User = "user"
	Host = "host"
)

// HolderKind is Grant.Holder.Kind of a certificate: the key that it is for.
const HolderKind = "sshkey"

// Limits of a certificate.
const (
	MaxPrincipals = 256 // as OpenSSH has it (SSHKEY_CERT_MAX_PRINCIPALS)

	maxBody     = 47 << 10 // bytes; with signature and base64 it is under plugins.MaxToken
	maxName     = 255      // bytes of a principal
	maxText     = 1024     // bytes of a key id
	minRSA      = 2048     // bits of a subject's RSA key
	maxRSA      = 16384    // bits; OpenSSH makes none that is larger
	nonceLength = 32       // bytes
	userType    = 1        // PROTOCOL.certkeys: SSH_CERT_TYPE_USER
	hostType    = 2        // SSH_CERT_TYPE_HOST
	endOfTime   = 253402300800
)

// certTypes is what a certificate is called for each type of key that it can
// be for. DSA is not among them, nor is a certificate.
var certTypes = map[string]string{
	"ssh-rsa":                            "ssh-rsa-cert-v01@openssh.com",
	"ecdsa-sha2-nistp256":                "ecdsa-sha2-nistp256-cert-v01@openssh.com",
	"ecdsa-sha2-nistp384":                "ecdsa-sha2-nistp384-cert-v01@openssh.com",
	"ecdsa-sha2-nistp521":                "ecdsa-sha2-nistp521-cert-v01@openssh.com",
	"ssh-ed25519":                        "ssh-ed25519-cert-v01@openssh.com",
	"sk-ssh-ed25519@openssh.com":         "sk-ssh-ed25519-cert-v01@openssh.com",
	"sk-ecdsa-sha2-nistp256@openssh.com": "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
}

// The critical options that OpenSSH knows. Any other is refused: a server that
// does not know it turns the holder away, and one that does may be told more
// than policy knows of.
const (
	optForce    = "force-command"
	optSource   = "source-address"
	optVerified = "verify-required"
)

// flags are the extensions that OpenSSH knows; they have no value. One with a
// domain (name@domain) is somebody else's and may have one.
var flags = []string{
	"no-touch-required", "permit-X11-forwarding", "permit-agent-forwarding",
	"permit-port-forwarding", "permit-pty", "permit-user-rc",
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("ssh: "+format+": %w", append(args, plugins.ErrRefused)...)
}

// Kid is how OpenSSH prints a public key: "SHA256:" and the hash of its blob.
func Kid(pub crypto.PublicKey) (string, error) {
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("ssh: %w", err)
	}
	return ssh.FingerprintSHA256(key), nil
}

// AuthorizedKey is "TYPE BASE64" of a public key: a line of TrustedUserCAKeys,
// or of known_hosts behind "@cert-authority HOSTS".
func AuthorizedKey(pub crypto.PublicKey) (string, error) {
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("ssh: %w", err)
	}
	return string(bytes.TrimSuffix(ssh.MarshalAuthorizedKey(key), []byte("\n"))), nil
}
