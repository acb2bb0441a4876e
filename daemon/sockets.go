package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/daemon/server"
)

// Limits of a connection (threats 3 and 5). A message is larger than any
// token, so that what is too large is refused by name, not by the transport.
const (
	maxMessage    = 4 << 20
	maxStreams    = 256
	handshakeTime = 5 * time.Second
	stopTime      = 15 * time.Second
)

// sockets are the daemon's three: issue.sock, admin.sock and metrics.sock.
type sockets struct {
	issue, admin                *grpc.Server
	metrics                     *http.Server
	onIssue, onAdmin, onMetrics net.Listener
	stopping                    chan struct{}
}

// openSockets makes the sockets. They appear complete, and last: a client that
// sees one can be answered.
func (d *Daemon) openSockets(ctx context.Context) error {
	gid, err := groupID(d.cfg.Sockets.Group)
	if err != nil {
		return err
	}
	d.pipeline = &server.Pipeline{
		Gate: d.gate, Ring: d.ring, Ledger: d.ledger, Formats: d.formats(),
		Tokens: d.tokens, Rand: rand.Reader, Metrics: d.metrics, Log: d.log, Now: now,
	}
	d.measureParts(ctx)
	d.measureBackends()
	d.sockets = d.newServers()
	d.atStop(d.closeSockets)
	for _, s := range []struct {
		name string
		mode os.FileMode
		to   *net.Listener
	}{
		{"metrics.sock", 0o660, &d.sockets.onMetrics},
		{"admin.sock", 0o660, &d.sockets.onAdmin},
		{"issue.sock", d.cfg.Sockets.Mode.Perm(0o666), &d.sockets.onIssue},
	} {
		l, err := listen(d.cfg.RuntimeDir, s.name, s.mode, gid)
		if err != nil {
			return err
		}
		*s.to = d.refuseOwn(l, s.name) //nolint:contextcheck // for as long as the socket is there
		if s.name == "issue.sock" {
			*s.to = limit(*s.to, d.log)
		}
	}
	return nil
}

func (d *Daemon) newServers() sockets {
	s := sockets{issue: newGRPC(), admin: newGRPC(), stopping: make(chan struct{})}
	signetv1.RegisterSignerServer(s.issue, &server.Signer{Pipeline: d.pipeline, Stopping: s.stopping})
	admin := d.newAdmin()
	signetv1.RegisterAdminServer(s.admin, admin)
	s.metrics = &http.Server{
		Handler:           admin.Viewers(d.metrics.Handler()),
		ConnContext:       server.WithCaller,
		ReadHeaderTimeout: handshakeTime,
		MaxHeaderBytes:    16 << 10,
	}
	return s
}

// newGRPC makes a server that knows its callers from the kernel.
func newGRPC() *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(peer.Credentials()),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		// Fixed windows: grpc-go otherwise measures the connection with a ping
		// for each batch, which wakes both ends once more.
		grpc.InitialWindowSize(maxMessage), grpc.InitialConnWindowSize(maxMessage),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
}

// serve answers on all three and returns a channel that gets the first failure.
func (s *sockets) serve() <-chan error {
	failed := make(chan error, 3)
	go func() { failed <- s.metrics.Serve(s.onMetrics) }()
	go func() { failed <- s.admin.Serve(s.onAdmin) }()
	go func() { failed <- s.issue.Serve(s.onIssue) }()
	return failed
}

// closeSockets stops listening, lets requests under way be answered within
// stopTime, and removes the sockets.
func (d *Daemon) closeSockets() error {
	s := &d.sockets
	for _, name := range []string{"issue.sock", "admin.sock", "metrics.sock"} {
		_ = os.Remove(filepath.Join(d.cfg.RuntimeDir, name))
	}
	close(s.stopping)
	timer := time.AfterFunc(stopTime, func() {
		s.issue.Stop()
		s.admin.Stop()
	})
	defer timer.Stop()
	s.issue.GracefulStop()
	s.admin.GracefulStop()
	return s.metrics.Close()
}

// groupID is the gid of a group's name or number, -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(group); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("sockets.group %q does not exist\nhint: groupadd --system %s", group, group), err)
	}
	return strconv.Atoi(g.Gid)
}
