package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon/client"
)

// wanted are the flags that describe a token, shared by issue and explain.
type wanted struct {
	subject  string
	audience []string
	scope    []string
	ttl      time.Duration
	claims   string
	holder   map[string]string
}

func (w *wanted) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&w.subject, "subject", "", "who the token is about (sub)")
	f.StringSliceVar(&w.audience, "audience", nil, "who may accept it (aud); repeat for more")
	f.StringSliceVar(&w.scope, "scope", nil, "what it is good for (scope); repeat for more")
	f.DurationVar(&w.ttl, "ttl", 5*time.Minute, "its lifetime, in whole seconds")
	f.StringVar(&w.claims, "claims", "", "further claims, as one JSON object")
	f.StringToStringVar(&w.holder, "holder", nil, "bind it to a holder: jkt=THUMBPRINT or x5t#S256=THUMBPRINT (RFC 7800)")
}

func (w *wanted) request(profile string) client.Request {
	r := client.Request{
		Profile: profile, Subject: w.subject, Audience: w.audience,
		Scope: w.scope, TTL: w.ttl, Holder: w.holder,
	}
	if w.claims != "" {
		r.Claims = json.RawMessage(w.claims)
	}
	return r
}

func newIssue() *cobra.Command {
	var want wanted
	c := &cobra.Command{
		Use:   "issue PROFILE",
		Short: "Ask the daemon for a token",
		Long: `Asks the daemon for one token of a profile and prints it.

Exit status 2 means that the daemon refused; the reason is on standard error.`,
		Example: `  signet issue ci --subject ci/build-7 --audience https://api.example --ttl 5m`,
		Args:    cobra.ExactArgs(1),
	}
	want.flags(c)
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := dial(*dir)
		if err != nil {
			return err
		}
		defer cl.Close() //nolint:errcheck // the process ends here
		token, err := cl.Issue(c.Context(), want.request(args[0]))
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
		return emit(c.OutOrStdout(), map[string]any{
			"token": t.Value, "jti": t.ID, "kid": t.Kid,
			"expires": t.Expires.Format(time.RFC3339), "shortened": t.Shortened,
		})
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), strings.TrimSpace(t.Value))
	return err
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
