package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

func newKeyOrphans() *cobra.Command {
	list, one := &signetv1.ListOrphansRequest{}, &signetv1.CleanOrphanRequest{}
	c := &cobra.Command{
		Use:   "orphans",
		Short: "List keys in back-ends that no record claims, with what they cost",
		Long: `Looks through every back-end for keys of ours that no record of this daemon
claims, and prints them with what each costs a month by the service's price
list. An unclaimed key lost its record; a half-made one was cut off before it
was named; a health-check key is of a check that is not made any more; a
conformance key was left behind by the suite. Keys that are not ours, or are
being made, are not shown. It exits with 3 if a back-end could not be looked at.

With --clean it destroys exactly one, named by its id and its reference: never
because a list has it. A daemon with an old backup of its records takes its own
keys for orphans: see first where they come from.`,
		Example: `  signet key orphans
  signet key orphans --clean --backend kms --id pay-v1-0011aabb --ref arn:aws:kms:… --reason "cut off on Monday"`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	clean := f.Bool("clean", false, "destroy the one key that --backend, --id and --ref name")
	f.StringVar(&list.Backend, "backend", "", "the back-end; without --clean all if absent")
	f.StringVar(&one.BackendId, "id", "", "the key's id, whole")
	f.StringVar(&one.Ref, "ref", "", "the key's reference, whole")
	f.StringVar(&one.Ref, "fingerprint", "", "the same, for back-ends whose references are fingerprints")
	f.StringVar(&one.Reason, "reason", "", "why; the ledger keeps it")
	f.BoolVar(&one.Young, "young", false, "accept a key that was made less than an hour ago, or nobody knows when: no other daemon is making it")
	c.MarkFlagsMutuallyExclusive("ref", "fingerprint")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *clean {
			one.Backend = list.GetBackend()
			return cleanOrphan(c, *dir, one, *asJSON)
		}
		for _, name := range []string{"id", "ref", "fingerprint", "reason", "young"} {
			if f.Changed(name) {
				return fmt.Errorf("--%s goes with --clean\nhint: without it nothing is destroyed", name)
			}
		}
		return listOrphans(c, *dir, list, *asJSON)
	}
	return c
}

// orphanJSON is an orphan as --json prints it. Field names are part of the
// interface.
type orphanJSON struct {
	Backend    string  `json:"backend"`
	BackendID  string  `json:"backend_id"`
	Ref        string  `json:"ref"`
	Kind       string  `json:"kind"`
	State      string  `json:"state,omitempty"`
	Created    string  `json:"created,omitempty"`
	Young      bool    `json:"young"`
	MonthlyUSD float64 `json:"monthly_usd"`
}

func jsonOrphan(o *signetv1.Orphan) orphanJSON {
	return orphanJSON{o.GetBackend(), o.GetBackendId(), o.GetRef(), o.GetKind(), o.GetState(), stamp(o.GetCreated()), o.GetYoung(), o.GetMonthlyUsd()}
}

func listOrphans(c *cobra.Command, dir string, req *signetv1.ListOrphansRequest, asJSON bool) error {
	reply, err := admin(c, dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.ListOrphansReply, error) {
		return api.ListOrphans(ctx, req)
	})
	if err != nil {
		return err
	}
	show := printOrphans
	if asJSON {
		show = emitOrphans
	}
	if err := show(c.OutOrStdout(), reply); err != nil {
		return err
	}
	if n := len(reply.GetUnseen()); n > 0 {
		for _, p := range reply.GetUnseen() {
			fmt.Fprintf(c.ErrOrStderr(), "back-end %s: %s\n", p.GetName(), p.GetDetail())
		}
		return exitCode{fmt.Errorf("%d back-ends could not be looked at", n), 3}
	}
	return nil
}

func monthly(all []*signetv1.Orphan) (sum float64) {
	for _, o := range all {
		sum += o.GetMonthlyUsd()
	}
	return sum
}

func emitOrphans(w io.Writer, r *signetv1.ListOrphansReply) error {
	all, unseen := []orphanJSON{}, []string{}
	for _, o := range r.GetOrphans() {
		all = append(all, jsonOrphan(o))
	}
	for _, p := range r.GetUnseen() {
		unseen = append(unseen, p.GetName())
	}
	return emit(w, map[string]any{
		"orphans": all, "unseen": unseen, "monthly_usd": monthly(r.GetOrphans()), "prices_as_of": r.GetPricesAsOf(),
	})
}

func printOrphans(w io.Writer, r *signetv1.ListOrphansReply) error {
	if len(r.GetOrphans()) == 0 {
		_, err := fmt.Fprintln(w, "no orphans")
		return err
	}
	var rows [][]string
	for _, o := range r.GetOrphans() {
		kind := o.GetKind()
		if o.GetYoung() {
			kind += ", young"
		}
		ref := o.GetRef()
		if ref == "" {
			ref = "-"
		}
		rows = append(rows, []string{o.GetBackend(), o.GetBackendId(), kind, o.GetState(), instant(o.GetCreated()), dollars(o.GetMonthlyUsd()), ref})
	}
	if err := table(w, []string{"BACKEND", "ID", "KIND", "STATE", "CREATED", "COST A MONTH", "REFERENCE"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d orphans, %s a month by the price lists of %s; the service's bill rules\n", len(rows), dollars(monthly(r.GetOrphans())), r.GetPricesAsOf())
	return err
}

func dollars(usd float64) string { return fmt.Sprintf("$%.2f", usd) }

func cleanOrphan(c *cobra.Command, dir string, req *signetv1.CleanOrphanRequest, asJSON bool) error {
	reply, err := admin(c, dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.CleanOrphanReply, error) {
		return api.CleanOrphan(ctx, req)
	})
	if err != nil {
		return err
	}
	o := reply.GetOrphan()
	if asJSON {
		return emit(c.OutOrStdout(), jsonOrphan(o))
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "key %q in back-end %s is destroyed, or scheduled for it: %s\n", o.GetBackendId(), o.GetBackend(), o.GetRef())
	return err
}
