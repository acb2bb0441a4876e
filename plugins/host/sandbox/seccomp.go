package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter is assembled here: a rule is a few instructions that end in a
// verdict, so that no rule can be reached from the middle of another. (Of the
// libraries, elastic/go-seccomp-bpf 1.6 compares the number of the next system
// call with the argument of the one before, once an argument did not match.)

// A call is one system call of the list. It is allowed if every check holds.
type call struct {
	nr     uint32
	checks []check
	errno  unix.Errno // if one does not; EPERM if 0
}

// A check compares the low half of an argument, which is all that the kernel
// reads of an int: argument & mask is one of the values.
type check struct {
	arg    uint32
	mask   uint32
	values []uint32
}

const all32 = 0xffffffff

func is(arg uint32, values ...uint32) check { return check{arg, all32, values} }

// Offsets in struct seccomp_data, and the bit of x32's numbers.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
	x32Bit    = 0x40000000
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func verdict(v uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v}
}

func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func refuse(errno unix.Errno) uint32 {
	return unix.SECCOMP_RET_ERRNO | uint32(errno) //nolint:gosec // error numbers are small
}

// A list is a filter before it is assembled.
type list struct {
	denied    []uint32 // answered EPERM, so that who looks sees a refusal
	allowed   []uint32 // whatever the arguments
	checked   []call
	otherwise uint32 // the verdict on everything else
}

// assemble writes the program. A call of another architecture, or by x32's
// numbers, ends the process: its numbers mean other calls.
func (l list) assemble() []unix.SockFilter {
	p := []unix.SockFilter{
		load(offArch), jump(unix.BPF_JEQ, auditArch, 1, 0), verdict(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNumber), jump(unix.BPF_JGE, x32Bit, 0, 1), verdict(unix.SECCOMP_RET_KILL_PROCESS),
	}
	// First what needs no argument: the kernel remembers that it may always pass.
	for _, nr := range l.allowed {
		p = append(p, jump(unix.BPF_JEQ, nr, 0, 1), verdict(unix.SECCOMP_RET_ALLOW))
	}
	for _, nr := range l.denied {
		p = append(p, jump(unix.BPF_JEQ, nr, 0, 1), verdict(refuse(unix.EPERM)))
	}
	for _, c := range l.checked {
		body := c.assemble()
		p = append(p, jump(unix.BPF_JEQ, c.nr, 0, uint8(len(body)))) //nolint:gosec // a test holds every body under 255
		p = append(p, body...)
	}
	return append(p, verdict(l.otherwise))
}

// assemble writes one call's checks, ending in a verdict on every path.
func (c call) assemble() []unix.SockFilter {
	errno := c.errno
	if errno == 0 {
		errno = unix.EPERM
	}
	var p []unix.SockFilter
	for _, k := range c.checks {
		p = append(p, load(offArgs+8*k.arg+lowHalf), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k.mask})
		for i, v := range k.values {
			p = append(p, jump(unix.BPF_JEQ, v, uint8(len(k.values)-i), 0)) //nolint:gosec // few values
		}
		p = append(p, verdict(refuse(errno)))
	}
	return append(p, verdict(unix.SECCOMP_RET_ALLOW))
}

// filter gives up, for this thread and what it becomes, the system calls that
// are not on c's list.
func (c Confinement) filter(pid int) error {
	if err := seccompSupported(); err != nil {
		return c.accepts(Seccomp, err)
	}
	program := issuerList(uint32(pid)).assemble() //nolint:gosec // pids fit
	if c.Backend {
		program = backendList(c.Network).assemble()
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}                                         //nolint:gosec // a test holds it under 4096
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))) //nolint:gosec // the kernel reads it
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// seccompSupported asks for a filter at no address: a kernel that has seccomp
// says that it can't read it.
func seccompSupported() error {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, 0)
	if errno == unix.EFAULT || errno == unix.EACCES {
		return nil
	}
	return errors.Join(errors.New("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"), errno)
}
