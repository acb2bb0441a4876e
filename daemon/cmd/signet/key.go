package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

func newKey() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "Create, look at, rotate and revoke keys"}
	c.AddCommand(newKeyCreate(), newKeyAdopt(), newKeyList(), newKeyShow(), newKeyAttestation(), newKeyOrphans(),
		keyChange("rotate", "Make and publish the next version; it does not sign yet", signetv1.AdminClient.Rotate),
		keyChange("activate", "Let a published version sign, and retire the one that did", signetv1.AdminClient.Activate),
		keyChange("retire", "Stop the signing version without a successor", signetv1.AdminClient.Retire),
		keyChange("revoke", "Take a version out of every published set at once", signetv1.AdminClient.Revoke),
		keyChange("destroy", "Destroy a version's private key, for good", signetv1.AdminClient.Destroy))
	return c
}

// admin calls the daemon over admin.sock.
func admin[T any](c *cobra.Command, dir string, call func(context.Context, signetv1.AdminClient) (T, error)) (T, error) {
	var none T
	path, err := socket(dir, "admin.sock")
	if err != nil {
		return none, err
	}
	api, conn, err := client.DialAdmin(path)
	if err != nil {
		return none, err
	}
	defer conn.Close() //nolint:errcheck // the process ends here
	reply, err := call(c.Context(), api)
	if err != nil {
		return none, answered(err)
	}
	return reply, nil
}

func newKeyCreate() *cobra.Command {
	req := &signetv1.CreateKeyRequest{}
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make the first version of a key that the configuration names",
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&req.Reason, "reason", "", "why; the ledger keeps it")
	c.Flags().BoolVar(&req.Staged, "staged", false, "publish the version, but do not let it sign yet")
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		req.Name = args[0]
		reply, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.KeyReply, error) {
			return api.CreateKey(ctx, req)
		})
		if err != nil {
			return err
		}
		return printChange(c, reply, *asJSON)
	}
	return c
}

type changeCall func(signetv1.AdminClient, context.Context, *signetv1.KeyRequest, ...callOption) (*signetv1.KeyReply, error)

// keyChange is a command that changes one version of a key.
func keyChange(verb, short string, call changeCall) *cobra.Command {
	req := &signetv1.KeyRequest{}
	c := &cobra.Command{Use: verb + " NAME [VERSION]", Short: short, Args: cobra.RangeArgs(1, 2)}
	f := c.Flags()
	f.StringVar(&req.Reason, "reason", "", "why; the ledger keeps it")
	switch verb {
	case "activate":
		f.BoolVar(&req.BeforeLeadTime, "before-lead-time", false, "do not wait until verifiers had time to fetch the key (break-glass)")
	case "destroy":
		f.StringVar(&req.ConfirmKid, "confirm-kid", "", "the whole kid of the version, once more")
	}
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := keyArgs(req, args); err != nil {
			return err
		}
		reply, err := admin(c, *dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.KeyReply, error) {
			return call(api, ctx, req)
		})
		if err != nil {
			return err
		}
		return printChange(c, reply, *asJSON)
	}
	return c
}

func keyArgs(req *signetv1.KeyRequest, args []string) error {
	req.Name = args[0]
	if len(args) == 1 {
		return nil
	}
	var err error
	req.Version, err = versionOf(args[1])
	return err
}

func versionOf(arg string) (uint32, error) {
	n, err := strconv.ParseUint(arg, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("version %q is not a number from 1\nhint: `signet key list` shows them", arg)
	}
	return uint32(n), nil
}

func printChange(c *cobra.Command, r *signetv1.KeyReply, asJSON bool) error {
	if asJSON {
		return emit(c.OutOrStdout(), jsonKey(r.GetKey()))
	}
	for _, v := range r.GetKey().GetVersions() {
		if v.GetNumber() == r.GetVersion() {
			_, err := fmt.Fprintf(c.OutOrStdout(), "key %q version %d is %s, kid %s\n", r.GetKey().GetName(), v.GetNumber(), v.GetState(), v.GetKid())
			return err
		}
	}
	return errors.New("the daemon's answer lacks the version")
}

func listKeys(c *cobra.Command, dir string) ([]*signetv1.Key, error) {
	reply, err := admin(c, dir, func(ctx context.Context, api signetv1.AdminClient) (*signetv1.ListKeysReply, error) {
		return api.ListKeys(ctx, &signetv1.ListKeysRequest{})
	})
	return reply.GetKeys(), err
}

func newKeyList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List keys and their versions", Args: cobra.NoArgs}
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		keys, err := listKeys(c, *dir)
		if err != nil {
			return err
		}
		if *asJSON {
			all := make([]keyJSON, 0, len(keys))
			for _, k := range keys {
				all = append(all, jsonKey(k))
			}
			return emit(c.OutOrStdout(), all)
		}
		return printKeys(c, keys)
	}
	return c
}

func newKeyShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show one key with the times of all its versions", Args: cobra.ExactArgs(1)}
	dir, asJSON := runtimeFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		keys, err := listKeys(c, *dir)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.GetName() != args[0] {
				continue
			}
			if *asJSON {
				return emit(c.OutOrStdout(), jsonKey(k))
			}
			return printKey(c, k)
		}
		return fmt.Errorf("key %q does not exist\nhint: `signet key list` shows those that do", args[0])
	}
	return c
}

func printKeys(c *cobra.Command, keys []*signetv1.Key) error {
	var rows [][]string
	for _, k := range keys {
		for _, v := range k.GetVersions() {
			rows = append(rows, []string{k.GetName(), strconv.Itoa(int(v.GetNumber())), v.GetState(), k.GetAlgorithm(), k.GetFormat(), k.GetBackend(), k.GetBackendState(), v.GetKid(), cmp.Or(v.GetProblem(), "-")})
		}
	}
	return table(c.OutOrStdout(), []string{"KEY", "VERSION", "STATE", "ALGORITHM", "FORMAT", "BACKEND", "BACKEND STATE", "KID", "PROBLEM"}, rows)
}

func printKey(c *cobra.Command, k *signetv1.Key) error {
	w := c.OutOrStdout()
	fmt.Fprintf(w, "key %s: %s in back-end %s, for %s tokens\n", k.GetName(), k.GetAlgorithm(), k.GetBackend(), k.GetFormat())
	var rows [][]string
	for _, v := range k.GetVersions() {
		rows = append(rows, []string{strconv.Itoa(int(v.GetNumber())), v.GetState(), v.GetKid(), v.GetBackendId(), instant(v.GetPublished()), instant(v.GetActivated()), instant(v.GetRetired()), instant(v.GetUnpublish()), cmp.Or(v.GetProblem(), "-")})
	}
	return table(w, []string{"VERSION", "STATE", "KID", "BACKEND ID", "PUBLISHED", "ACTIVATED", "RETIRED", "UNPUBLISH", "PROBLEM"}, rows)
}

// instant is a time for a table: RFC 3339 in UTC, or a dash for never.
func instant(seconds int64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
