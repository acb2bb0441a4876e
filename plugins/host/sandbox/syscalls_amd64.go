package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	lowHalf   = 0 // of an argument: the machine is little endian
)

// issuerCallsOfArch are the older forms of calls that issuerCalls has.
var issuerCallsOfArch = []uint32{
	unix.SYS_ARCH_PRCTL, unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_GETDENTS, unix.SYS_UNLINK,
	unix.SYS_DUP2, unix.SYS_PIPE, unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD,
	unix.SYS_TIME, unix.SYS_GETRLIMIT, unix.SYS_PAUSE, unix.SYS_ALARM, unix.SYS_GETPGRP,
}

// deniedCallsOfArch are the older forms of calls that deniedCalls has.
var deniedCallsOfArch = []uint32{
	unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT,
	unix.SYS_LINK, unix.SYS_SYMLINK, unix.SYS_MKNOD, unix.SYS_MKDIR, unix.SYS_RENAME, unix.SYS_RENAMEAT,
	unix.SYS_MODIFY_LDT, unix.SYS_IOPL, unix.SYS_IOPERM,
}
