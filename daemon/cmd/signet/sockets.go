package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/daemon/config"
)

// defaultConfig is where the configuration is, unless --config or
// SIGNET_CONFIG says otherwise.
const defaultConfig = "/etc/signet/signet.yaml"

// defaultRuntimeDir is where the sockets are if nothing says otherwise.
const defaultRuntimeDir = "/run/signet"

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
		dir = defaultRuntimeDir
	}
	path := filepath.Join(dir, name)
	if err := appears(path); err != nil {
		return "", fmt.Errorf("no daemon at %s: %w\nhint: start it with `signet serve`, or name its directory with --runtime-dir or SIGNET_RUNTIME_DIR", path, err)
	}
	return path, nil
}

// appears waits a moment for a socket: the daemon may just be starting.
func appears(path string) error {
	const patience, step = time.Second, 20 * time.Millisecond
	for waited := time.Duration(0); ; waited += step {
		_, err := os.Stat(path) //nolint:gosec // the user names it
		if err == nil || !errors.Is(err, fs.ErrNotExist) || waited >= patience {
			return err
		}
		time.Sleep(step)
	}
}

// answered makes an exit status of what the daemon answered: 2 if it refused,
// 1 if there was no answer, or a fault. What the transport says of a daemon
// that is not there is put into words.
func answered(err error) error {
	text := status.Convert(err).Message()
	switch status.Code(err) { //nolint:exhaustive // the rest are faults
	case codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.AlreadyExists, codes.Unauthenticated:
		return exitCode{err, 2}
	case codes.Unavailable:
		switch {
		case strings.Contains(text, "connection refused"):
			err = errors.New("the daemon is not running: its socket is left over\nhint: start it with `signet serve`")
		case strings.Contains(text, "permission denied"):
			err = errors.New("the daemon's socket is not yours to use\nhint: sockets.group in the configuration says whose it is; admin.sock and metrics.sock are for the daemon's user and that group")
		}
	}
	return exitCode{err, 1}
}

// dial connects to issue.sock.
func dial(runtimeDir string) (*client.Client, error) {
	path, err := socket(runtimeDir, "issue.sock")
	if err != nil {
		return nil, err
	}
	return client.Dial(path)
}
