package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon/cmd/signet/demo"
)

func newDemo() *cobra.Command {
	opts := demo.Options{Now: time.Now}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Walk through the whole job in a throw-away directory",
		Long: `Starts a real daemon with real keys in a throw-away directory and walks through
the job: make a key, issue, verify, refuse, rotate under load, check the
ledger and catch a forger. Exit status 0 means that every step held.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&opts.Signer, "signer", "softkey", "where the keys live: softkey, or pkcs11 on SoftHSM")
	c.Flags().BoolVar(&opts.JSON, "json", false, "print one JSON object with each step and its figures")
	c.Flags().BoolVar(&opts.Keep, "keep", false, "leave the directory behind, to look at")
	c.RunE = func(c *cobra.Command, _ []string) error {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		opts.Program, opts.Out = program, c.OutOrStdout()
		opts.Paint = func(s string) string { return green(opts.Out, s) }
		return demo.Run(c.Context(), opts)
	}
	return c
}
