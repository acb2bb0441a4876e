package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/daemon/config"
)

// defaultConfig is where the configuration is, unless --config or
// SIGNET_CONFIG says otherwise.
const defaultConfig = "/etc/signet/signet.yaml"

// configFlag adds --config to a command.
func configFlag(c *cobra.Command) *string {
	path := defaultConfig
	if env := os.Getenv("SIGNET_CONFIG"); env != "" {
		path = env
	}
	return c.Flags().String("config", path, "configuration file (SIGNET_CONFIG)")
}

// runtimeFlag adds --runtime-dir, for commands that talk to the daemon.
func runtimeFlag(c *cobra.Command) *string {
	return c.Flags().String("runtime-dir", os.Getenv("SIGNET_RUNTIME_DIR"),
		"where the daemon's sockets are (SIGNET_RUNTIME_DIR; else as SIGNET_CONFIG says; else /run/signet)")
}

// socket finds one of the daemon's sockets. A caller need not be able to read
// the configuration: it holds no secret, but it is not the caller's business.
func socket(runtimeDir, name string) (string, error) {
	dir := runtimeDir
	if path := os.Getenv("SIGNET_CONFIG"); dir == "" && path != "" {
		cfg, err := config.Load(path)
		if err != nil {
			return "", err
		}
		dir = cfg.RuntimeDir
	}
	if dir == "" {
		dir = "/run/signet"
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil { //nolint:gosec // the user names it
		return "", fmt.Errorf("no daemon at %s: %w\nhint: start it with `signet serve`, or name its directory with --runtime-dir or SIGNET_RUNTIME_DIR", path, err)
	}
	return path, nil
}

// dial connects to issue.sock.
func dial(runtimeDir string) (*client.Client, error) {
	path, err := socket(runtimeDir, "issue.sock")
	if err != nil {
		return nil, err
	}
	return client.Dial(path)
}
