package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon"
)

// errLacks is doctor's exit status 3: the daemon would not start here as it is.
var errLacks = errors.New("this machine lacks what the daemon needs\nhint: a newer kernel, or issuers: {accept_missing: [NAME]} in the configuration")

func newDoctor() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has to contain plug-ins with and to know callers by",
		Long: `Says what this kernel, and this user on it, have for the daemon, and what it means
where something is missing. Run it as the daemon's user, with the capabilities
of the daemon's unit. Exit status 3: the daemon would not start without
accept_missing.`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		findings := daemon.Examine()
		if *asJSON {
			if err := emit(c.OutOrStdout(), map[string]any{"findings": findings}); err != nil {
				return err
			}
		} else if err := printFindings(c, findings); err != nil {
			return err
		}
		for _, f := range findings {
			if f.Needed && !f.Has {
				return exitCode{errLacks, 3}
			}
		}
		return nil
	}
	return c
}

func printFindings(c *cobra.Command, findings []daemon.Finding) error {
	var rows [][]string
	for _, f := range findings {
		rows = append(rows, []string{f.Name, yesNo(f.Has), f.Detail})
	}
	w := c.OutOrStdout()
	if err := table(w, []string{"WHAT", "HERE", "DETAIL"}, rows); err != nil {
		return err
	}
	for _, f := range findings {
		if !f.Has {
			fmt.Fprintf(w, "\nwithout %s: %s\n", f.Name, f.Means)
		}
	}
	return nil
}
