package daemon

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins/host/sandbox"
)

// A Finding is one thing that this machine has for the daemon, or lacks.
type Finding struct {
	Name   string `json:"name"`
	Has    bool   `json:"has"`
	Needed bool   `json:"needed"` // without it the daemon does not start, unless the configuration accepts that
	Detail string `json:"detail"`
	Means  string `json:"means,omitempty"` // what it is to lack it
}

// leastMemlock is room for the pages that hold a secret, in bytes.
const leastMemlock = 64 << 10

// Examine says what this machine, and this user on it, have for the daemon.
func Examine() []Finding {
	k := sandbox.Probe()
	pin, exe, group, uids := peer.CanPin(), peer.CanReadExe(), hasDelegation(), sandbox.MayChangeUIDs()
	secret, locked := hasMemfdSecret(), hasMemlock()
	return []Finding{
		{"seccomp", k.Seccomp == nil, true, detail(k.Seccomp, "filters"),
			"issuers may make any system call: connect, fork, look into processes of their user. accept_missing: [seccomp] does without"},
		{"landlock", k.Landlock > 0, true, fmt.Sprintf("ABI %d", k.Landlock),
			"issuers may open every file that the daemon's user may. accept_missing: [landlock] does without"},
		{"landlock scopes", k.Landlock >= 6, false, fmt.Sprintf("ABI %d (from 6 on)", k.Landlock),
			"a back-end's process may signal others of its user, and connect to abstract sockets"},
		{"SO_PEERPIDFD", pin == nil, false, detail(pin, "Linux 6.5 or later"), "rules about unit, cgroup and exe deny everybody"},
		{"callers' executables", exe == nil, false, detail(exe, "CAP_SYS_PTRACE"), "rules about exe deny callers of another uid"},
		{"own uids", uids == nil, false, detail(uids, "CAP_SETUID, CAP_SETGID, CAP_KILL"), "issuers.uids is refused; plug-ins share the daemon's uid"},
		{"cgroup", group == nil, false, detail(group, "delegated"), "a plug-in's memory is bounded by RLIMIT_DATA alone, and its threads by nothing, unless it has its own uid"},
		{"memfd_secret", secret == nil, false, detail(secret, "available"), "a secret is in a locked page, which root's tools and a hibernated machine's disk may show"},
		{"locked memory", locked == nil, false, detail(locked, "enough"), "a secret may be written to swap"},
		{"user", os.Geteuid() != 0, false, fmt.Sprintf("uid %d", os.Geteuid()), "as root, what the daemon gives away is root's: run it as a user of its own"},
	}
}

// detail is what there is, or the first line of why there is not.
func detail(missing error, there string) string {
	if missing == nil {
		return there
	}
	first, _, _ := strings.Cut(missing.Error(), "\n")
	return first
}

func hasDelegation() error {
	_, err := delegated(cgroupRoot, "/proc/self/cgroup")
	return err
}

func hasMemfdSecret() error {
	fd, err := unix.MemfdSecret(0)
	if err != nil {
		return fmt.Errorf("memfd_secret: %w", err)
	}
	return unix.Close(fd)
}

func hasMemlock() error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		return err
	}
	if r.Cur < leastMemlock {
		return fmt.Errorf("RLIMIT_MEMLOCK is %d bytes, %d are needed", r.Cur, leastMemlock)
	}
	return nil
}
