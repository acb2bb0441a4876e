package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nothingKnown requires unit, cgroup and exe to be withheld.
func nothingKnown(t *testing.T, c Caller) {
	t.Helper()
	for name, read := range map[string]func() (string, bool){"Unit": c.Unit, "Cgroup": c.Cgroup, "Exe": c.Exe} {
		if got, ok := read(); ok || got != "" {
			t.Errorf("%s: got %q, %v; want none", name, got, ok)
		}
	}
}

func TestTheZeroCallerIsNobody(t *testing.T) {
	var c Caller
	if c.Known() || c.UID() != NoID || c.GID() != NoID || c.InGroup(0) || c.InGroup(NoID) || c.Hypothetical() {
		t.Errorf("the zero Caller is somebody: uid %d, gid %d", c.UID(), c.GID())
	}
	if got := c.String(); got != "nobody" {
		t.Errorf("String: got %q", got)
	}
	nothingKnown(t, c)
}

func TestWeKnowOurselves(t *testing.T) {
	l, address := listen(t)
	mine, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	_, c := accept(t, l)
	if int(c.UID()) != os.Getuid() || int(c.GID()) != os.Getgid() || int(c.PID()) != os.Getpid() || c.Hypothetical() || !c.Known() {
		t.Errorf("got %v, want uid %d gid %d pid %d", c, os.Getuid(), os.Getgid(), os.Getpid())
	}
	want, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := c.Exe(); !ok || got != want {
		t.Errorf("Exe: got %q, %v; want %q", got, ok, want)
	}
	if got, ok := c.Cgroup(); !ok || got != cgroupOf("/proc/self") {
		t.Errorf("Cgroup: got %q, %v; want %q", got, ok, cgroupOf("/proc/self"))
	}
	if want := fmt.Sprintf("uid=%d gid=%d pid=%d", os.Getuid(), os.Getgid(), os.Getpid()); !strings.HasPrefix(c.String(), want) {
		t.Errorf("String: got %q, want %q first", c, want)
	}
}

func TestAnotherUIDIsSeenWithItsGroups(t *testing.T) {
	asRoot(t)
	l, address := listen(t)
	other := play(t, playing("connect "+address, 65534))
	_, c := accept(t, l)
	other.line(t)
	if c.UID() != 65534 || c.GID() != 65534 || int(c.PID()) != other.Process.Pid {
		t.Errorf("got %v, want uid and gid 65534, pid %d", c, other.Process.Pid)
	}
	for gid, want := range map[uint32]bool{65534: true, 7: true, 8: true, 0: false, 9: false} {
		if got := c.InGroup(gid); got != want {
			t.Errorf("InGroup(%d): got %v", gid, got)
		}
	}
	if _, ok := c.Exe(); !ok {
		t.Error("Exe: root can read it, got none")
	}
	other.ends(t)
}

func TestManyGroupsAreAllRead(t *testing.T) {
	asRoot(t)
	l, address := listen(t)
	cmd := playing("connect "+address, 65534)
	cmd.SysProcAttr.Credential.Groups = nil
	for gid := uint32(1000); gid < 1500; gid++ {
		cmd.SysProcAttr.Credential.Groups = append(cmd.SysProcAttr.Credential.Groups, gid)
	}
	other := play(t, cmd)
	_, c := accept(t, l)
	if got := len(c.Groups()); got != 500 || !c.InGroup(1499) {
		t.Errorf("Groups: got %d, want 500", got)
	}
	other.ends(t)
}

// A process that is gone before it is looked at may have left its pid to
// another: nothing that rests on the pid is believed.
func TestAProcessThatIsGoneHasOnlyItsUID(t *testing.T) {
	for _, waited := range []bool{true, false} {
		l, address := listen(t)
		other := play(t, playing("leave "+address, os.Getuid()))
		_, _ = io.Copy(io.Discard, other.out) // it has exited when its output ends
		if waited {
			other.ends(t)
		} else {
			zombie(t, other.Process.Pid)
		}
		_, c := accept(t, l)
		if int(c.UID()) != os.Getuid() {
			t.Errorf("waited %v: got uid %d, want ours", waited, c.UID())
		}
		nothingKnown(t, c)
		if !waited {
			other.ends(t)
		}
	}
}

// The pid that the kernel told at connect means another process by now: here,
// by a lie of the test, this one, which is alive and easy to read.
func TestAPidThatWasUsedAgainIsNotBelieved(t *testing.T) {
	l, address := listen(t)
	other := play(t, playing("leave "+address, os.Getuid()))
	zombie(t, other.Process.Pid)
	conn, _ := accept(t, l)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c := Caller{kind: fromKernel, pid: int32(os.Getpid())}
	if err := raw.Control(func(fd uintptr) { c.readProcess(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	nothingKnown(t, c)
	if text := c.describe(); strings.Contains(text, "exe=") || strings.Contains(text, "unit=") {
		t.Errorf("String: got %q, want no unit and no exe", text)
	}
	other.ends(t)
}

// zombie waits until the process has exited, and leaves it unwaited for.
func zombie(t *testing.T, pid int) {
	t.Helper()
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
}

func TestAPassedConnectionIsTheConnectorsAlone(t *testing.T) {
	asRoot(t)
	l, address := listen(t)
	giver := play(t, playing("pass "+address, os.Getuid()))
	conn, c := accept(t, l)
	giver.line(t)
	said, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || said != "uid 65534\n" {
		t.Fatalf("the heir said %q, %v", said, err)
	}
	if _, ok := c.Exe(); !ok || c.UID() != 0 || int(c.PID()) != giver.Process.Pid {
		t.Fatalf("before: got %v, want the giver, with its exe", c)
	}
	before := c.String()
	giver.ends(t)
	if c.UID() != 0 || c.String() != before {
		t.Errorf("after: got %v, want %q", c, before)
	}
	nothingKnown(t, c)
	// Seen anew, it is still the giver's connection and the giver is gone.
	again, err := FromConn(conn)
	if err != nil || again.UID() != 0 {
		t.Errorf("seen anew: got %v, %v; want uid 0", again, err)
	}
	nothingKnown(t, again)
}

func TestAnotherPidNamespaceIsNotLookedUp(t *testing.T) {
	asRoot(t)
	_, address := listen(t)
	cmd := playing("serve "+address+"-inner", os.Getuid())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	inner := play(t, cmd)
	inner.line(t)
	mine, err := net.Dial("unix", address+"-inner")
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	if got, want := inner.line(t), "uid=0 gid=0 pid=0 false false false <nil>"; got != want {
		t.Errorf("from inside: got %q, want %q", got, want)
	}
	inner.ends(t)
}

func TestAFalsePathIsNotBelieved(t *testing.T) {
	asRoot(t)
	l, address := listen(t)
	cmd := playing("disguise "+address, os.Getuid())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	other := play(t, cmd)
	_, c := accept(t, l)
	claims, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", other.Process.Pid))
	if err != nil || claims != "/usr/bin/env" {
		t.Fatalf("the disguise itself: got %q, %v", claims, err)
	}
	if got, ok := c.Exe(); ok {
		t.Errorf("Exe: got %q, want none", got)
	}
	other.line(t)
	other.ends(t)
}

func TestADeletedExecutableIsNotNamed(t *testing.T) {
	l, address := listen(t)
	copied := filepath.Join(t.TempDir(), "tool")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, self, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := playing("connect "+address, os.Getuid())
	cmd.Path = copied
	other := play(t, cmd)
	other.line(t)
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	_, c := accept(t, l)
	if got, ok := c.Exe(); ok {
		t.Errorf("Exe: got %q, want none", got)
	}
	other.ends(t)
}

func TestWithoutAPidfdNothingIsLookedUp(t *testing.T) {
	c := Caller{kind: fromKernel, pid: int32(os.Getpid())}
	c.readProcess(-1) // as before Linux 6.5: there is no pidfd to be had
	nothingKnown(t, c)
}

func TestOtherSocketsAreRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c, err := fromSyscallConn(conn.(*net.TCPConn)); !errors.Is(err, ErrNotLocal) || c.Known() {
		t.Errorf("TCP: got %v, %v; want ErrNotLocal", c, err)
	}
}

func TestHypotheticalCallersSayWhatTheyAre(t *testing.T) {
	c := Hypothetical(1000, 100, "build.service", `/opt/a b"`)
	if !c.Hypothetical() || !c.Known() || c.UID() != 1000 || !c.InGroup(100) {
		t.Errorf("got %v", c)
	}
	if got, ok := c.Unit(); !ok || got != "build.service" {
		t.Errorf("Unit: got %q, %v", got, ok)
	}
	if got, want := c.String(), `hypothetical uid=1000 gid=100 pid=0 unit=build.service exe="/opt/a b\""`; got != want {
		t.Errorf("String: got %s, want %s", got, want)
	}
	nothingKnown(t, Hypothetical(1, 1, "", ""))
}

func TestTheHostCanDoWhatTheTestsNeed(t *testing.T) {
	if err := CanPin(); err != nil {
		t.Error(err)
	}
	if err := CanReadExe(); (err != nil) != (os.Getuid() != 0) {
		t.Errorf("CanReadExe as uid %d: got %v", os.Getuid(), err)
	}
}
