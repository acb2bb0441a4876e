package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// issuerList is what an issuer may do, in whichever language: compute, look at
// the clock, start threads, and answer whoever reaches its socket. The rest is
// not there. pid is its own process id, which exec keeps.
func issuerList(pid uint32) list {
	return list{
		allowed: slices.Concat(issuerCalls, issuerCallsOfArch),
		denied:  slices.Concat(deniedCalls, deniedCallsOfArch, deniedToBackends),
		checked: []call{
			// A thread, and neither a process nor a namespace.
			{nr: unix.SYS_CLONE, checks: []check{{0, unix.CLONE_THREAD | newNamespaces, []uint32{unix.CLONE_THREAD}}}},
			// Its flags are in memory, where no filter reads: C libraries then use clone.
			{nr: unix.SYS_CLONE3, checks: never, errno: unix.ENOSYS},
			{nr: unix.SYS_SOCKET, checks: streamSocket, errno: unix.EAFNOSUPPORT},
			// A datagram pair could send to any address.
			{nr: unix.SYS_SOCKETPAIR, checks: streamSocket, errno: unix.EAFNOSUPPORT},
			{nr: unix.SYS_KILL, checks: []check{is(0, pid)}},
			{nr: unix.SYS_TGKILL, checks: []check{is(0, pid)}},
			{nr: unix.SYS_PRLIMIT64, checks: []check{is(0, 0, pid)}},
			{nr: unix.SYS_SCHED_GETAFFINITY, checks: []check{is(0, 0, pid)}},
			// No F_SETOWN and F_SETSIG: they send signals.
			{nr: unix.SYS_FCNTL, checks: []check{is(1, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD,
				unix.F_GETFL, unix.F_SETFL, unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_GET_SEALS, unix.F_GETPIPE_SZ)}},
			{nr: unix.SYS_IOCTL, checks: []check{is(1, unix.TCGETS, unix.TIOCGWINSZ, unix.TIOCINQ, fionbio, fioclex, fionclex)}, errno: unix.ENOTTY},
			// No PR_SET_PDEATHSIG: it dies with the daemon.
			{nr: unix.SYS_PRCTL, checks: []check{is(0, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_DUMPABLE, unix.PR_GET_DUMPABLE,
				unix.PR_SET_VMA, unix.PR_GET_PDEATHSIG, unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP,
				unix.PR_CAPBSET_READ, unix.PR_SET_TIMERSLACK, unix.PR_SET_THP_DISABLE, unix.PR_GET_THP_DISABLE)}, errno: unix.EINVAL},
		},
		// Not EPERM: a library that tries a newer call falls back to an older one.
		otherwise: refuse(unix.ENOSYS),
	}
}

// Of ioctl(2), by the numbers that all our machines have (asm-generic/ioctls.h).
const (
	fionbio  = 0x5421
	fionclex = 0x5450
	fioclex  = 0x5451
)

// newNamespaces are clone's flags that no plug-in may use.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_PTRACE | unix.CLONE_UNTRACED

// streamSocket is a unix socket that is connected before anything is sent.
var streamSocket = []check{is(0, unix.AF_UNIX), {1, all32 &^ (unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK), []uint32{unix.SOCK_STREAM}}, is(2, 0)}

// never holds for no argument.
var never = []check{{0, 0, []uint32{1}}}

// backendList is what the process of a vendor's library may do: all but what
// reaches into other processes, the kernel, or a network that it does not need.
func backendList(network bool) list {
	families := []uint32{unix.AF_UNIX}
	if network {
		// AF_NETLINK is how a C library asks which addresses there are.
		families = append(families, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK)
	}
	return list{
		denied: deniedToBackends,
		checked: []call{
			{nr: unix.SYS_CLONE, checks: []check{{0, newNamespaces, []uint32{0}}}},
			{nr: unix.SYS_CLONE3, checks: never, errno: unix.ENOSYS},
			{nr: unix.SYS_SOCKET, checks: []check{is(0, families...)}, errno: unix.EAFNOSUPPORT},
			{nr: unix.SYS_SOCKETPAIR, checks: []check{is(0, unix.AF_UNIX)}, errno: unix.EAFNOSUPPORT},
			{nr: unix.SYS_PRLIMIT64, checks: []check{is(0, 0)}},
			{nr: unix.SYS_PRCTL, checks: []check{{0, all32, backendPrctls}}, errno: unix.EINVAL},
		},
		otherwise: unix.SECCOMP_RET_ALLOW,
	}
}

// backendPrctls are all but those that loosen what holds the process.
var backendPrctls = []uint32{
	unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_DUMPABLE, unix.PR_GET_DUMPABLE, unix.PR_SET_VMA, unix.PR_GET_PDEATHSIG,
	unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_CAPBSET_READ, unix.PR_SET_TIMERSLACK,
	unix.PR_SET_THP_DISABLE, unix.PR_GET_THP_DISABLE, unix.PR_GET_KEEPCAPS, unix.PR_GET_SECUREBITS, unix.PR_CAP_AMBIENT,
}

// deniedToBackends reach into other processes, the kernel, namespaces, or the
// keys of the user. They are denied to everybody.
var deniedToBackends = []uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
	unix.SYS_KCMP, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT,
	unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_PERSONALITY,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL,
	unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_RT_SIGQUEUEINFO,
}

// deniedCalls are answered to an issuer with a plain no.
var deniedCalls = []uint32{
	unix.SYS_CONNECT, unix.SYS_EXECVEAT, unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_TKILL,
	// Landlock knows nothing of these: they work on any file of the same user.
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_TRUNCATE, unix.SYS_LINKAT,
	unix.SYS_SYMLINKAT, unix.SYS_MKNODAT, unix.SYS_MKDIRAT, unix.SYS_RENAMEAT2,
	// And of these: they work on any process of the same user.
	unix.SYS_SETPRIORITY, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETATTR, unix.SYS_SCHED_SETPARAM, unix.SYS_IOPRIO_SET,
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMCTL, unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN,
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET,
}

// issuerCalls are what Go, C, Python and Node need to serve one socket.
var issuerCalls = []uint32{
	// Waiting, threads and memory.
	unix.SYS_FUTEX, unix.SYS_FUTEX_WAITV, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_EVENTFD2,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME, unix.SYS_MEMBARRIER, unix.SYS_RSEQ,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS, unix.SYS_RESTART_SYSCALL,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
	unix.SYS_MLOCK, unix.SYS_MUNLOCK, unix.SYS_PKEY_ALLOC, unix.SYS_PKEY_FREE, unix.SYS_PKEY_MPROTECT, unix.SYS_MSEAL,
	// The connection.
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SENDTO, unix.SYS_SENDMSG,
	unix.SYS_RECVMMSG, unix.SYS_SENDMMSG, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	// Files, of which Landlock says which there are.
	unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_LSEEK, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_GETCWD, unix.SYS_UNLINKAT,
	unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_FLOCK, unix.SYS_FSYNC, unix.SYS_FADVISE64,
	// Signals, to itself.
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_SIGSUSPEND,
	unix.SYS_RT_SIGPENDING, unix.SYS_SIGALTSTACK, unix.SYS_SIGNALFD4, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_WAIT4, unix.SYS_WAITID,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_DELETE, unix.SYS_TIMER_GETOVERRUN, unix.SYS_SETITIMER, unix.SYS_GETITIMER,
	// The clock, chance, and what it is itself.
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_GETRANDOM,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID, unix.SYS_GETPGID, unix.SYS_GETSID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_GETRESUID, unix.SYS_GETRESGID, unix.SYS_GETGROUPS, unix.SYS_CAPGET, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_GETPRIORITY,
	unix.SYS_GETCPU, unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER, unix.SYS_SCHED_GET_PRIORITY_MAX, unix.SYS_SCHED_GET_PRIORITY_MIN, unix.SYS_UMASK,
	// How the trampoline becomes the target. Landlock leaves it nothing else to execute.
	unix.SYS_EXECVE,
}
