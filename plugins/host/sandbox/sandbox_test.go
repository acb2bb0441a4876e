package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain makes this binary its own trampoline and its own children.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "launch":
			fmt.Fprintln(os.Stderr, Exec(os.Args[2:]))
			os.Exit(1)
		case "launch-without":
			fmt.Fprintln(os.Stderr, become(os.Args[3:], without(os.Args[2])))
			os.Exit(1)
		case "launcher":
			fmt.Fprintln(os.Stderr, Launch(60000, 60009))
			os.Exit(0)
		case "who":
			who()
		case "x32":
			_ = sys(x32Bit | unix.SYS_GETPID)
			os.Exit(0)
		case "report":
			_ = json.NewEncoder(os.Stdout).Encode(whatIHave())
			os.Exit(0)
		case "sleep":
			fmt.Println("here")
			time.Sleep(time.Hour)
		case "fork":
			fork()
		case "daemon":
			daemon()
		case "victim":
			victim()
		case "hostile":
			hostile(os.Args[2:])
		}
	}
	goleak.VerifyTestMain(m)
}

// without leaves out one step, to see that the others hold alone.
func without(name string) func(Confinement, int, string) []step {
	return func(c Confinement, parent int, target string) []step {
		return slices.DeleteFunc(c.steps(parent, target), func(s step) bool { return s.name == name })
	}
}

// A report is what a process holds.
type report struct {
	Env, Args, Files          []string
	Dir                       string
	NoNewPrivs, DeathSignal   int
	Core, FileSize, OpenFiles uint64
	Umask                     int
	OwnSession                bool
}

func whatIHave() report {
	r := report{Env: os.Environ(), Args: os.Args, Files: openFiles(), OwnSession: unix.Getpgrp() == os.Getpid()}
	slices.Sort(r.Env)
	r.Dir, _ = os.Getwd()
	r.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	var signal int32
	_ = unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0)
	r.DeathSignal = int(signal)
	r.Core, r.FileSize, r.OpenFiles = hard(unix.RLIMIT_CORE), hard(unix.RLIMIT_FSIZE), hard(unix.RLIMIT_NOFILE)
	r.Umask = unix.Umask(0)
	return r
}

func hard(resource int) uint64 {
	var l unix.Rlimit
	_ = unix.Getrlimit(resource, &l)
	return l.Max
}

// openFiles asks for each number, since reading /proc/self/fd opens more.
func openFiles() []string {
	var files []string
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			if strings.HasPrefix(link, "/sys/fs/cgroup/") {
				continue // opened by the Go runtime of the child itself, for GOMAXPROCS
			}
			kind, _, _ := strings.Cut(link, ":[")
			files = append(files, fmt.Sprintf("%d %s", fd, kind))
		}
	}
	return files
}

func self(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// leak opens a file as a PKCS#11 module would, for every child to inherit, and
// puts a secret into the environment.
func leak(t *testing.T) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token.object")
	fd, err := syscall.Open(name, syscall.O_CREAT|syscall.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	t.Setenv("SIGNET_TEST_PIN", "123456")
}

// run starts the mode through the sandbox, as an issuer, and returns what it wrote.
func run(t *testing.T, s *Starter, mode string, env ...string) (*Child, *os.File) {
	t.Helper()
	return runAs(t, s, Confinement{}, []string{mode}, env...)
}

func runAs(t *testing.T, s *Starter, c Confinement, args []string, env ...string) (*Child, *os.File) {
	t.Helper()
	return runBy(t, s, []string{"launch"}, c, args, env...)
}

// runBy starts a process by one of this binary's trampolines.
func runBy(t *testing.T, s *Starter, launch []string, c Confinement, args []string, env ...string) (*Child, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	exe := self(t)
	child, err := s.Start(Command{
		Trampoline: exe, LaunchArgs: append(append([]string{"signet"}, launch...), "--"), Confine: c,
		Target: exe, Args: append([]string{"child"}, args...), Env: env, Stdout: w, Stderr: w,
	})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { child.Kill(); <-child.Ended(); r.Close() })
	return child, r
}

func newStarter(t *testing.T) *Starter {
	s := NewStarter(nil)
	t.Cleanup(s.Close)
	return s
}

func TestChildHasNothingItWasNotGiven(t *testing.T) {
	leak(t)
	got := reported(t, "GIVEN=1")
	want := report{
		Env: []string{"GIVEN=1"}, Args: []string{"child", "report"}, Files: []string{"0 /dev/null", "1 pipe", "2 pipe"},
		Dir: "/", NoNewPrivs: 1, DeathSignal: int(unix.SIGKILL), OpenFiles: maxFiles, Umask: 0o077, OwnSession: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the child has (-want +got):\n%s", diff)
	}
}

func reported(t *testing.T, env ...string) (r report) {
	t.Helper()
	_, out := run(t, newStarter(t), "report", env...)
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// os.StartProcess takes no environment for the parent's.
func TestAChildThatWasGivenNoEnvironmentHasNone(t *testing.T) {
	if got := reported(t).Env; len(got) > 0 {
		t.Errorf("environment: got %q, want none", got)
	}
}

// The planted fault: without the trampoline, the same report shows both leaks.
func TestLeaksAreSeenWithoutTheTrampoline(t *testing.T) {
	leak(t)
	out, err := exec.Command("/proc/self/exe", "report").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, leaked := range []string{"token.object", "SIGNET_TEST_PIN=123456", `"NoNewPrivs":0`, `"DeathSignal":0`} {
		if !strings.Contains(string(out), leaked) {
			t.Errorf("report of a child started without the trampoline: got %s, want %s in it", out, leaked)
		}
	}
}

func TestExecRefuses(t *testing.T) {
	me := fmt.Sprint(os.Getpid())
	rows := []struct {
		name string
		args []string
		want string
	}{
		{"no arguments", nil, "hint:"},
		{"no target", []string{"--", me, "{}"}, "hint:"},
		{"no number", []string{"--", "x", "{}", "/proc/self/exe", "child"}, "hint:"},
		{"a parent that is gone", []string{"--", "1", "{}", "/proc/self/exe", "child", "sleep"}, "the daemon is gone"},
		{"no such target", []string{"--", me, "{}", "/proc/self/fd/99", "child"}, "/proc/self/fd/99"},
		{"no confinement", []string{"--", me, "mittens", "/proc/self/exe", "child"}, "hint:"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			// In a process of its own: Exec gives up what this one needs.
			out, err := exec.Command("/proc/self/exe", append([]string{"launch"}, row.args...)...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), row.want) {
				t.Errorf("launch %q: got %q, %v, want a failure with %q", row.args, out, err, row.want)
			}
		})
	}
}

// fork starts a child in its own group and one that leaves the group, tells
// their numbers and waits.
func fork() {
	for _, away := range []bool{false, true} {
		c := exec.Command("/proc/self/exe", "sleep")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: away}
		if err := c.Start(); err != nil {
			fmt.Println(err)
		}
		fmt.Println(c.Process.Pid)
	}
	time.Sleep(time.Hour)
}

// An issuer forks nothing; a vendor's library may.
func TestKillReachesWhatTheChildForked(t *testing.T) {
	c, out := runAs(t, newStarter(t), Confinement{Backend: true}, []string{"fork"})
	var stays, leaves int
	if _, err := fmt.Fscan(out, &stays, &leaves); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(leaves, unix.SIGKILL)
	if !alive(stays) || !alive(leaves) {
		t.Fatalf("forked %d and %d: one does not run", stays, leaves)
	}
	c.Kill()
	if how := c.How(); how != "signal: killed" {
		t.Errorf("How: got %q, want signal: killed", how)
	}
	until(t, "the forked process is gone", func() bool { return !alive(stays) })
	// What only a cgroup or seccomp could stop; here to show what Kill does not promise.
	if !alive(leaves) {
		t.Errorf("process %d left the group and was killed: say so in Kill's comment", leaves)
	}
	c.Kill() // does nothing, and reaches nobody else
}

// daemon is a parent to be killed. "thread" makes the mistake that a Starter
// prevents: the thread that starts the child ends.
func daemon() {
	runtime.LockOSThread() // the first thread never ends: nobody else may have it
	if len(os.Args) > 2 && os.Args[2] == "thread" {
		onThreadThatEnds(func() { startSleeper(func(c Command) (*Child, error) { return start(c, nil) }) })
	} else {
		s := NewStarter(nil)
		startSleeper(s.Start)
		endThreads()
	}
	time.Sleep(time.Hour)
}

// onThreadThatEnds runs f on a thread that ends after it. The process's first
// thread never does: a goroutine that finds itself there keeps it busy.
func onThreadThatEnds(f func()) {
	ran := make(chan bool)
	for again := true; again; again = !<-ran {
		go func() {
			runtime.LockOSThread() // and never unlocks
			if unix.Gettid() == os.Getpid() {
				ran <- false
				select {}
			}
			f()
			ran <- true
		}()
	}
}

func startSleeper(start func(Command) (*Child, error)) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := start(Command{
		Trampoline: exe, LaunchArgs: []string{"signet", "launch", "--"},
		Target: exe, Args: []string{"child", "sleep"}, Stdout: os.Stdout, Stderr: os.Stdout,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.PID())
}

// endThreads ends every thread that no goroutine has locked, as the runtime may
// at any time: they all meet, each on its own thread, before the first ends.
func endThreads() {
	const n = 64
	var locked, ended sync.WaitGroup
	locked.Add(n)
	for range n {
		ended.Go(func() {
			runtime.LockOSThread() // and never unlocks
			locked.Done()
			locked.Wait()
		})
	}
	ended.Wait()
	fmt.Println("threads ended")
}

func startDaemon(t *testing.T, args ...string) (*exec.Cmd, io.Reader, int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"daemon"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil || child == 0 {
		t.Fatalf("the child's number: got %d, %v", child, err)
	}
	return cmd, out, child
}

func TestChildDiesWithTheDaemonAndNotBefore(t *testing.T) {
	cmd, out, child := startDaemon(t)
	var words [3]string // "here" from the child, "threads ended" from its parent, in any order
	if _, err := fmt.Fscan(out, &words[0], &words[1], &words[2]); err != nil || !slices.Contains(words[:], "here") {
		t.Fatalf("daemon and child wrote %q, %v", words, err)
	}
	if !alive(child) {
		t.Fatalf("child %d ended with a thread of the daemon", child)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the child is gone", func() bool { return !alive(child) })
}

// The planted fault: a child that another thread started dies with that.
func TestChildOfAThreadThatEndsDies(t *testing.T) {
	_, _, child := startDaemon(t, "thread")
	until(t, "the child is gone", func() bool { return !alive(child) })
}

// From its first instruction to its last, a child is known as one.
func TestChildrenAreKnown(t *testing.T) {
	var all Children
	s := NewStarter(&all)
	t.Cleanup(s.Close)
	c, out := run(t, s, "sleep")
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil || !all.Has(c.PID()) || all.Has(os.Getpid()) {
		t.Errorf("child %d: Has is %v; %v", c.PID(), all.Has(c.PID()), err)
	}
	c.Kill()
	<-c.Ended()
	if all.Has(c.PID()) {
		t.Errorf("process %d is gone and still a child", c.PID())
	}
}

func TestStartAfterClose(t *testing.T) {
	s := NewStarter(nil)
	s.Close()
	s.Close()
	if _, err := s.Start(Command{}); !errors.Is(err, ErrStopped) {
		t.Errorf("Start after Close: got %v, want ErrStopped", err)
	}
}

// alive is false for a process that is gone or waits to be reaped.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}
