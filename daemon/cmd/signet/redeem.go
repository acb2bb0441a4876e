package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon/client"
)

func newIntrospect() *cobra.Command {
	var shown client.Shown
	c := &cobra.Command{
		Use:   "introspect [TOKEN]",
		Short: "Ask the daemon what a token says, and whether it is good (RFC 7662)",
		Long: `Asks the daemon about a token that you accept: you must be a verifier of its
profile. Without TOKEN, or with -, it is read from standard input, where no
other user can see it.

Exit status 2 means that the token is not active, or that the daemon refused.`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().StringVar(&shown.Profile, "profile", "", "the profile it should be of; any that you verify if absent")
	assertion := c.Flags().String("assertion", "", "PASETO's implicit assertion")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return shownTo(c, args, *dir, &shown, *assertion, func(cl *client.Client) error {
			content, active, err := cl.Introspect(c.Context(), shown)
			if err != nil {
				return answered(err)
			}
			if !active {
				return inactive(c, *asJSON)
			}
			return printContent(c, content, true, *asJSON)
		})
	}
	return c
}

func newRedeem() *cobra.Command {
	var shown client.Shown
	c := &cobra.Command{
		Use:   "redeem [TOKEN]",
		Short: "Use a single-use token up, and print what it says",
		Long: `Uses up a token of a profile with single_use: true. You must be a verifier of
the profile. Whoever redeems a token first is the only one: after a crash or a
restart, too. Without TOKEN, or with -, it is read from standard input.

Exit status 2 means that the token was used before, is not active, or that the
daemon refused.`,
		Example: `  signet redeem --profile enrol --audience https://enrol.example < token`,
		Args:    cobra.MaximumNArgs(1),
	}
	c.Flags().StringVar(&shown.Profile, "profile", "", "the profile it is of")
	c.Flags().StringVar(&shown.Audience, "audience", "", "for whom you accept it")
	assertion := c.Flags().String("assertion", "", "PASETO's implicit assertion")
	_ = c.MarkFlagRequired("profile")
	_ = c.MarkFlagRequired("audience")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return shownTo(c, args, *dir, &shown, *assertion, func(cl *client.Client) error {
			content, err := cl.Redeem(c.Context(), shown)
			if err != nil {
				return answered(err)
			}
			return printContent(c, content, false, *asJSON)
		})
	}
	return c
}

// shownTo reads the token and calls do with a client of the daemon.
func shownTo(c *cobra.Command, args []string, dir string, s *client.Shown, assertion string, do func(*client.Client) error) error {
	var err error
	if s.Token, err = tokenArg(c, args); err != nil {
		return err
	}
	if assertion != "" {
		s.Assertion = []byte(assertion)
	}
	cl, err := dial(dir)
	if err != nil {
		return err
	}
	defer cl.Close() //nolint:errcheck // the process ends here
	return do(cl)
}

// inactive tells a person and a script alike that a token is not good.
func inactive(c *cobra.Command, asJSON bool) error {
	if asJSON {
		if err := emit(c.OutOrStdout(), map[string]bool{"active": false}); err != nil {
			return err
		}
	}
	return exitCode{errors.New("the token is not active\nhint: it was forged, ended, was used up, or is of a profile that you do not verify"), 2}
}

// printContent prints what a good token says.
func printContent(c *cobra.Command, t client.Content, introspected, asJSON bool) error {
	if asJSON {
		if introspected {
			return emit(c.OutOrStdout(), struct {
				Active bool `json:"active"`
				client.Content
			}{true, t})
		}
		return emit(c.OutOrStdout(), t)
	}
	w := c.OutOrStdout()
	for _, row := range [][2]string{
		{"profile", t.Profile}, {"subject", t.Subject}, {"audience", fmt.Sprint(t.Audience)}, {"scope", fmt.Sprint(t.Scope)},
		{"id", t.ID}, {"expires", t.ExpiresAt().Format("2006-01-02T15:04:05Z")}, {"holder", fmt.Sprint(t.Holder)}, {"claims", string(t.Claims)},
	} {
		if row[1] == "" || row[1] == "[]" || row[1] == "map[]" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-9s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	return nil
}
