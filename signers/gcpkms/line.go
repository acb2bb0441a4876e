package gcpkms

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// silence is after how long without an answer a request is made again, and the
// connection cut if nothing at all came on it.
const silence = 3 * time.Second

// A line watches the connections. gRPC puts all requests on one: if that leads
// nowhere (a NAT that forgot it), each would wait for its deadline, and the
// kernel takes a quarter of an hour to notice.
type line struct {
	now func() time.Time

	mu    sync.Mutex
	conns map[*watchedConn]struct{}
}

// options have the SDK use the line. Behind a proxy gRPC must dial by itself, and
// nothing is watched.
func (l *line) options() []option.ClientOption {
	all := []option.ClientOption{option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(l.call))}
	r, err := http.NewRequest(http.MethodGet, "https://cloudkms.googleapis.com", nil) //nolint:noctx // it is never sent
	if err != nil {
		return all
	}
	if proxy, err := http.ProxyFromEnvironment(r); err == nil && proxy == nil {
		all = append(all, option.WithGRPCDialOption(grpc.WithContextDialer(l.dial)))
	}
	return all
}

// call gives each attempt its time. What is retried is for the SDK to say.
func (l *line) call(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	attempt, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	err := next(attempt, method, in, out, cc, opts...)
	if attempt.Err() == nil {
		return err
	}
	l.cut()
	if ctx.Err() == nil {
		return status.Errorf(codes.Unavailable, "no answer within %v", silence)
	}
	return err
}

func (l *line) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &watchedConn{Conn: conn, line: l, heard: l.now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[*watchedConn]struct{}{}
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// cut closes the connections on which nothing came for about as long as a request
// waits. One without a request goes too, and is made again when it is needed.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if l.now().Sub(c.heard) >= silence-silence/10 {
			_ = c.Conn.Close() // whoever uses it is told by that
		}
	}
}

// A watchedConn knows when something last came on it. What was sent says nothing:
// HTTP/2 answers a request with frames of its own before it goes silent.
type watchedConn struct {
	net.Conn
	line  *line
	heard time.Time // guarded by line.mu
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.line.mu.Lock()
		c.heard = c.line.now()
		c.line.mu.Unlock()
	}
	return n, err
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c)
	c.line.mu.Unlock()
	return c.Conn.Close()
}
