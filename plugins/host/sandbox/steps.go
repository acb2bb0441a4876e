package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxThreads bounds the tasks of a uid that is a process's own.
const maxThreads = 256

// joinCgroup moves this process into its control group, while it still may.
func (c Confinement) joinCgroup() error {
	if c.Cgroup == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(c.Cgroup, "cgroup.procs"), []byte("0\n"), 0)
	return c.accepts(Cgroup, err)
}

// ownKeyring leaves the session's keyring to the session. A kernel or a
// container without keyrings has none to leave.
func ownKeyring() error {
	// No name: a new and nameless one.
	_, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	if errno == 0 {
		return nil
	}
	var err error = errno
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

// becomeUID takes a uid and gid that nobody else has. The directory of its
// socket becomes that group's to make files in, and stays the daemon's.
func (c Confinement) becomeUID() error {
	if c.UID == 0 {
		return nil
	}
	id := int(c.UID)
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(id, id, id); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if c.Dir != "" {
		// Its owner may give it to a group of his own, which this one is now.
		if err := errors.Join(os.Chown(c.Dir, -1, id), os.Chmod(c.Dir, 0o730)); err != nil { //nolint:gosec // not to be read
			return err
		}
	}
	if err := syscall.Setresuid(id, id, id); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	return nil
}

// umask lets the daemon connect to the socket of another uid: who else might
// can't reach its directory.
func (c Confinement) umask() int {
	if c.UID != 0 {
		return 0
	}
	return 0o077
}

// dropCapabilities empties every set.
func dropCapabilities() error {
	return keepCapabilities(func(uintptr) bool { return false })
}

// keepCapabilities takes all others from this thread, and from what it becomes.
// Who has no right to shrink the bounding set keeps it, for nothing: with
// no_new_privs no exec adds to the others.
func keepCapabilities(keep func(c uintptr) bool) error {
	for c := range uintptr(64) {
		if keep(c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
			break // past the last; not ours to drop
		}
		if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	sets, err := capabilities()
	if err != nil {
		return err
	}
	for c := range uintptr(64) {
		if !keep(c) {
			bit := uint32(1) << (c % 32)
			s := &sets[c/32]
			s.Effective, s.Permitted, s.Inheritable = s.Effective&^bit, s.Permitted&^bit, s.Inheritable&^bit
			// Out of the ambient set with the others: the kernel sees to it.
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capset(&head, &sets[0])
}

// capabilities are those of this thread.
func capabilities() (sets [2]unix.CapUserData, err error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err = unix.Capget(&head, &sets[0])
	return sets, err
}

// lockThread is where a goroutine that gives something up stays for good: what
// is given up belongs to a thread.
func lockThread() { runtime.LockOSThread() }

// limits are what no process may use, whoever it is.
func (c Confinement) limits() error {
	type most struct {
		what string
		of   int
		n    uint64
	}
	all := []most{{"core files", unix.RLIMIT_CORE, 0}}
	if c.Backend {
		all = append(all, most{"descriptors", unix.RLIMIT_NOFILE, maxBackendFiles})
	} else {
		all = append(all, most{"descriptors", unix.RLIMIT_NOFILE, maxFiles},
			most{"file contents", unix.RLIMIT_FSIZE, 0}, most{"message queues", unix.RLIMIT_MSGQUEUE, 0})
	}
	if c.UID != 0 {
		all = append(all, most{"threads", unix.RLIMIT_NPROC, maxThreads})
	}
	if c.Memory != 0 {
		// Data, not addresses: Go, V8 and others reserve far more than they use.
		all = append(all, most{"memory", unix.RLIMIT_DATA, c.Memory})
	}
	for _, l := range all {
		if err := limit(l.of, l.n); err != nil {
			return fmt.Errorf("%s: %w", l.what, err)
		}
	}
	return nil
}
