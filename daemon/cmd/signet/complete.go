package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
)

// completeWithin is how long the daemon may take to answer a shell.
const completeWithin = time.Second

// completedArgs is which commands have names completed, and which names.
var completedArgs = map[string]cobra.CompletionFunc{
	"key create":   first(configuredKeys),
	"key adopt":    first(configuredKeys),
	"key show":     first(keys),
	"key rotate":   keyAndVersion,
	"key activate": keyAndVersion,
	"key retire":   keyAndVersion,
	"key revoke":   keyAndVersion,
	"key destroy":  keyAndVersion,
	"issue":        first(profiles),
	"explain":      first(profiles),
	"jwks":         first(profiles),
	"paserk":       first(profiles),
	"ssh-ca":       first(profiles),
}

// completedFlags is the same of flags: a command, a space, and the flag.
var completedFlags = map[string]cobra.CompletionFunc{
	"conform signer --backend":   every(configuredBackends),
	"conform signer --algorithm": inList(algorithms),
	"key orphans --backend":      every(backends),
	"introspect --profile":       every(profiles),
	"redeem --profile":           every(profiles),
	"demo --signer":              every(func(*cobra.Command) []string { return []string{"softkey", "pkcs11"} }),
}

// complete has a shell complete names. The tables are held against the commands
// by a test: what they name is there.
func complete(root *cobra.Command) {
	for path, f := range completedArgs {
		if c, _, err := root.Find(strings.Fields(path)); err == nil {
			c.ValidArgsFunction = f
		}
	}
	for path, f := range completedFlags {
		command, flag, _ := strings.Cut(path, " --")
		if c, _, err := root.Find(strings.Fields(command)); err == nil {
			_ = c.RegisterFlagCompletionFunc(flag, f)
		}
	}
}

// first completes a command's first argument, and no more.
func first(names func(*cobra.Command) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return fitting(names(c), typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// every completes a flag's value.
func every(names func(*cobra.Command) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return fitting(names(c), typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// inList completes the last of several values with commas between them.
func inList(names func(*cobra.Command) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) (all []string, _ cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		for _, name := range names(c) {
			if !slices.Contains(strings.Split(before, ","), name) {
				all = append(all, before+name)
			}
		}
		return fitting(all, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// fitting are the names that go on from what was typed.
func fitting(names []string, typed string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, typed) })
}

// keyAndVersion completes a key's name, and then one of its versions, with what
// it is.
func keyAndVersion(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return first(keys)(c, args, typed)
	}
	var all []string
	for _, k := range inquire(c, keysOf) {
		for _, v := range k.GetVersions() {
			if k.GetName() == args[0] {
				all = append(all, strconv.Itoa(int(v.GetNumber()))+"\t"+v.GetState())
			}
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

func algorithms(*cobra.Command) (all []string) {
	for _, a := range signers.Algorithms() {
		all = append(all, string(a))
	}
	return all
}

// keys are those that the daemon has, or else those of the configuration.
func keys(c *cobra.Command) (all []string) {
	for _, k := range inquire(c, keysOf) {
		all = append(all, k.GetName())
	}
	if len(all) == 0 {
		return configuredKeys(c)
	}
	return all
}

func profiles(c *cobra.Command) []string {
	if all := inquire(c, statusOf).GetProfiles(); len(all) > 0 {
		return all
	}
	return configured(c, func(cfg *config.Config) (all []string) {
		for _, p := range cfg.Profiles {
			all = append(all, p.Name)
		}
		return all
	})
}

func backends(c *cobra.Command) (all []string) {
	for _, p := range inquire(c, statusOf).GetParts() {
		if p.GetKind() == "backend" {
			all = append(all, p.GetName())
		}
	}
	if len(all) == 0 {
		return configuredBackends(c)
	}
	return all
}

func configuredKeys(c *cobra.Command) []string {
	return configured(c, func(cfg *config.Config) (all []string) {
		for _, k := range cfg.Keys {
			all = append(all, k.Name)
		}
		return all
	})
}

func configuredBackends(c *cobra.Command) []string {
	return configured(c, func(cfg *config.Config) (all []string) {
		for _, b := range cfg.Backends {
			all = append(all, b.Name)
		}
		return all
	})
}

// configured asks the configuration, if there is one that we may read.
func configured(c *cobra.Command, names func(*config.Config) []string) []string {
	path := os.Getenv("SIGNET_CONFIG")
	if f := c.Flags().Lookup("config"); f != nil {
		path = f.Value.String()
	}
	if path == "" {
		path = defaultConfig
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil // nothing to complete: the command itself says why
	}
	return names(cfg)
}

// inquire asks the daemon, if it runs and we may; otherwise it is the zero value.
func inquire[T any](c *cobra.Command, call func(context.Context, signetv1.AdminClient) (T, error)) T {
	var none T
	dir := runtimeDirOf(c)
	// Not [socket], which waits for a daemon that is starting: a person types.
	path := filepath.Join(dir, "admin.sock")
	if _, err := os.Stat(path); err != nil {
		return none
	}
	api, conn, err := client.DialAdmin(path)
	if err != nil {
		return none
	}
	defer conn.Close() //nolint:errcheck // the process ends here
	ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
	defer cancel()
	reply, err := call(ctx, api)
	if err != nil {
		return none
	}
	return reply
}

func keysOf(ctx context.Context, api signetv1.AdminClient) ([]*signetv1.Key, error) {
	reply, err := api.ListKeys(ctx, &signetv1.ListKeysRequest{})
	return reply.GetKeys(), err
}

func statusOf(ctx context.Context, api signetv1.AdminClient) (*signetv1.StatusReply, error) {
	return api.Status(ctx, &signetv1.StatusRequest{})
}

// runtimeDirOf is where the daemon's sockets are, as [socket] looks for it.
func runtimeDirOf(c *cobra.Command) string {
	if f := c.Flags().Lookup("runtime-dir"); f != nil && f.Value.String() != "" {
		return f.Value.String()
	}
	if path := os.Getenv("SIGNET_CONFIG"); path != "" {
		if cfg, err := config.Load(path); err == nil {
			return cfg.RuntimeDir
		}
	}
	return defaultRuntimeDir
}
