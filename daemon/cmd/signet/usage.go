package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// strict has every mistake in a command line end in a hint, in c and all below
// it. A word that is no command is a mistake, which cobra answers with help and
// success below the root: `signet key revok` must not pass for a revocation.
func strict(c *cobra.Command) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return hinted(c, err) })
	switch {
	case c.DisableFlagParsing: // what follows is another's command line
	case c.HasSubCommands() && !c.Runnable():
		c.SuggestionsMinimumDistance = 2
		c.Args = knownCommand
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	case c.Args != nil:
		c.Args = withHint(c.Args)
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

func withHint(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		return hinted(c, args(c, given))
	}
}

func hinted(c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nhint: usage: %s; see `%s --help`", err, c.UseLine(), c.CommandPath())
}

// knownCommand refuses a word that no command of a group has.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("`%s --help` lists those there are", c.CommandPath())
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean `%s %s`?", c.CommandPath(), near[0])
	}
	return fmt.Errorf("unknown command %q for %q\nhint: %s", args[0], c.CommandPath(), hint)
}
