package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/plugins/host/sandbox"
	"github.com/signetd/signet/plugins/serve"
	"github.com/signetd/signet/signers"
	"github.com/signetd/signet/signers/remote"
)

func newServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Runs the daemon until it is told to end (SIGTERM or SIGINT), then answers what is
under way and stops. It tells systemd when it is ready (Type=notify).

Exit status 2 means that a back-end refused: a wrong PIN, say. Starting again would
try it again, and tokens lock (RestartPreventExitStatus=2 in the unit).`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		// Before there is anything to see.
		if err := daemon.Harden(); err != nil {
			return err
		}
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		if err := daemon.Part(cfg); err != nil {
			return err
		}
		tune()
		err = daemon.Run(c.Context(), cfg, daemon.Options{Version: version(), Stderr: c.ErrOrStderr()})
		if errors.Is(err, signers.ErrDenied) {
			// A wrong PIN: a service manager must not try until the token locks.
			return exitCode{err, 2}
		}
		return err
	}
	return c
}

// tune has the garbage collector run less often: a daemon's heap is a few
// megabytes, and collecting it at each doubling costs 5 % of a busy one's
// time. GOGC, if it is set, stands.
func tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

func newCheckConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "check-config",
		Short: "Check the configuration, without starting anything",
		Args:  cobra.NoArgs,
	}
	path := configFlag(c)
	schema := c.Flags().Bool("schema", false, "print the configuration's JSON Schema instead")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *schema {
			_, err := c.OutOrStdout().Write(config.Schema())
			return err
		}
		return checkConfig(c, *path, *asJSON)
	}
	return c
}

// newIssuer is what the daemon runs, from its own binary, as an issuer process.
func newIssuer() *cobra.Command {
	return &cobra.Command{
		Use: "issuer FORMAT", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Serve a stock issuer to the daemon that started this process",
		RunE: func(_ *cobra.Command, args []string) error {
			issuer, ok := daemon.StockIssuer(args[0])
			if !ok {
				return fmt.Errorf("issuer %q is not a stock issuer", args[0])
			}
			tune()
			serve.Main(issuer)
			return nil
		},
	}
}

// newBackend is what the daemon runs, from its own binary, as the process of a
// back-end.
func newBackend() *cobra.Command {
	return &cobra.Command{
		Use: "backend TYPE", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Serve a back-end to the daemon that started this process",
		Run: func(*cobra.Command, []string) {
			tune()
			remote.Main(daemon.OpenRemote, daemon.Now)
		},
	}
}

// newLauncher is the one process that may change uids.
func newLauncher() *cobra.Command {
	return &cobra.Command{
		Use: "launcher FIRST LAST", Hidden: true, Args: cobra.ExactArgs(2),
		Short: "Start plug-ins under uids of their own, for the daemon that started this process",
		RunE: func(_ *cobra.Command, args []string) error {
			// A service manager's signal is for the daemon, whose end is ours.
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			first, err := strconv.ParseUint(args[0], 10, 32)
			last, err2 := strconv.ParseUint(args[1], 10, 32)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			return sandbox.Launch(uint32(first), uint32(last))
		},
	}
}

// newLaunch is the last thing that runs with the daemon's descriptors: it
// drops what the process was not given and becomes it.
func newLaunch() *cobra.Command {
	return &cobra.Command{
		Use: "launch", Hidden: true, DisableFlagParsing: true,
		Short: "Become an issuer's or a back-end's process, with nothing it was not given",
		RunE: func(_ *cobra.Command, args []string) error {
			return sandbox.Exec(args)
		},
	}
}

func newInit() *cobra.Command {
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a commented configuration that starts as it is",
		Long: `Writes signet.yaml and a fresh secret for the embedded key store into DIR, by
default ./signet. Nothing that is there already is overwritten.`,
		Args: cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		dir := "signet"
		if len(args) == 1 {
			dir = args[0]
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		return initialise(c, dir, *asJSON)
	}
	return c
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a path that the user names
	if err != nil {
		return fmt.Errorf("%w\nhint: `signet init` overwrites nothing; name another directory", err)
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// initialise writes a configuration and the secret that it names.
func initialise(c *cobra.Command, dir string, asJSON bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // callers must reach the sockets in it
		return fmt.Errorf("%w\nhint: name a directory that you may make", err)
	}
	text, err := config.Example{UID: os.Getuid(), Algorithm: "ecdsa-p256-sha256"}.Text()
	if err != nil {
		return err
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "signet.yaml")
	if err := writeNew(file, []byte(text)); err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, "softkey.secret"), []byte(id.String()+"\n")); err != nil {
		return err
	}
	w := c.OutOrStdout()
	if asJSON {
		return emit(w, map[string]string{"config": file, "secret": filepath.Join(dir, "softkey.secret")})
	}
	fmt.Fprintf(w, "wrote %s and softkey.secret beside it: back that one up, it opens the keys\n\nnext:\n", file)
	fmt.Fprintf(w, "  export SIGNET_CONFIG=%s\n  signet serve &\n  signet key create demo --reason \"first key\"\n", file)
	fmt.Fprintf(w, "  signet issue demo --subject demo/me --audience https://api.example --ttl 5m\n")
	return nil
}

// checkConfig prints every mistake there is, or that there is none.
func checkConfig(c *cobra.Command, path string, asJSON bool) error {
	cfg, err := config.Load(path)
	if err == nil {
		err = daemon.Check(cfg)
	}
	if asJSON {
		var found config.Errors
		if err != nil && !errors.As(err, &found) {
			found = config.Errors{{File: path, Problem: err.Error()}}
		}
		if err := emit(c.OutOrStdout(), map[string]any{"good": err == nil, "errors": append(config.Errors{}, found...)}); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if !asJSON {
		fmt.Fprintf(c.OutOrStdout(), "%s is good: %d back-ends, %d keys, %d profiles\n", path, len(cfg.Backends), len(cfg.Keys), len(cfg.Profiles))
	}
	return nil
}
