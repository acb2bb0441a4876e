package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/plugins/sshcert"
)

func newSSHCA() *cobra.Command {
	c := &cobra.Command{
		Use:   "ssh-ca [PROFILE]",
		Short: "Print the CA keys that verify SSH certificates",
		Long: `Prints the CA keys of SSH certificates, one on each line: for a server's
TrustedUserCAKeys, or with --hosts for a client's known_hosts.`,
		Example: `  signet ssh-ca login > /etc/ssh/signet_ca.pub    # sshd_config: TrustedUserCAKeys /etc/ssh/signet_ca.pub
  signet ssh-ca hosts --hosts '*.example.com' >> /etc/ssh/ssh_known_hosts`,
		Args: cobra.MaximumNArgs(1),
	}
	hosts := c.Flags().String("hosts", "", "print lines of known_hosts, for hosts that match this pattern")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if strings.ContainsAny(*hosts, " \t\r\n") {
			return fmt.Errorf("--hosts %q has a space\nhint: patterns are separated by commas", *hosts)
		}
		lines, err := authorities(c, *dir, strings.Join(args, ""))
		if err != nil {
			return err
		}
		if *asJSON {
			return emit(c.OutOrStdout(), map[string]any{"ssh_ca": append([]string{}, lines...)})
		}
		for _, line := range lines {
			if *hosts != "" {
				line = "@cert-authority " + *hosts + " " + line
			}
			fmt.Fprintln(c.OutOrStdout(), line)
		}
		return nil
	}
	return c
}

// authorities are the CA keys as the daemon publishes them.
func authorities(c *cobra.Command, dir, profile string) ([]string, error) {
	cl, err := dial(dir)
	if err != nil {
		return nil, err
	}
	defer cl.Close() //nolint:errcheck // the process ends here
	lines, err := cl.SSHAuthorities(c.Context(), profile)
	if err != nil {
		return nil, answered(err)
	}
	return lines, nil
}

// certFlags are what verify takes for an SSH certificate.
type certFlags struct{ principal, source, file string }

func (v *certFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&v.principal, "principal", "", "SSH: the account or host that you are (required for a certificate)")
	f.StringVar(&v.source, "source", "", "SSH: the address that the holder connects from; empty looks at none")
	f.StringVar(&v.file, "ssh-ca", "", "SSH: file with CA keys; the daemon's own if empty")
}

// unused refuses what other tokens have no use for: a check that is not made
// must not look as if it were.
func (v *certFlags) unused() error {
	if *v != (certFlags{}) {
		return exitCode{errors.New("--principal, --source and --ssh-ca are for SSH certificates, and the token is none"), 2}
	}
	return nil
}

// options are those of a JWT that a certificate has too, and its own.
func (v *certFlags) options(o jwt.VerifyOptions) (sshcert.VerifyOptions, error) {
	out := sshcert.VerifyOptions{Principal: v.principal, Type: o.Type, Now: o.Now, Leeway: o.Leeway}
	if o.Audience != "" || o.Issuer != "" {
		return out, fmt.Errorf("an SSH certificate has no audience and no issuer\nhint: give --principal, and --ssh-ca for the CA keys that you trust")
	}
	if v.principal == "" {
		return out, fmt.Errorf("--principal is missing\nhint: say who you are; a certificate for another account or host is not good")
	}
	var err error
	if v.source != "" {
		if out.Source, err = netip.ParseAddr(v.source); err != nil {
			return out, fmt.Errorf("--source: %w\nhint: an address alone, such as 192.0.2.7", err)
		}
	}
	return out, nil
}

func (v *certFlags) verify(c *cobra.Command, cert, jwks, dir string, o jwt.VerifyOptions, asJSON bool) error {
	if jwks != "" {
		return exitCode{errors.New("--jwks is for JWTs, and the token is an SSH certificate\nhint: `signet ssh-ca > FILE`, then --ssh-ca FILE"), 2}
	}
	opts, err := v.options(o)
	if err != nil {
		return err
	}
	cas, err := v.keys(c, dir)
	if err != nil {
		return err
	}
	good, err := sshcert.Verify(cert, cas, opts)
	if err != nil {
		return exitCode{err, 2}
	}
	said, err := sshcert.Describe(cert)
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	if asJSON {
		return emit(w, map[string]any{"good": true, "kid": good.CA, "alg": good.Algorithm, "certificate": said})
	}
	fmt.Fprintf(w, "%s: signed with %s by CA %s\n", green(w, "good"), good.Algorithm, good.CA)
	return certTable(c, said)
}

// keys are the CA keys from a file, or as the daemon publishes them.
func (v *certFlags) keys(c *cobra.Command, dir string) ([]byte, error) {
	if v.file == "" {
		lines, err := authorities(c, dir, "")
		return []byte(strings.Join(lines, "\n")), err
	}
	data, err := os.ReadFile(v.file)
	if err != nil {
		return nil, fmt.Errorf("CA keys: %w\nhint: `signet ssh-ca > %s` writes them", err, v.file)
	}
	return data, nil
}

// printCertificate prints what a certificate says, which nobody has verified.
func printCertificate(c *cobra.Command, cert string, asJSON bool) error {
	said, err := sshcert.Describe(cert)
	if err != nil {
		return exitCode{err, 2}
	}
	w := c.OutOrStdout()
	if asJSON {
		return emit(w, map[string]any{"verified": false, "certificate": said})
	}
	fmt.Fprintln(w, bold(w, "not verified"))
	return certTable(c, said)
}

// certTable is a certificate for a person. What it says may be anyone's text.
func certTable(c *cobra.Command, s sshcert.Said) error {
	rows := [][]string{
		{"type", s.Type}, {"key id", fmt.Sprintf("%q", s.KeyID)}, {"serial", fmt.Sprint(s.Serial)},
		{"principals", fmt.Sprintf("%q", s.Principals)},
		{"valid", s.ValidAfter + " to " + s.ValidBefore + ago(s.ValidBefore)},
		{"key", s.KeyType + " " + s.Key}, {"CA", s.CA}, {"signature", fmt.Sprintf("%q", s.Algorithm)},
	}
	rows = append(rows, named("option", s.Options)...)
	rows = append(rows, named("extension", s.Extensions)...)
	return table(c.OutOrStdout(), []string{"FIELD", "VALUE"}, rows)
}

func named(what string, m map[string]string) [][]string {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rows = append(rows, []string{what, fmt.Sprintf("%q", name) + value(m[name])})
	}
	return rows
}

func value(v string) string {
	if v == "" {
		return ""
	}
	return fmt.Sprintf(" = %q", v)
}

// ago says of a moment in the past that it is over.
func ago(moment string) string {
	if t, err := time.Parse(time.RFC3339, moment); err == nil && t.Before(time.Now()) {
		return " (expired)"
	}
	return ""
}
