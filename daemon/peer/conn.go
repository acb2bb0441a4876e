package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotLocal says that a connection is not a unix socket, so that the kernel
// can't say who is at its other end.
var ErrNotLocal = errors.New("not a unix socket")

// FromConn asks the kernel who connected. An error means that not even the uid
// could be read; anything less is merely absent from the Caller.
func FromConn(conn *net.UnixConn) (Caller, error) {
	return fromSyscallConn(conn)
}

func fromSyscallConn(conn syscall.Conn) (Caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Caller{}, fmt.Errorf("peer: %w", err)
	}
	var c Caller
	var failed error
	if err := raw.Control(func(fd uintptr) { c, failed = fromSocket(int(fd)) }); err != nil {
		return Caller{}, fmt.Errorf("peer: %w", err)
	}
	return c, failed
}

// fromSocket reads everything once, at the handshake.
func fromSocket(fd int) (Caller, error) {
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return Caller{}, fmt.Errorf("peer: %w", ErrNotLocal)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Caller{}, fmt.Errorf("peer: SO_PEERCRED: %w", err)
	}
	if cred.Uid == NoID || cred.Gid == NoID {
		return Caller{}, fmt.Errorf("peer: the kernel does not know who connected: %w", ErrNotLocal)
	}
	c := Caller{kind: fromKernel, uid: cred.Uid, gid: cred.Gid, pid: cred.Pid, groups: groupsOf(fd)}
	c.readProcess(fd)
	c.text = c.describe()
	return c, nil
}

// readProcess fills in what /proc says about the process that connected. The
// pidfd is taken first and asked last: if the process is alive at the end, its
// pid meant this very process all the time.
func (c *Caller) readProcess(fd int) {
	if c.pid <= 0 {
		return // in another pid namespace: our /proc does not show it
	}
	pin := pinOf(fd)
	if pin == nil {
		return
	}
	proc := "/proc/" + strconv.Itoa(int(c.pid))
	cgroup := cgroupOf(proc)
	exe := exeOf(proc)
	if !pin.alive() {
		pin.close()
		return
	}
	c.pin, c.cgroup, c.unit, c.exe = pin, cgroup, unitOf(cgroup), exe
}

func cgroupOf(proc string) string {
	data, err := os.ReadFile(proc + "/cgroup") //nolint:gosec // proc is "/proc/" and a number
	if err != nil {
		return ""
	}
	return parseCgroup(string(data))
}

// exeOf returns the path of the executable, if that path means the same file
// here. In a mount namespace of its own a process chooses what its path reads
// like; and of a deleted file the name is left, which is anybody's to take.
func exeOf(proc string) string {
	link := proc + "/exe"
	path, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(path, "/") {
		return ""
	}
	runs, err := os.Stat(link)
	if err != nil {
		return ""
	}
	named, err := os.Stat(path)
	if err != nil || !os.SameFile(runs, named) {
		return ""
	}
	return path
}

// A pin holds on to one process, which keeps its pid from meaning another. The
// file closes itself when the last Caller is forgotten.
type pin struct {
	file *os.File
}

// pinOf returns nil before Linux 6.5 and for a process that is gone already.
func pinOf(fd int) *pin {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return nil
	}
	return &pin{os.NewFile(uintptr(pidfd), "pidfd")}
}

// alive asks by poll and not by signal 0: that counts a process which has
// exited, but which its parent has not yet waited for, as alive.
func (p *pin) alive() bool {
	if p == nil {
		return false
	}
	raw, err := p.file.SyscallConn()
	if err != nil {
		return false
	}
	running := false
	err = raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // descriptors fit
		for {
			n, err := unix.Poll(polled, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			running = err == nil && n == 0
			return
		}
	})
	return err == nil && running
}

func (p *pin) close() {
	if p != nil {
		_ = p.file.Close()
	}
}

// groupsOf returns the supplementary groups, none if the kernel does not say.
// x/sys has no call for an option of variable length.
func groupsOf(fd int) []uint32 {
	const most = 65536 // NGROUPS_MAX
	for room := 32; room <= most; room *= 4 {
		gids := make([]uint32, room)
		size := uint32(len(gids) * 4) //nolint:gosec // at most 256 KiB
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // the kernel writes at most size bytes
		runtime.KeepAlive(gids)
		if errno == 0 {
			return gids[:size/4]
		}
		if errno != unix.ERANGE {
			return nil
		}
	}
	return nil
}
