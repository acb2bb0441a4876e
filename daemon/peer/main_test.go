package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary plays the callers too: SIGNET_ROLE says which.
func TestMain(m *testing.M) {
	role, ok := os.LookupEnv("SIGNET_ROLE")
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	name, arg, _ := strings.Cut(role, " ")
	roles := map[string]func(string) error{
		"connect": connectAndWait, "leave": connectAndLeave, "pass": connectAndPass, "receive": receive,
		"serve": serveOne, "disguise": disguise,
	}
	if err := roles[name](arg); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
}

// connectAndWait connects, says so, and stays until its input ends.
func connectAndWait(address string) error {
	conn, err := net.Dial("unix", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Println("connected")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func connectAndLeave(address string) error {
	_, err := net.Dial("unix", address)
	return err
}

// connectAndPass connects, hands the connection over to a process of another
// uid and exits, while that process lives on.
func connectAndPass(address string) error {
	conn, err := net.Dial("unix", address)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	heir := playing("receive", 65534)
	heir.ExtraFiles = []*os.File{os.NewFile(uintptr(pair[1]), "pair")}
	if err := heir.Start(); err != nil {
		return err
	}
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(int(file.Fd())), nil, 0); err != nil {
		return err
	}
	fmt.Println("connected")
	_, err = io.Copy(io.Discard, os.Stdin) // the server decides when the giver goes
	return err
}

// receive takes a connection from descriptor 3 and speaks on it as its own.
func receive(string) error {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(3, make([]byte, 1), oob, 0)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	conn := os.NewFile(uintptr(fds[0]), "conn")
	fmt.Fprintf(conn, "uid %d\n", os.Getuid())
	_, err = io.Copy(io.Discard, conn)
	return err
}

// serveOne listens itself and says what it sees of the first caller.
func serveOne(address string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return err
	}
	fmt.Println("listening")
	conn, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	c, err := FromConn(conn)
	_, unit := c.Unit()
	_, cgroup := c.Cgroup()
	_, exe := c.Exe()
	fmt.Println(c, unit, cgroup, exe, err)
	return nil
}

// disguise puts this very file where another is, in a mount namespace of its
// own, and goes on as that other one.
func disguise(address string) error {
	const mask = "/usr/bin/env"
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// Not by the link itself, which leads into the namespace we came from.
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := unix.Mount(self, mask, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return syscall.Exec(mask, []string{mask}, []string{"SIGNET_ROLE=connect " + address, "GORACE=atexit_sleep_ms=0"})
}

// playing prepares another process in a role, with the given uid.
func playing(role string, uid int) *exec.Cmd {
	// By this link even a uid that can't enter the directory may execute it.
	cmd := exec.Command("/proc/self/exe")
	// The race detector makes each process wait a second before it ends.
	cmd.Env = []string{"SIGNET_ROLE=" + role, "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = os.Stderr
	if uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: []uint32{7, 8}}}
	}
	return cmd
}

// A player is a running role; it ends when its input does.
type player struct {
	*exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func play(t *testing.T, cmd *exec.Cmd) player {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("no namespaces of our own here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), cmd.Process.Kill() })
	return player{cmd, in, bufio.NewReader(out)}
}

// line waits for the player to say something.
func (p player) line(t *testing.T) string {
	t.Helper()
	text, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the other process said %q, %v", text, err)
	}
	return strings.TrimSuffix(text, "\n")
}

// ends lets the player go and waits until it is gone.
func (p player) ends(t *testing.T) {
	t.Helper()
	_ = p.in.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

// listen makes a socket that every uid can reach: it is in no directory.
func listen(t *testing.T) (*net.UnixListener, string) {
	t.Helper()
	address := "@signet-peer-" + filepath.Base(t.TempDir()) + "-" + fmt.Sprint(os.Getpid()) + "-" + t.Name()
	address = strings.ReplaceAll(address, "/", "-")
	address = address[:min(len(address), 100)]
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	// If the other process fails there is nobody to accept.
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, address
}

func accept(t *testing.T, l *net.UnixListener) (*net.UnixConn, Caller) {
	t.Helper()
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c, err := FromConn(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, c
}

// asRoot skips where other uids and namespaces can't be had; the suite is also
// run as root.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to play other uids")
	}
}
