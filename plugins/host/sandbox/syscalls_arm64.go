package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	lowHalf   = 0 // of an argument: the machine is little endian
)

// issuerCallsOfArch are calls that other machines name otherwise.
var issuerCallsOfArch = []uint32{unix.SYS_FSTATAT, unix.SYS_GETRLIMIT}

// deniedCallsOfArch are none: this machine has no older forms.
var deniedCallsOfArch = []uint32{unix.SYS_RENAMEAT}
