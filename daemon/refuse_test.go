package daemon

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/metrics"
	"github.com/signetd/signet/plugins/host/sandbox"
)

// TestMain lets this binary be its own trampoline and its own plug-ins.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		io.WriteString(os.Stderr, sandbox.Exec(os.Args[2:]).Error())
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "connect" {
		connect(os.Args[2:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// connect says whether the daemon's socket answers, itself or, with a second
// argument, through a process that it forks.
func connect(args []string) {
	if len(args) > 1 {
		c := exec.Command("/proc/self/exe", "connect", args[0])
		c.Stdout = os.Stdout
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: args[1] == "away"}
		_ = c.Run()
		return
	}
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		io.WriteString(os.Stdout, "not connected: "+err.Error())
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	answer, err := io.ReadAll(conn)
	os.Stdout.Write(answer)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		io.WriteString(os.Stdout, err.Error())
	}
}

// door is a daemon of one socket, which says "welcome".
func door(t *testing.T) (*Daemon, string, audit.FileOptions) {
	t.Helper()
	opts := audit.FileOptions{Dir: filepath.Join(t.TempDir(), "ledger")}
	if err := os.Mkdir(opts.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	sink, tail, err := audit.OpenFile(opts)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := audit.Open(sink, audit.Options{Tail: tail, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{cfg: &config.Config{}, log: slog.New(slog.DiscardHandler), metrics: metrics.New("test"), ledger: ledger}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l = d.refuseOwn(l, "issue.sock")
	t.Cleanup(func() { l.Close(); ledger.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "welcome")
			conn.Close()
		}
	}()
	return d, path, opts
}

// asChild has a back-end's process of the daemon connect: an issuer's could not
// even try.
func asChild(t *testing.T, d *Daemon, args ...string) string {
	t.Helper()
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := sandbox.NewStarter(&d.children)
	defer s.Close()
	c, err := s.Start(sandbox.Command{
		Trampoline: exe, LaunchArgs: []string{"signet", "launch", "--"}, Target: exe, Args: append([]string{"x", "connect"}, args...),
		Confine: sandbox.Confinement{Backend: true, Accept: []string{sandbox.Landlock, sandbox.Seccomp}}, Stdout: w, Stderr: w,
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Kill(); <-c.Ended() }()
	answer, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestThePlugInsOfTheDaemonAreRefusedAtItsSockets(t *testing.T) {
	d, path, opts := door(t)
	// The planted fault: a process that is nobody's child is let in.
	out, err := exec.Command("/proc/self/exe", "connect", path).Output()
	if string(out) != "welcome" || err != nil {
		t.Errorf("a stranger: got %q, %v, want welcome", out, err)
	}
	for _, how := range [][]string{{path}, {path, "forked"}, {path, "away"}} {
		if got := asChild(t, d, how...); got != "" {
			t.Errorf("a plug-in, %q: got %q, want a closed connection", how[1:], got)
		}
	}
	uid := os.Getuid()
	d.cfg.Issuers.UIDs = "1-4294967294"
	if uid != 0 && !d.isOwn(&unix.Ucred{Uid: uint32(uid), Pid: int32(os.Getpid())}) {
		t.Error("a uid of the plug-ins' is not taken for one")
	}
	d.cfg.Issuers.UIDs = ""
	onRecord(t, opts.Dir, "a plug-in connected to issue.sock")
}

// onRecord waits until the ledger says something.
func onRecord(t *testing.T, dir, words string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		files, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), words) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the ledger has no word of it: %q", words)
		}
	}
}
