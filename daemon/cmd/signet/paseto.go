package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/plugins/jwt"
	"github.com/signetd/signet/plugins/paseto"
)

// pasetoFlags are what verifying a PASETO needs beside what every token does.
type pasetoFlags struct {
	keys, assertion string
}

func (p *pasetoFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.keys, "keys", "", "PASETO: file with PASERK public keys, one a line; the daemon's own if empty")
	f.StringVar(&p.assertion, "assertion", "", "PASETO: the implicit assertion that was signed with the token")
}

// unused refuses what a JWT has no use for: a check that is not made must not
// look as if it were.
func (p *pasetoFlags) unused() error {
	if p.keys != "" || p.assertion != "" {
		return exitCode{errors.New("--keys and --assertion are for PASETOs, and the token is none\nhint: a JWT is verified with --jwks"), 2}
	}
	return nil
}

func (p *pasetoFlags) verify(c *cobra.Command, token, jwks, dir string, o jwt.VerifyOptions, asJSON bool) error {
	if jwks != "" {
		return exitCode{errors.New("--jwks is for JWTs, and the token is a PASETO\nhint: `signet paserk > FILE`, then --keys FILE"), 2}
	}
	keys, err := paserks(c, p.keys, dir)
	if err != nil {
		return err
	}
	good, err := paseto.Verify(token, keys, paseto.VerifyOptions{
		Audience: o.Audience, Issuer: o.Issuer, Type: o.Type,
		Assertion: []byte(p.assertion), Now: o.Now, Leeway: o.Leeway,
	})
	if err != nil {
		return exitCode{err, 2}
	}
	return printVerified(c, verified{good.Grant, good.Kid, good.Version, good.Payload}, asJSON)
}

// paserks are the keys of a file, or as the daemon publishes them.
func paserks(c *cobra.Command, file, dir string) ([]string, error) {
	if file == "" {
		return fetchPASERK(c, dir, "")
	}
	data, err := os.ReadFile(file) //nolint:gosec // a file that the user names
	if err != nil {
		return nil, fmt.Errorf("PASERK keys: %w\nhint: `signet paserk > %s` writes them", err, file)
	}
	return strings.Fields(string(data)), nil
}

func fetchPASERK(c *cobra.Command, dir, profile string) ([]string, error) {
	cl, err := dial(dir)
	if err != nil {
		return nil, err
	}
	defer cl.Close() //nolint:errcheck // the process ends here
	keys, err := cl.PASERK(c.Context(), profile)
	if err != nil {
		return nil, answered(err)
	}
	return keys, nil
}

func newPASERK() *cobra.Command {
	c := &cobra.Command{
		Use:   "paserk [PROFILE]",
		Short: "Print the public keys that verify PASETOs, one a line (PASERK)",
		Args:  cobra.MaximumNArgs(1),
	}
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		keys, err := fetchPASERK(c, *dir, strings.Join(args, ""))
		if err != nil {
			return err
		}
		if *asJSON {
			return emit(c.OutOrStdout(), append([]string{}, keys...))
		}
		for _, k := range keys {
			fmt.Fprintln(c.OutOrStdout(), k)
		}
		return nil
	}
	return c
}

// inspectPASETO prints a PASETO's parts, which nobody has verified.
func inspectPASETO(c *cobra.Command, token string, asJSON bool) error {
	said, err := paseto.Describe(token)
	if err != nil {
		return exitCode{err, 2}
	}
	w := c.OutOrStdout()
	if asJSON {
		return emit(w, map[string]any{
			"verified": false, "version": said.Version, "footer": said.Footer, "claims": said.Claims, "signature_bytes": said.Signature,
		})
	}
	fmt.Fprintln(w, said.Version)
	return printParts(w, said.Signature, said.Footer, said.Claims)
}
