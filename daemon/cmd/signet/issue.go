package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon/client"
)

func newIssue() *cobra.Command {
	var want wanted
	c := &cobra.Command{
		Use:   "issue PROFILE",
		Short: "Ask the daemon for a token",
		Long: `Asks the daemon for one token of a profile and prints it.

Exit status 2 means that the daemon refused; the reason is on standard error.`,
		Example: `  signet issue ci --subject ci/build-7 --audience https://api.example --ttl 5m
  signet issue login --subject ci/build-7 --public-key id.pub --principal deploy > id-cert.pub`,
		Args: cobra.ExactArgs(1),
	}
	want.flags(c)
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := dial(*dir)
		if err != nil {
			return err
		}
		defer cl.Close() //nolint:errcheck // the process ends here
		asked, err := want.request(args[0])
		if err != nil {
			return err
		}
		token, err := cl.Issue(c.Context(), asked)
		if err != nil {
			return answered(err)
		}
		return printToken(c, token, *asJSON)
	}
	return c
}

// printToken prints the token alone, so that a script can take it as it is.
func printToken(c *cobra.Command, t client.Token, asJSON bool) error {
	if asJSON {
		said := map[string]any{
			"token": t.Value, "jti": t.ID, "kid": t.Kid,
			"expires": t.Expires.Format(time.RFC3339), "shortened": t.Shortened,
		}
		if t.Serial != 0 {
			said["serial"] = t.Serial
		}
		if binary(t.Value) {
			delete(said, "token")
			said["token_base64"] = base64.StdEncoding.EncodeToString([]byte(t.Value))
		}
		return emit(c.OutOrStdout(), said)
	}
	if binary(t.Value) {
		_, err := io.WriteString(c.OutOrStdout(), t.Value)
		return err
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), strings.TrimSpace(t.Value))
	return err
}

// binary reports whether a token is no text, as a plug-in's may be. It is
// printed to the byte.
func binary(token string) bool {
	return strings.ContainsFunc(token, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' })
}

func newJWKS() *cobra.Command {
	c := &cobra.Command{
		Use:   "jwks [PROFILE]",
		Short: "Print the public keys that verify tokens (RFC 7517)",
		Args:  cobra.MaximumNArgs(1),
	}
	dir := runtimeFlag(c)
	c.Flags().Bool("json", true, "print JSON; a JWK Set has no other form")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := dial(*dir)
		if err != nil {
			return err
		}
		defer cl.Close() //nolint:errcheck // the process ends here
		_, set, err := cl.PublicKeys(c.Context(), strings.Join(args, ""))
		if err != nil {
			return answered(err)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), string(set))
		return err
	}
	return c
}
