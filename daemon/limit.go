package daemon

import (
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// Connections that issue.sock bears, in all and of one uid. Anybody may connect
// to it: without a limit, one caller could take the descriptors that the
// others, and the operators, need.
const (
	maxConns       = 2048
	maxConnsOfUID  = 512
	fdsOfConn      = 2   // the connection, and the pidfd of who is at its end
	fdsForTheRest  = 128 // files, issuers, admin.sock
	leastConnLimit = 8
)

// A limited listener closes connections past its limits.
type limited struct {
	net.Listener
	all, each int
	log       *slog.Logger

	mu    sync.Mutex
	total int
	byUID map[uint32]int
	told  bool
}

// limit bounds a listener by the descriptors that this process may have.
func limit(l net.Listener, log *slog.Logger) net.Listener {
	all := maxConns
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err == nil && r.Cur < maxConns*fdsOfConn+fdsForTheRest {
		all = max(leastConnLimit, (int(r.Cur)-fdsForTheRest)/fdsOfConn)
	}
	return &limited{Listener: l, all: all, each: min(maxConnsOfUID, max(leastConnLimit/2, all/4)), log: log, byUID: map[uint32]int{}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := uidOf(conn)
		if err == nil && l.enter(uid) {
			return &counted{UnixConn: conn.(*net.UnixConn), leave: sync.OnceFunc(func() { l.leave(uid) })}, nil //nolint:forcetypeassert // uidOf saw it
		}
		_ = conn.Close()
	}
}

// enter counts a connection in, or refuses it.
func (l *limited) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.all || l.byUID[uid] >= l.each {
		if !l.told {
			l.log.Warn("connections are refused past the limit", slog.Int("all", l.all), slog.Int("of_one_uid", l.each), slog.Uint64("uid", uint64(uid)))
		}
		l.told = true
		return false
	}
	l.total++
	l.byUID[uid]++
	return true
}

func (l *limited) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = false
	l.total--
	if l.byUID[uid]--; l.byUID[uid] == 0 {
		delete(l.byUID, uid)
	}
}

// counted is a connection that is counted out when it closes. It is still a
// unix socket to whoever asks the kernel about its other end.
type counted struct {
	*net.UnixConn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.UnixConn.Close()
}

func uidOf(conn net.Conn) (uint32, error) {
	cred, err := credentialsOf(conn)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
