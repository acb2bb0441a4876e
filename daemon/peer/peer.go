// Package peer says who is at the other end of a unix socket, as the kernel
// tells it: never as the caller does.
//
// Only this package makes a [Caller]. Identity is uid, gid and groups, and the
// systemd unit or cgroup; the executable only ever narrows what those allow,
// since a process may connect first and execute something else afterwards.
package peer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	grpcpeer "google.golang.org/grpc/peer"
)

// NoID is the uid and gid of nobody: (uid_t)-1, which no process can have. It
// keeps a forgotten check from taking nobody for root.
const NoID uint32 = math.MaxUint32

// kind says where a Caller comes from. Its zero value is nobody.
type kind uint8

const (
	nobody kind = iota
	fromKernel
	hypothetical
)

// A Caller is one process that connected. The zero Caller is nobody. What the
// kernel did not tell is absent, and a rule that asks for it must deny.
type Caller struct {
	kind     kind
	uid, gid uint32
	pid      int32 // 0: in another pid namespace, or hypothetical
	groups   []uint32
	unit     string
	cgroup   string
	exe      string
	pin      *pin   // alive as long as the process that connected
	text     string // String is asked for with every request
}

// Known reports whether there is anybody at all, hypothetical or not.
func (c Caller) Known() bool { return c.kind != nobody }

// Hypothetical reports whether the caller was made up by [Hypothetical].
// Nothing may be signed for such a caller.
func (c Caller) Hypothetical() bool { return c.kind == hypothetical }

// UID is the effective uid at the time of connect, [NoID] for nobody.
func (c Caller) UID() uint32 {
	if !c.Known() {
		return NoID
	}
	return c.uid
}

// GID is the effective gid at the time of connect, [NoID] for nobody.
func (c Caller) GID() uint32 {
	if !c.Known() {
		return NoID
	}
	return c.gid
}

// Groups are the supplementary groups at the time of connect.
func (c Caller) Groups() []uint32 { return slices.Clone(c.groups) }

// InGroup reports whether gid is the caller's own or a supplementary group.
func (c Caller) InGroup(gid uint32) bool {
	return c.Known() && gid != NoID && (c.gid == gid || slices.Contains(c.groups, gid))
}

// PID is for logs: decisions never rest on it, since pids are used again.
func (c Caller) PID() int32 { return c.pid }

// Unit is the systemd unit, if it could be read and the process that
// connected is still alive. A unit of a user's own manager is named with the
// manager, "user@1000.service/build.service": any user can start a unit of any
// name there, so the short name says nothing.
func (c Caller) Unit() (string, bool) { return c.pinned(c.unit) }

// Cgroup is the control group's path, on the same terms as [Caller.Unit].
func (c Caller) Cgroup() (string, bool) { return c.pinned(c.cgroup) }

// Exe is the executable's path, on the same terms as [Caller.Unit]. To read
// another uid's the daemon needs CAP_SYS_PTRACE.
func (c Caller) Exe() (string, bool) { return c.pinned(c.exe) }

// pinned withholds what was read about a process that is gone: whoever holds
// its connection now is another.
func (c Caller) pinned(value string) (string, bool) {
	if value == "" || c.kind == fromKernel && !c.pin.alive() {
		return "", false
	}
	return value, true
}

// String names the caller for logs and the ledger, with what was known when it
// connected.
func (c Caller) String() string {
	if !c.Known() {
		return "nobody"
	}
	return c.text
}

// describe makes what String returns.
func (c Caller) describe() string {
	var b strings.Builder
	if c.Hypothetical() {
		b.WriteString("hypothetical ")
	}
	fmt.Fprintf(&b, "uid=%d gid=%d pid=%d", c.uid, c.gid, c.pid)
	for _, f := range []struct{ name, value string }{{"unit", c.unit}, {"exe", c.exe}} {
		if f.value != "" {
			b.WriteString(" " + f.name + "=" + plain(f.value))
		}
	}
	return b.String()
}

// plain quotes what could be mistaken for another field: both names are
// chosen by whoever made the unit or the file.
func plain(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' || r == '=' }
	if strings.ContainsFunc(s, odd) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// Hypothetical makes up a caller, to explain what policy would say to it.
// Empty unit and exe mean that they can't be read.
func Hypothetical(uid, gid uint32, unit, exe string) Caller {
	c := Caller{kind: hypothetical, uid: uid, gid: gid, unit: unit, exe: exe}
	c.text = c.describe()
	return c
}

// FromContext returns the caller of a gRPC request whose server uses
// [Credentials], and false for any other.
func FromContext(ctx context.Context) (Caller, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return Caller{}, false
	}
	info, ok := p.AuthInfo.(Info)
	return info.Caller, ok && info.Caller.kind == fromKernel
}
