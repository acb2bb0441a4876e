package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Command is a process to start.
type Command struct {
	Trampoline     *os.File // a binary that calls Exec when it is given LaunchArgs
	LaunchArgs     []string // argv of the trampoline: "signet", "launch", "--"
	Target         *os.File // the binary to become
	Confine        Confinement
	Args           []string // argv of the target
	Env            []string // everything in its environment
	Stdout, Stderr *os.File
}

// The numbers at which a child finds the two binaries: after the standard
// three.
const (
	trampolineFD = 3
	targetFD     = 4
)

// ErrStopped is returned by Start after Close.
var ErrStopped = errors.New("sandbox: the starter is closed")

// Children are the processes that were started and not waited for yet, by any
// Starter that shares them. The zero value is ready.
type Children struct {
	mu  sync.Mutex
	all map[int]bool
}

// Has reports whether a process is one of them. While one is being started it
// waits, so that no child is unknown from its first instruction on.
func (c *Children) Has(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[pid]
}

// begin starts a process and remembers it.
func (c *Children) begin(start func() (pid int, err error)) error {
	if c == nil {
		_, err := start()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, err := start()
	if err != nil {
		return err
	}
	if c.all == nil {
		c.all = map[int]bool{}
	}
	c.all[pid] = true
	return nil
}

// forget must be called before the process is waited for: from then on its
// number may be another's.
func (c *Children) forget(pid int) {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, pid)
	}
}

// A Starter starts processes from one thread that lives as long as it does.
// The kernel sends the death signal when the *thread* that started a process
// ends, and Go ends threads as it likes.
type Starter struct {
	children *Children // may be nil

	work chan func()
	stop chan struct{}
	once sync.Once
}

// NewStarter returns a Starter that keeps its children among those given, if
// any. Close it after they have ended.
func NewStarter(children *Children) *Starter {
	s := &Starter{children: children, work: make(chan func()), stop: make(chan struct{})}
	go s.run()
	return s
}

func (s *Starter) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case f := <-s.work:
			f()
		case <-s.stop:
			return
		}
	}
}

// Close stops the thread. Children that still run lose their tie to it.
func (s *Starter) Close() { s.once.Do(func() { close(s.stop) }) }

// Start starts c. The caller must Kill the Child and wait for it.
func (s *Starter) Start(c Command) (*Child, error) {
	var child *Child
	var err error
	done := make(chan struct{})
	select {
	case s.work <- func() { child, err = start(c, s.children); close(done) }:
		<-done
		return child, err
	case <-s.stop:
		return nil, ErrStopped
	}
}

func start(c Command, children *Children) (*Child, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("sandbox: start: %w", err)
	}
	defer null.Close() //nolint:errcheck // opened for reading
	contained, err := c.Confine.withLoader(c.Target)
	if err != nil {
		return nil, fmt.Errorf("sandbox: start: %w", err)
	}
	confine, err := contained.encode()
	if err != nil {
		return nil, fmt.Errorf("sandbox: start: %w", err)
	}
	argv := append([]string{}, c.LaunchArgs...)
	argv = append(argv, strconv.Itoa(os.Getpid()), confine, fmt.Sprintf("/proc/self/fd/%d", targetFD))
	var p *os.Process
	err = children.begin(func() (int, error) {
		p, err = os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", trampolineFD), append(argv, c.Args...), &os.ProcAttr{
			Dir:   "/",
			Env:   append([]string{}, c.Env...), // never nil: nil means the daemon's
			Files: []*os.File{null, c.Stdout, c.Stderr, c.Trampoline, c.Target},
			// A session and a group of its own: no terminal to write to, and
			// one kill reaches what it forks, unless that leaves the group.
			Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err != nil {
			return 0, err
		}
		return p.Pid, nil
	})
	if err != nil {
		return nil, fmt.Errorf("sandbox: start: %w", err)
	}
	child := &Child{pid: p.Pid, children: children, ended: make(chan struct{})}
	child.kill = child.killGroup
	go child.reap(p)
	return child, nil
}

// A Child is a process that was started. Its methods may be called at the
// same time.
type Child struct {
	pid      int
	kill     func() // called with mu held
	children *Children
	ended    chan struct{}
	mu       sync.Mutex
	reaped   bool
	how      string
}

// PID returns the process id. It may be somebody else's once Ended is closed.
func (c *Child) PID() int { return c.pid }

// Ended is closed when the process has ended and was waited for.
func (c *Child) Ended() <-chan struct{} { return c.ended }

// How says how the process ended: "exit status 1", "signal: killed".
func (c *Child) How() string {
	<-c.ended
	return c.how
}

// Kill ends the process and what it forked, but for what has left its group. A
// second Kill does nothing.
func (c *Child) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill()
}

// killGroup must not run once the process is reaped: from then on the number
// may be another process's.
func (c *Child) killGroup() {
	if !c.reaped {
		_ = unix.Kill(-c.pid, unix.SIGKILL)
		_ = unix.Kill(c.pid, unix.SIGKILL)
	}
}

// reap waits in two steps, so that what the process forked is killed while
// its number still stands for the group.
func (c *Child) reap(p *os.Process) {
	defer close(c.ended)
	for {
		err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killGroup()
	c.children.forget(c.pid)
	state, err := p.Wait()
	c.reaped = true
	if err != nil {
		c.how = "unknown"
		return
	}
	c.how = state.String()
}
