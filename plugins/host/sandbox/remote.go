package sandbox

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A process with a uid of its own is started by a launcher: a small process
// that keeps the right to change uids, so that the daemon, which holds keys and
// reads what callers send, does not.

// maxLetter bounds one message between daemon and launcher, in bytes: arguments
// and environment of one process.
const maxLetter = 128 << 10

// A letter is one message, either way. Descriptors come beside it: standard
// output and error, the trampoline, the target.
type letter struct {
	ID      uint64       `json:",omitempty"` // of a start, and of its answer
	Launch  []string     `json:",omitempty"`
	Args    []string     `json:",omitempty"`
	Env     []string     `json:",omitempty"`
	Confine *Confinement `json:",omitempty"`

	PID   int    `json:",omitempty"` // that was started, is to be killed, or has ended
	Kill  bool   `json:",omitempty"`
	How   string `json:",omitempty"` // it ended
	Error string `json:",omitempty"` // why it was not started
}

// send writes one letter, with descriptors.
func send(conn *net.UnixConn, l letter, files ...*os.File) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if len(text) > maxLetter {
		return fmt.Errorf("sandbox: %d bytes of arguments and environment, the limit is %d", len(text), maxLetter)
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(text, rights, nil)
	return err
}

// receive reads one letter and the descriptors beside it.
func receive(conn *net.UnixConn) (l letter, files []*os.File, err error) {
	text, rights := make([]byte, maxLetter), make([]byte, unix.CmsgSpace(4*4))
	n, m, _, _, err := conn.ReadMsgUnix(text, rights)
	if err != nil {
		return l, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return l, nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return l, files, json.Unmarshal(text[:n], &l)
}

// A Remote starts processes through a launcher. Its methods may be called at
// the same time.
type Remote struct {
	conn     *net.UnixConn
	children *Children

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan started // starts that were not answered yet
	live    map[int]*Child
	over    error
}

// started is how a start went.
type started struct {
	child *Child
	err   error
}

// NewRemote speaks to the launcher at the other end of conn, and keeps its
// children among those given, if any. It ends with the connection.
func NewRemote(conn *net.UnixConn, children *Children) *Remote {
	r := &Remote{conn: conn, children: children, waiting: map[uint64]chan started{}, live: map[int]*Child{}}
	go r.listen()
	return r
}

// Close ends the launcher, and with it what it started.
func (r *Remote) Close() error { return r.conn.Close() }

// listen hands on what the launcher says, until it is gone.
func (r *Remote) listen() {
	for {
		l, files, err := receive(r.conn)
		for _, f := range files {
			_ = f.Close()
		}
		if err != nil {
			r.end(fmt.Errorf("%w: the launcher is gone: %w", ErrStopped, err))
			return
		}
		r.mu.Lock()
		if to := r.waiting[l.ID]; l.ID != 0 && to != nil {
			delete(r.waiting, l.ID)
			to <- r.begun(l)
		} else if c := r.live[l.PID]; c != nil {
			r.ended(c, l.How)
		}
		r.mu.Unlock()
	}
}

// begun must be called with mu held.
func (r *Remote) begun(l letter) started {
	if l.PID == 0 {
		return started{err: fmt.Errorf("sandbox: launcher: %s", l.Error)}
	}
	c := r.child(l.PID)
	r.live[l.PID] = c
	return started{child: c}
}

func (r *Remote) child(pid int) *Child {
	c := &Child{pid: pid, children: r.children, ended: make(chan struct{})}
	c.kill = func() {
		if !c.reaped {
			_ = send(r.conn, letter{PID: pid, Kill: true})
		}
	}
	return c
}

// ended must be called with mu held.
func (r *Remote) ended(c *Child, how string) {
	delete(r.live, c.pid)
	c.mu.Lock()
	c.reaped, c.how = true, how
	c.mu.Unlock()
	// Not here: a start that is under way holds the children, and waits for us.
	go func() {
		r.children.forget(c.pid)
		close(c.ended)
	}()
}

// end is the end of all: the kernel kills what a launcher started with it.
func (r *Remote) end(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = why
	for id, to := range r.waiting {
		delete(r.waiting, id)
		to <- started{err: why}
	}
	for _, c := range r.live {
		r.ended(c, "signal: killed")
	}
}

// Start starts c, which must have a uid of its own. The caller must Kill the
// Child and wait for it.
func (r *Remote) Start(c Command) (*Child, error) {
	var answer started
	err := r.children.begin(func() (int, error) {
		to, id, err := r.expect()
		if err != nil {
			return 0, err
		}
		l := letter{ID: id, Launch: c.LaunchArgs, Args: c.Args, Env: c.Env, Confine: &c.Confine}
		if err := send(r.conn, l, c.Stdout, c.Stderr, c.Trampoline, c.Target); err != nil {
			r.mu.Lock()
			delete(r.waiting, id)
			r.mu.Unlock()
			return 0, fmt.Errorf("sandbox: launcher: %w", err)
		}
		if answer = <-to; answer.err != nil {
			return 0, answer.err
		}
		return answer.child.pid, nil
	})
	return answer.child, err
}

func (r *Remote) expect() (chan started, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over != nil {
		return nil, 0, r.over
	}
	r.next++
	to := make(chan started, 1)
	r.waiting[r.next] = to
	return to, r.next, nil
}
