package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// launcherFD is where a launcher finds its connection to the daemon.
const launcherFD = 3

// launcherCaps are the capabilities that a launcher keeps: to take another uid
// and gid, and to end what has one.
var launcherCaps = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL}

// ErrNoCaps says that this process may not have a launcher.
var ErrNoCaps = errors.New("no right to change uids")

// Part starts a launcher for uids from first to last, gives it the right to
// change uids, gives that right up for good, and becomes the same program
// again: exec is what takes it from every thread. It returns only if it fails.
// The new program finds the connection by [Launcher]. launch is the launcher's
// argv, without the two uids.
func Part(launch []string, first, last uint32) error {
	fd, err := startLauncher(launch, first, last)
	if err != nil {
		return err
	}
	return becomeWithout(fd)
}

// startLauncher returns our end of the connection.
func startLauncher(launch []string, first, last uint32) (fd int, err error) {
	if err := MayChangeUIDs(); err != nil {
		return 0, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("sandbox: socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "launcher")
	defer theirs.Close() //nolint:errcheck // the launcher has its own
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close() //nolint:errcheck // opened for reading
	argv := append(append([]string{}, launch...), strconv.FormatUint(uint64(first), 10), strconv.FormatUint(uint64(last), 10))
	_, err = os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{null, os.Stderr, os.Stderr, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true, AmbientCaps: launcherCaps},
	})
	if err != nil {
		return 0, fmt.Errorf("sandbox: launcher: %w", err)
	}
	return pair[0], nil
}

// becomeWithout gives up launcherCaps and becomes the same program again.
func becomeWithout(fd int) error {
	lockThread()
	if err := keepCapabilities(func(c uintptr) bool {
		return c != unix.CAP_SETUID && c != unix.CAP_SETGID && c != unix.CAP_KILL && c != unix.CAP_SETPCAP
	}); err != nil {
		return err
	}
	// A binary with file capabilities, or root, would have them back by exec.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return err
	}
	env := append(os.Environ(), launcherEnv+"="+strconv.Itoa(fd))
	return fmt.Errorf("sandbox: exec: %w", unix.Exec("/proc/self/exe", os.Args, env))
}

// launcherEnv names the descriptor of the connection to the launcher.
const launcherEnv = "SIGNET_LAUNCHER_FD"

// HasLauncher is whether Part has left a launcher to this program.
func HasLauncher() bool { return os.Getenv(launcherEnv) != "" }

// Launcher is the connection that Part left to this program, nil if it left none.
func Launcher() (*net.UnixConn, error) {
	text := os.Getenv(launcherEnv)
	if text == "" {
		return nil, nil //nolint:nilnil // none is no error
	}
	if err := os.Unsetenv(launcherEnv); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %s: %w", launcherEnv, err)
	}
	return connOf(fd)
}

func connOf(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "launcher")
	defer f.Close() //nolint:errcheck // the connection has its own
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("sandbox: launcher: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("sandbox: launcher: %s is no unix socket", conn.LocalAddr().Network())
	}
	return u, nil
}

// MayChangeUIDs is ErrNoCaps for a process without launcherCaps.
func MayChangeUIDs() error {
	sets, err := capabilities()
	if err != nil {
		return err
	}
	for _, c := range launcherCaps {
		if sets[c/32].Effective&(1<<(c%32)) == 0 {
			return fmt.Errorf("sandbox: %w: CAP_SETUID, CAP_SETGID and CAP_KILL are needed", ErrNoCaps)
		}
	}
	return nil
}

// Launch is a launcher's life: it starts processes for the daemon at the other
// end of descriptor 3, each with a uid from first to last, until that goes away.
func Launch(first, last uint32) error {
	lockThread()
	if err := keepLauncherCaps(); err != nil {
		return err
	}
	if err := errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), limit(unix.RLIMIT_CORE, 0)); err != nil {
		return err
	}
	conn, err := connOf(launcherFD)
	if err != nil {
		return err
	}
	l := &launcher{conn: conn, first: first, last: last, live: map[int]*Child{}}
	for {
		m, files, err := receive(conn)
		if err != nil {
			return nil //nolint:nilerr // the daemon is gone, and what it started goes with us
		}
		l.obey(m, files)
	}
}

// keepLauncherCaps gives up all other capabilities, and becomes the same program
// again if there were any: other threads would keep them.
func keepLauncherCaps() error {
	before, err := capabilities()
	if err != nil {
		return err
	}
	if err := keepCapabilities(func(c uintptr) bool {
		return c == unix.CAP_SETUID || c == unix.CAP_SETGID || c == unix.CAP_KILL
	}); err != nil {
		return err
	}
	after, err := capabilities()
	if err != nil {
		return err
	}
	privs, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || privs == 1 && before == after {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return fmt.Errorf("sandbox: exec: %w", unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}

type launcher struct {
	conn        *net.UnixConn
	first, last uint32
	mu          sync.Mutex
	live        map[int]*Child
}

// obey starts or kills one process. It runs on the thread that lives as long as
// the launcher: the kernel ends a child with the thread that started it.
func (l *launcher) obey(m letter, files []*os.File) {
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if m.Kill {
		l.mu.Lock()
		child := l.live[m.PID]
		l.mu.Unlock()
		if child != nil {
			child.Kill()
		}
		return
	}
	child, err := l.start(m, files)
	answer := letter{ID: m.ID}
	if err != nil {
		answer.Error = err.Error()
	} else {
		answer.PID = child.PID()
	}
	_ = send(l.conn, answer)
	if child != nil {
		go l.await(child)
	}
}

func (l *launcher) start(m letter, files []*os.File) (*Child, error) {
	if m.Confine == nil || len(files) != 4 {
		return nil, errors.New("not a process to start")
	}
	if uid := m.Confine.UID; uid < l.first || uid > l.last || uid == 0 || int(uid) == os.Getuid() {
		return nil, fmt.Errorf("uid %d is not from %d to %d", uid, l.first, l.last)
	}
	child, err := start(Command{
		Stdout: files[0], Stderr: files[1], Trampoline: files[2], Target: files[3],
		LaunchArgs: m.Launch, Args: m.Args, Env: m.Env, Confine: *m.Confine,
	}, nil)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live[child.PID()] = child
	return child, nil
}

// await tells the daemon of a process's end.
func (l *launcher) await(c *Child) {
	how := c.How()
	l.mu.Lock()
	delete(l.live, c.PID())
	l.mu.Unlock()
	_ = send(l.conn, letter{PID: c.PID(), How: how})
}
