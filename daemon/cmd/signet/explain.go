package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

func newExplain() *cobra.Command {
	var want wanted
	req := &signetv1.ExplainRequest{}
	c := &cobra.Command{
		Use:   "explain PROFILE",
		Short: "Say why a request would be allowed or refused, without signing",
		Long: `Asks the daemon what its policy makes of a request, for a caller that need not
be here. Nothing is signed. Exit status 2 means that it would be refused.`,
		Args: cobra.ExactArgs(1),
	}
	want.flags(c)
	f := c.Flags()
	f.Uint32Var(&req.Uid, "uid", uint32(os.Getuid()), "the caller's uid") //nolint:gosec // uids fit
	f.Uint32Var(&req.Gid, "gid", uint32(os.Getgid()), "the caller's gid") //nolint:gosec // gids fit
	f.StringVar(&req.Unit, "unit", "", "the caller's systemd unit")
	f.StringVar(&req.Exe, "exe", "", "the caller's executable")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		asked, err := want.request(args[0])
		if err != nil {
			return err
		}
		req.Request = wireRequest(asked)
		reply, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.ExplainReply, error) {
			return api.Explain(ctx, req)
		})
		if err != nil {
			return err
		}
		return printExplanation(c, reply, *asJSON)
	}
	return c
}

func wireRequest(r client.Request) *signetv1.IssueRequest {
	to := &signetv1.IssueRequest{
		Profile: r.Profile, Subject: r.Subject, Audience: r.Audience, Scope: r.Scope,
		TtlSeconds: int64(r.TTL / time.Second), Claims: r.Claims,
		Principals: r.Principals, Options: r.Options, Extensions: r.Extensions, Assertion: r.Assertion,
	}
	for kind, value := range r.Holder {
		to.HolderKind, to.HolderValue = kind, value
	}
	return to
}

func printExplanation(c *cobra.Command, r *signetv1.ExplainReply, asJSON bool) error {
	if err := writeExplanation(c, r, asJSON); err != nil {
		return err
	}
	if !r.GetAllowed() {
		return exitCode{fmt.Errorf("refused by %s: %s", r.GetRule(), r.GetReason()), 2}
	}
	return nil
}

func writeExplanation(c *cobra.Command, r *signetv1.ExplainReply, asJSON bool) error {
	w := c.OutOrStdout()
	type step struct {
		Rule   string `json:"rule"`
		Held   bool   `json:"held"`
		Detail string `json:"detail"`
	}
	steps := []step{}
	var rows [][]string
	for _, s := range r.GetSteps() {
		steps = append(steps, step{s.GetRule(), s.GetHeld(), s.GetDetail()})
		rows = append(rows, []string{yesNo(s.GetHeld()), s.GetRule(), s.GetDetail()})
	}
	if asJSON {
		return emit(w, map[string]any{"allowed": r.GetAllowed(), "rule": r.GetRule(), "reason": r.GetReason(), "steps": steps})
	}
	if err := table(w, []string{"HELD", "RULE", "WHAT WAS COMPARED"}, rows); err != nil {
		return err
	}
	if r.GetAllowed() {
		fmt.Fprintln(w, green(w, "allowed")+" by "+r.GetRule())
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func newStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show how the daemon's parts are", Args: cobra.NoArgs}
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.StatusReply, error) {
			return api.Status(ctx, &signetv1.StatusRequest{})
		})
		if err != nil {
			return err
		}
		return printStatus(c, r, *asJSON)
	}
	return c
}

// printStatus exits with 3 when a part is not healthy, so that a probe can
// use the command as it is.
func printStatus(c *cobra.Command, r *signetv1.StatusReply, asJSON bool) error {
	w := c.OutOrStdout()
	type part struct {
		Kind    string `json:"kind"`
		Name    string `json:"name"`
		Healthy bool   `json:"healthy"`
		Detail  string `json:"detail,omitempty"`
	}
	parts := []part{}
	var rows [][]string
	sick := 0
	for _, p := range r.GetParts() {
		parts = append(parts, part{p.GetKind(), p.GetName(), p.GetHealthy(), p.GetDetail()})
		rows = append(rows, []string{p.GetKind(), p.GetName(), yesNo(p.GetHealthy()), p.GetDetail()})
		if !p.GetHealthy() {
			sick++
		}
	}
	var err error
	if asJSON {
		err = emit(w, map[string]any{"version": r.GetVersion(), "started": stamp(r.GetStarted()), "parts": parts})
	} else {
		fmt.Fprintf(w, "signet %s, up since %s\n", r.GetVersion(), instant(r.GetStarted()))
		err = table(w, []string{"PART", "NAME", "HEALTHY", "DETAIL"}, rows)
	}
	if err == nil && sick > 0 {
		err = exitCode{fmt.Errorf("%d of %d parts are not healthy", sick, len(parts)), 3}
	}
	return err
}
