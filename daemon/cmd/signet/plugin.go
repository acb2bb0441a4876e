package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/plugins/host"
)

func newPlugin() *cobra.Command {
	c := &cobra.Command{Use: "plugin", Short: "Pin issuers, and see what contains them"}
	c.AddCommand(newPluginList(), newPluginDigest())
	return c
}

func newPluginList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "Show the processes that work for the daemon, and what contains each",
		Long: `Shows each issuer's and each back-end's process, and what the kernel keeps it to:
which system calls and files there are for it, whether it has a network, a uid
or a control group of its own. With "!" it is not in force.`,
		Args: cobra.NoArgs,
	}
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.ListPluginsReply, error) {
			return api.ListPlugins(ctx, &signetv1.ListPluginsRequest{})
		})
		if err != nil {
			return err
		}
		return printPlugins(c.OutOrStdout(), r.GetPlugins(), *asJSON)
	}
	return c
}

func printPlugins(w io.Writer, all []*signetv1.Plugin, asJSON bool) error {
	if asJSON {
		return emit(w, pluginsJSON(all))
	}
	var rows [][]string
	for _, p := range all {
		digest := "signet"
		if p.GetDigest() != "" {
			digest = p.GetDigest()[:12]
		}
		rows = append(rows, []string{p.GetKind(), p.GetName(), dash(p.GetFormat()), fmt.Sprint(p.GetPid()), p.GetState(), fmt.Sprint(p.GetRestarts()), digest})
	}
	if err := table(w, []string{"KIND", "NAME", "FORMAT", "PID", "STATE", "RESTARTS", "SHA-256"}, rows); err != nil {
		return err
	}
	for _, p := range all {
		fmt.Fprintf(w, "\n%s %s\n", p.GetKind(), p.GetName())
		var rows [][]string
		for _, m := range p.GetContainments() {
			mark := "  "
			if !m.GetInForce() {
				mark = "! "
			}
			rows = append(rows, []string{mark + m.GetName(), m.GetDetail()})
		}
		if err := columns(w, rows); err != nil {
			return err
		}
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// pluginsJSON is what --json prints.
func pluginsJSON(all []*signetv1.Plugin) any {
	type containment struct {
		Name    string `json:"name"`
		InForce bool   `json:"in_force"`
		Detail  string `json:"detail"`
	}
	type plugin struct {
		Kind         string        `json:"kind"`
		Name         string        `json:"name"`
		Format       string        `json:"format,omitempty"`
		PID          int32         `json:"pid"`
		State        string        `json:"state"`
		Restarts     int64         `json:"restarts"`
		SHA256       string        `json:"sha256,omitempty"`
		Containments []containment `json:"containments"`
	}
	list := []plugin{}
	for _, p := range all {
		one := plugin{Kind: p.GetKind(), Name: p.GetName(), Format: p.GetFormat(), PID: p.GetPid(), State: p.GetState(), Restarts: p.GetRestarts(), SHA256: p.GetDigest()}
		for _, m := range p.GetContainments() {
			one.Containments = append(one.Containments, containment{m.GetName(), m.GetInForce(), m.GetDetail()})
		}
		list = append(list, one)
	}
	return map[string]any{"plugins": list}
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
