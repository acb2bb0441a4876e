package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/plugins/host"
)

func newPlugin() *cobra.Command {
	c := &cobra.Command{Use: "plugin", Short: "Pin issuers, and see what contains them"}
	c.AddCommand(newPluginDigest())
	return c
}

func newPluginDigest() *cobra.Command {
	c := &cobra.Command{
		Use:   "digest PATH [RUNTIME...]",
		Short: "Print the SHA-256 that pins a plug-in",
		Long: `Prints what a plug-in's sha256 in the configuration must be: that of the program
at PATH or, where PATH is an interpreter, of it and of everything below the
RUNTIME paths together. It refuses a RUNTIME that somebody else could change.`,
		Args: cobra.MinimumNArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		sum, err := host.Digest(args[0], args[1:])
		if err != nil {
			return err
		}
		if *asJSON {
			return emit(c.OutOrStdout(), map[string]string{"sha256": sum})
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), sum)
		return err
	}
	return c
}
