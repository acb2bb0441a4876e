package peer

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CanPin says why this machine can't hold on to the process that connected;
// rules about unit, cgroup and exe would then deny everybody.
func CanPin() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("peer: socketpair: %w", err)
	}
	defer func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) }()
	p := pinOf(pair[0])
	if p == nil {
		return fmt.Errorf("peer: the kernel has no SO_PEERPIDFD\nhint: use Linux 6.5 or later, or rules by uid and gid only")
	}
	p.close()
	return nil
}

// CanReadExe says why this process can't read the executable of callers of
// another uid; rules about it would deny them all.
func CanReadExe() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("peer: capget: %w", err)
	}
	if sets[0].Effective&(1<<unix.CAP_SYS_PTRACE) == 0 {
		return fmt.Errorf("peer: uid %d can't read another uid's /proc/PID/exe\nhint: AmbientCapabilities=CAP_SYS_PTRACE in the unit, or rules without exe", os.Geteuid())
	}
	return nil
}
