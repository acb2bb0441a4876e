package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/config"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Check and read the ledger"}
	c.AddCommand(newAuditVerify(), newAuditTail())
	return c
}

// ledgerFlag adds --dir, which names a ledger without a configuration.
func ledgerFlag(c *cobra.Command) func() (string, error) {
	dir := c.Flags().String("dir", "", "the ledger's directory; as the configuration says if empty")
	path := configFlag(c)
	return func() (string, error) {
		if *dir != "" {
			return *dir, nil
		}
		cfg, err := config.Load(*path)
		if err != nil {
			return "", err
		}
		return cfg.LedgerDir(), nil
	}
}

func newAuditVerify() *cobra.Command {
	var opts audit.VerifyOptions
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check every link of the ledger",
		Long: `Checks every record's hash and place. Exit status 2 means that the ledger was
changed. That its very end was cut off shows only with --head: note the head
that this command prints in another place.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&opts.Head, "head", "", "a head noted before, which must be in the ledger")
	dir, asJSON := ledgerFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := dir()
		if err != nil {
			return err
		}
		if terminal(c.ErrOrStderr()) {
			opts.Progress = func(done, all int, records uint64) {
				fmt.Fprintf(c.ErrOrStderr(), "segment %d of %d, %d records\n", done, all, records)
			}
		}
		r, err := audit.VerifyWith(at, opts)
		if err != nil {
			return exitCode{err, 2}
		}
		if *asJSON {
			return emit(c.OutOrStdout(), r)
		}
		w := c.OutOrStdout()
		_, err = fmt.Fprintf(w, "%s: %d records in %d files, head %s\n", green(w, "every link holds"), r.Records, r.Segments, r.Head)
		return err
	}
	return c
}

func newAuditTail() *cobra.Command {
	c := &cobra.Command{Use: "tail", Short: "Show the ledger's last records", Args: cobra.NoArgs}
	n := c.Flags().IntP("lines", "n", 20, "how many records")
	follow := c.Flags().BoolP("follow", "f", false, "go on with new records as they come")
	dir, asJSON := ledgerFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := dir()
		if err != nil {
			return err
		}
		last, err := audit.ReadTail(at, *n)
		if err != nil {
			return err
		}
		show := showRecord(c.OutOrStdout(), *asJSON)
		for _, r := range last {
			if err := show(r); err != nil {
				return err
			}
		}
		if !*follow {
			return nil
		}
		var seen uint64
		if len(last) > 0 {
			seen = last[len(last)-1].Seq
		}
		return audit.Follow(c.Context(), at, seen, time.Tick(200*time.Millisecond), show)
	}
	return c
}

// showRecord prints records one a line: JSON lines, or words.
func showRecord(w io.Writer, asJSON bool) func(audit.Record) error {
	if asJSON {
		enc := json.NewEncoder(w)
		return func(r audit.Record) error { return enc.Encode(r) }
	}
	return func(r audit.Record) error {
		what := []string{r.Op}
		for _, f := range [][2]string{{"profile", r.Profile}, {"key", r.Key}, {"jti", r.TokenID}, {"by", r.Caller}, {"rule", r.Rule}} {
			if f[1] != "" {
				what = append(what, f[0]+"="+f[1])
			}
		}
		if r.Reason != "" {
			what = append(what, fmt.Sprintf("reason=%q", r.Reason))
		}
		_, err := fmt.Fprintf(w, "%6d  %s  %-12s %s\n", r.Seq, r.Time.Format(time.RFC3339), r.Kind, strings.Join(what, " "))
		return err
	}
}
