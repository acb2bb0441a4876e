package fakegcpkms

import (
	"net"
	"sync"
)

// A listener can do to its connections what networks do.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []*conn
}

type conn struct {
	net.Conn
	mu     sync.Mutex
	silent bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own := &conn{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, own)
	return own, nil
}

// taken are the connections so far, which are then forgotten.
func (l *listener) taken() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.conns
	l.conns = nil
	return all
}

// reset closes every connection, as a network that resets them: with no word.
func (l *listener) reset() {
	for _, c := range l.taken() {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// silence has nothing come from the connections there are, and nothing arrive.
// They stay open.
func (l *listener) silence() {
	for _, c := range l.taken() {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
	}
}

func (c *conn) isSilent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.silent
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.isSilent() {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.isSilent() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}
