package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock is spoken here in its own three system calls: they bind one thread,
// the one that calls exec. A library that binds every thread needs libpsx,
// which signals the threads of the daemon's own binary.

// The versions of Landlock that bring what we use (landlock(7)).
const (
	truncateABI = 3
	networkABI  = 4
	devicesABI  = 5
	scopesABI   = 6
	resolveABI  = 9
)

// Rights of Landlock on a file, and on what is below a directory.
const (
	readRights  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	runRights   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	writeRights = readRights | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	// socketRights are what go-plugin's listener does: CreateTemp, Remove, Listen.
	socketRights = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	// onlyOnDirectories can't be given for a file.
	onlyOnDirectories = writeRights&^(readRights|runRights|unix.LANDLOCK_ACCESS_FS_WRITE_FILE|
		unix.LANDLOCK_ACCESS_FS_TRUNCATE|unix.LANDLOCK_ACCESS_FS_IOCTL_DEV) | unix.LANDLOCK_ACCESS_FS_READ_DIR
)

// handled is every right on files that this version of Landlock can take away.
func handled(abi int) uint64 {
	bits := 13 // version 1
	for _, from := range []int{2, truncateABI, devicesABI, resolveABI} {
		if abi >= from {
			bits++
		}
	}
	return 1<<bits - 1
}

// landlockABI is the version of the kernel's Landlock, 0 for none.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

var errNoLandlock = errors.New("the kernel has no Landlock, or it is not enabled (Linux 5.13, lsm=landlock)")

// lockFiles leaves this thread, and what it becomes, the files that c names and
// the target.
func (c Confinement) lockFiles(target string) error {
	abi := landlockABI()
	if abi == 0 {
		return c.accepts(Landlock, errNoLandlock)
	}
	attr := c.attributes(abi)
	if attr == (unix.LandlockRulesetAttr{}) {
		return nil
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), rulesetSize, 0) //nolint:gosec // the kernel reads it
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd)) //nolint:errcheck // nothing is written
	if attr.Handled_access_fs != 0 {
		if err := c.allow(int(fd), attr.Handled_access_fs, target); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}

// rulesetSize is that of the fields of version 6: an older kernel takes it if
// what it does not know is 0.
const rulesetSize = 24

// attributes are what is taken away before any rule gives back.
func (c Confinement) attributes(abi int) unix.LandlockRulesetAttr {
	var attr unix.LandlockRulesetAttr
	if !c.anyFile() {
		attr.Handled_access_fs = handled(abi)
	}
	if c.Backend {
		// A module connects to its vendor's daemon.
		attr.Handled_access_fs &^= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	}
	if abi >= networkABI && !c.Network {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= scopesABI {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// systemPaths are what a back-end that is restricted may read: its vendor's
// library, and what those need.
var systemPaths = []string{"/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/proc", "/sys", "/dev"}

// allow adds the rules. A path of the configuration that is not there is a
// mistake; one of ours may be missing.
func (c Confinement) allow(ruleset int, handled uint64, target string) error {
	rule := func(paths []string, rights uint64, optional bool) error {
		for _, path := range paths {
			err := allowBeneath(ruleset, path, rights&handled)
			if err != nil && (!optional || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
		return nil
	}
	var own, system []string
	if c.Dir != "" {
		own = []string{c.Dir}
	}
	if c.Backend {
		system = systemPaths
	}
	// A sealed copy is in no file system: nothing restricts it, and no rule can name it.
	run := c.Execute
	if to, err := os.Readlink(target); err != nil || !strings.HasPrefix(to, "/memfd:") {
		run = append([]string{target}, run...)
	}
	return errors.Join(
		rule(own, socketRights, false),
		rule(run, runRights, false),
		rule(c.Read, readRights, false),
		rule(c.Write, writeRights, false),
		rule(system, readRights|runRights, true),
		rule([]string{"/dev/null"}, readRights|unix.LANDLOCK_ACCESS_FS_WRITE_FILE, true),
		rule([]string{"/dev/zero", "/dev/random", "/dev/urandom"}, readRights, true),
	)
}

func allowBeneath(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "landlock", Path: path, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is written
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "landlock", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &^= onlyOnDirectories
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)} //nolint:gosec // descriptors fit
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0) //nolint:gosec // the kernel reads it
	if errno != 0 {
		return &fs.PathError{Op: "landlock", Path: path, Err: errno}
	}
	return nil
}
