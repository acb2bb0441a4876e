package sandbox

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A prey is what a hostile process goes for: a daemon of the same user.
type prey struct {
	PID      int
	State    string // its directory, with a file "secret"
	Socket   string // it listens here
	Abstract string // and here
	TCP, UDP string // and here
	Own      string // the one directory of the hostile process
	Cell     uintptr
}

// victim is such a daemon: it can be dumped, so that what keeps a hostile
// process away is the sandbox alone.
func victim() {
	state := os.Args[2]
	cell := []byte("secret in memory")
	p := prey{PID: os.Getpid(), State: state, Socket: filepath.Join(state, "s"), Abstract: fmt.Sprintf("@signet-test-%d", os.Getpid()), Cell: uintptr(unsafe.Pointer(&cell[0]))}
	if err := os.WriteFile(filepath.Join(state, "secret"), []byte("secret"), 0o600); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, name := range []string{p.Socket, p.Abstract} {
		if _, err := net.Listen("unix", name); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	u, err2 := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil || err2 != nil {
		fmt.Println(err, err2)
		os.Exit(1)
	}
	p.TCP, p.UDP = l.Addr().String(), u.LocalAddr().String()
	_ = json.NewEncoder(os.Stdout).Encode(p)
	time.Sleep(time.Hour)
	runtime.KeepAlive(cell)
}

// hostile does deeds by name, and tells how each went: "" if it was done.
func hostile(args []string) {
	var p prey
	if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	done := map[string]string{}
	for _, name := range args[1:] {
		done[name] = ""
		if err := deeds[name](p); err != nil {
			done[name] = err.Error()
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(done)
	os.Exit(0)
}

// sys makes one system call.
func sys(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return nil
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func socket(domain, kind, protocol int) error {
	fd, err := unix.Socket(domain, kind, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func dial(network, address string) error {
	c, err := net.Dial(network, address)
	if err == nil {
		c.Close()
	}
	return err
}

func pidfd(p prey) (int, error) { return unix.PidfdOpen(p.PID, 0) }

func proc(p prey, name string) string { return fmt.Sprintf("/proc/%d/%s", p.PID, name) }

// fork makes a process that ends at once.
func forked(nr uintptr, args ...uintptr) error {
	runtime.LockOSThread()
	var a [3]uintptr
	copy(a[:], args)
	pid, _, errno := unix.RawSyscall(nr, a[0], a[1], a[2])
	if errno == 0 && pid == 0 {
		for {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	if errno != 0 {
		return errno
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}

// deeds is everything that it tries. Each returns nil if it worked.
var deeds = map[string]func(prey) error{
	"read the daemon's memory": func(p prey) error {
		f, err := os.Open(proc(p, "mem"))
		if err == nil {
			_, err = f.ReadAt(make([]byte, 6), int64(p.Cell))
		}
		return err
	},
	"read the daemon's environment": func(p prey) error { _, err := os.ReadFile(proc(p, "environ")); return err },
	"list the daemon's descriptors": func(p prey) error { _, err := os.ReadDir(proc(p, "fd")); return err },
	"read the daemon's arguments":   func(p prey) error { _, err := os.ReadFile(proc(p, "cmdline")); return err },
	"ptrace": func(p prey) error {
		runtime.LockOSThread()
		if err := unix.PtraceAttach(p.PID); err != nil {
			return err
		}
		_, _ = unix.Wait4(p.PID, nil, unix.WALL, nil)
		return unix.PtraceDetach(p.PID)
	},
	"process_vm_readv": func(p prey) error {
		b := make([]byte, 6)
		_, err := unix.ProcessVMReadv(p.PID, []unix.Iovec{{Base: &b[0], Len: 6}}, []unix.RemoteIovec{{Base: p.Cell, Len: 6}}, 0)
		return err
	},
	"pidfd_open": func(p prey) error { fd, err := pidfd(p); unix.Close(fd); return err },
	"pidfd_getfd": func(p prey) error {
		fd, err := pidfd(p)
		if err == nil {
			_, err = unix.PidfdGetfd(fd, 1, 0)
		}
		return err
	},
	"pidfd_send_signal": func(p prey) error {
		fd, err := pidfd(p)
		if err == nil {
			err = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
		}
		return err
	},
	"kcmp":                func(p prey) error { return sys(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(p.PID), 1, 0, 0) },
	"kill the daemon":     func(p prey) error { return unix.Kill(p.PID, unix.SIGCONT) },
	"tgkill the daemon":   func(p prey) error { return unix.Tgkill(p.PID, p.PID, unix.SIGCONT) },
	"tkill the daemon":    func(p prey) error { return sys(unix.SYS_TKILL, uintptr(p.PID), uintptr(unix.SIGCONT)) },
	"the daemon's limits": func(p prey) error { return unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{}) },
	"the daemon's nice":   func(p prey) error { return unix.Setpriority(unix.PRIO_PROCESS, p.PID, 5) },
	"the daemon's CPUs": func(p prey) error {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			return err
		}
		return unix.SchedSetaffinity(p.PID, &set)
	},
	"signal by F_SETOWN": func(p prey) error {
		var pair [2]int
		if err := unix.Pipe2(pair[:], 0); err != nil {
			return err
		}
		_, err := unix.FcntlInt(uintptr(pair[0]), unix.F_SETOWN, p.PID)
		return err
	},
	"connect to issue.sock":       func(p prey) error { return dial("unix", p.Socket) },
	"connect to an abstract name": func(p prey) error { return dial("unix", p.Abstract) },
	"connect by TCP":              func(p prey) error { return dial("tcp4", p.TCP) },
	"send by UDP": func(p prey) error {
		c, err := net.Dial("udp4", p.UDP)
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		return err
	},
	"listen by TCP": func(prey) error {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err == nil {
			l.Close()
		}
		return err
	},
	"a MPTCP socket":     func(prey) error { return socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) },
	"a netlink socket":   func(prey) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) },
	"a kernel's cipher":  func(prey) error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
	"a vsock":            func(prey) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"a raw socket":       func(prey) error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"a unix datagram":    func(prey) error { return socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0) },
	"a datagram pair":    func(prey) error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0); return err },
	"read /etc/passwd":   func(prey) error { return open("/etc/passwd", unix.O_RDONLY) },
	"list /":             func(prey) error { _, err := os.ReadDir("/"); return err },
	"read the state":     func(p prey) error { return open(filepath.Join(p.State, "secret"), unix.O_RDONLY) },
	"write the state":    func(p prey) error { return open(filepath.Join(p.State, "secret"), unix.O_WRONLY) },
	"list the state":     func(p prey) error { _, err := os.ReadDir(p.State); return err },
	"truncate the state": func(p prey) error { return unix.Truncate(filepath.Join(p.State, "secret"), 6) },
	"chmod the state":    func(p prey) error { return unix.Fchmodat(unix.AT_FDCWD, p.State, 0o700, 0) },
	"chown the state":    func(p prey) error { return unix.Fchownat(unix.AT_FDCWD, p.State, -1, -1, 0) },
	"touch the state":    func(p prey) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p.State, nil, 0) },
	"xattr of the state": func(p prey) error { return unix.Setxattr(p.State, "user.x", []byte("x"), 0) },
	"link the state":     func(p prey) error { return os.Link(filepath.Join(p.State, "secret"), filepath.Join(p.Own, "link")) },
	"symlink":            func(p prey) error { return os.Symlink("/", filepath.Join(p.Own, "symlink")) },
	"rename": func(p prey) error {
		return os.Rename(filepath.Join(p.State, "secret"), filepath.Join(p.State, "secret"))
	},
	"make a directory": func(p prey) error { return os.Mkdir(filepath.Join(p.Own, "dir"), 0o700) },
	"write in /tmp": func(prey) error {
		name := filepath.Join("/tmp", fmt.Sprintf("signet-hostile-%d", os.Getpid()))
		defer os.Remove(name)
		return open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	},
	"fill its own directory": func(p prey) error {
		name := filepath.Join(p.Own, "full")
		defer os.Remove(name)
		return os.WriteFile(name, make([]byte, 1<<20), 0o600)
	},
	"clone a process": func(prey) error { return forked(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"clone3": func(prey) error {
		args := [8]uint64{4: uint64(unix.SIGCHLD)}
		return forked(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	},
	"a new user namespace by clone": func(prey) error {
		return forked(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_NEWUSER, 0, 0)
	},
	"unshare": func(prey) error { return unix.Unshare(unix.CLONE_NEWUTS) },
	"setns":   func(prey) error { return setns() },
	"execute": func(prey) error { return unix.Exec("/bin/echo", []string{"echo", `{"execute":""}`}, nil) },
	"execute from memory": func(prey) error {
		fd, err := unix.MemfdCreate("x", 0)
		if err != nil {
			return err
		}
		b, err := os.ReadFile("/bin/echo")
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, b); err != nil {
			return err
		}
		return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"echo", `{"execute from memory":""}`}, nil)
	},
	"io_uring": func(prey) error {
		var params [120]byte
		return sys(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)))
	},
	"bpf": func(prey) error {
		attr := [8]uint32{2, 4, 4, 1}
		return sys(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), 32)
	},
	"perf": func(prey) error {
		_, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: 64}, 0, -1, -1, 0)
		return err
	},
	"userfaultfd": func(prey) error { return sys(unix.SYS_USERFAULTFD, 1) },
	"keyctl":      func(prey) error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); return err },
	"add_key": func(prey) error {
		_, err := unix.AddKey("user", "signet-test", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	},
	"mount": func(p prey) error {
		err := unix.Mount("none", p.Own, "tmpfs", 0, "")
		if err == nil {
			unix.Unmount(p.Own, 0)
		}
		return err
	},
	"chroot":             func(prey) error { return unix.Chroot("/") },
	"become root":        func(prey) error { return sys(unix.SYS_SETRESUID, 0, 0, 0) },
	"outlive the daemon": func(prey) error { return unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) },
	"write its own core": func(prey) error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) },
	"shared memory": func(prey) error {
		id, _, errno := unix.Syscall(unix.SYS_SHMGET, 0, 4096, 0o600)
		if errno != 0 {
			return errno
		}
		return sys(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0)
	},
	"a thousand descriptors": func(prey) error {
		for range 1000 {
			fd, err := unix.Dup(1)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
		}
		return nil
	},
	"a gigabyte": func(prey) error {
		b, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err == nil {
			unix.Munmap(b)
		}
		return err
	},
	"use a capability": func(prey) error {
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		if err := unix.Capget(&head, &sets[0]); err != nil {
			return err
		}
		if sets[0].Permitted|sets[1].Permitted|sets[0].Inheritable == 0 {
			return unix.EPERM
		}
		return nil
	},
	// What an issuer needs: it must still be there.
	"listen": func(p prey) error {
		f, err := os.CreateTemp(p.Own, "plugin")
		if err != nil {
			return err
		}
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
		l, err := net.Listen("unix", f.Name())
		if err == nil {
			err = l.Close()
		}
		return err
	},
}

func setns() error {
	f, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		return err
	}
	return unix.Setns(int(f.Fd()), 0)
}

// refusedBy names what refuses in an answer: seccomp says EPERM, ENOSYS or a
// family that is not there, Landlock EACCES, a limit its own.
func refused(answer string) bool {
	for _, e := range []error{unix.EPERM, unix.ENOSYS, unix.EAFNOSUPPORT, unix.EACCES, unix.EMFILE, unix.ENOMEM, unix.EFBIG, unix.EINVAL} {
		if strings.Contains(answer, e.Error()) {
			return true
		}
	}
	return false
}
