package secret

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Deadline is how long a command may take. It is generous for a prompt to a
// local agent, and short for a daemon that is waiting to start.
const Deadline = 10 * time.Second

// readCommand runs a program and takes what it prints. It gets no environment,
// no input and none of our descriptors; its complaints are thrown away, since
// they may quote the secret.
func readCommand(ctx context.Context, argv []string) ([]byte, error) {
	return runWithin(ctx, argv, Deadline)
}

// runWithin takes the deadline, so that tests need not wait for the real one.
func runWithin(ctx context.Context, argv []string, most time.Duration) ([]byte, error) {
	if err := checkProgram(argv[0]); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	cmd := command(ctx, argv)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrCommand, argv[0], err)
	}
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("%w: %q: %w\nhint: is it an executable file?", ErrCommand, argv[0], err)
	}
	// Something the command left behind may hold the pipe open for ever.
	stop := context.AfterFunc(ctx, func() { _ = out.Close() })
	defer stop()
	secret, err := readAll(out, argv[0])
	if err != nil {
		cancel() // it may print for ever
	}
	return finish(ctx, cmd, secret, err)
}

// command prepares the process and what ends it.
func command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the operator's own configuration
	cmd.Env = []string{}                                  // nil would be all of ours
	cmd.Dir = "/"
	// A group of its own, so that what the command starts ends with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// start marks every descriptor close-on-exec first: libraries in our process
// may have opened some without.
func start(cmd *exec.Cmd) error {
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return cmd.Start()
}

// finish waits for the command: output of one that failed is not a secret.
func finish(ctx context.Context, cmd *exec.Cmd, secret []byte, read error) ([]byte, error) {
	ended := cmd.Wait()
	late := ctx.Err()
	if read == nil && ended == nil {
		return secret, nil
	}
	Wipe(secret)
	switch {
	case errors.Is(read, ErrTooLarge):
		return nil, read
	case late != nil:
		return nil, fmt.Errorf("%w: %q: %w\nhint: it has %v and can't ask a person", ErrCommand, cmd.Path, late, Deadline)
	case ended == nil:
		return nil, fmt.Errorf("%w: %q: %w", ErrCommand, cmd.Path, read)
	}
	return nil, fmt.Errorf("%w: %q: %w\nhint: run it by hand as the daemon's user, with `env -i`", ErrCommand, cmd.Path, ended)
}

// checkProgram refuses a program that others could replace by their own.
func checkProgram(path string) error {
	f, err := os.Open(path) //nolint:gosec // the operator's own configuration
	if err != nil {
		return fmt.Errorf("%w: command: %w\nhint: name an executable file that the daemon's user can read", ErrSource, err)
	}
	defer f.Close() //nolint:errcheck // only read
	return checkFile(f, rule{0o022, "chmod go-w %s"})
}
