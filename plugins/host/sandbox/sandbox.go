// Package sandbox starts processes that hold nothing they were not given: no
// descriptor, no environment, no way to gain privileges, no life after the
// daemon's.
//
// Between the daemon and a child runs a trampoline: the daemon's own binary,
// which calls [Exec], gives everything up and becomes the child. PKCS#11
// modules open key files without O_CLOEXEC, so the daemon itself cannot know
// what a child would inherit; the trampoline sees all of it and needs no list.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// How many descriptors a process may have: enough for a program that serves one
// connection, and for a module with thousands of key files.
const (
	maxFiles        = 64
	maxBackendFiles = 4096
)

// errUsage says that the trampoline was started by hand.
var errUsage = errors.New("sandbox: the trampoline wants PARENT CONFINEMENT TARGET ARGV\nhint: the daemon starts this by itself; use `signet serve`")

// Exec gives up what the process has and becomes the target. It returns only
// if it fails. The arguments are those that a [Starter] adds to its trampoline: the
// parent's pid, the confinement, the target, the target's argv. The environment
// stays as it is.
//
// PR_SET_DUMPABLE is not among the steps, since exec resets it: the kernel sets
// it to 0 for a target that its process may execute and not read, which a sealed
// copy is; package serve does it for the daemon's own binary.
func Exec(args []string) error { return become(args, Confinement.steps) }

func become(args []string, steps func(c Confinement, parent int, target string) []step) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) < 4 {
		return errUsage
	}
	parent, err := strconv.Atoi(args[0])
	if err != nil {
		return errUsage
	}
	c, err := decodeConfinement(args[1])
	if err != nil {
		return errUsage
	}
	// What is given up belongs to a thread, and must be given up on the one
	// that calls exec.
	lockThread()
	for _, s := range steps(c, parent, args[2]) {
		if err := s.do(); err != nil {
			return fmt.Errorf("sandbox: %s: %w", s.name, err)
		}
	}
	err = unix.Exec(args[2], args[3:], os.Environ())
	return fmt.Errorf("sandbox: exec %s: %w", args[2], err)
}

// A step gives up one thing.
type step struct {
	name string
	do   func() error
}

// steps is everything that a child does without, in order. Landlock and
// seccomp are at the end: they would forbid what the others need.
func (c Confinement) steps(parent int, target string) []step {
	return []step{
		{"control group", c.joinCgroup},
		{"close descriptors", closeOnExec},
		{"keys of the session", ownKeyring},
		{"own uid", c.becomeUID},
		{"no capabilities", dropCapabilities},
		{"no new privileges", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"limits", c.limits},
		{"no directory", func() error { return unix.Chdir("/") }},
		{"private files", func() error { unix.Umask(c.umask()); return nil }},
		// After the uid, whose change takes it back.
		{"die with the daemon", func() error { return dieWith(parent) }},
		{"files", func() error { return c.lockFiles(target) }},
		{"system calls", func() error { return c.filter(os.Getpid()) }},
	}
}

// closeOnExec marks every descriptor but the three standard ones, known or
// not. The target's own is among them: an ELF file is mapped before it closes.
func closeOnExec() error {
	err := unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w\nhint: signet needs Linux 5.11 or later", err)
	}
	return err
}

func limit(resource int, n uint64) error {
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n})
}

// dieWith has the kernel kill this process with its parent. The signal is set
// here once more, although the parent set it, since the trampoline's own exec
// clears it when the binary has file capabilities.
func dieWith(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	// A parent that died before the line above sends no signal.
	if os.Getppid() != parent {
		return errors.New("the daemon is gone")
	}
	return nil
}
