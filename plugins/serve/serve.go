// Package serve is the issuer's end of the connection to the daemon. An issuer
// program is one line:
//
//	func main() { serve.Main(opaque{}) }
package serve

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

// Main serves issuer to the daemon that started this process, until the
// daemon goes away; what it drafted is read back if it is a
// plugins.ForeignInspector too. A person who starts the program by hand is told so, and
// the exit status is 1.
func Main(issuer plugins.Issuer) {
	// A service manager sends its signal to every process of the service;
	// an issuer that obeyed would fail the requests that the daemon still
	// answers. The issuer ends when the daemon closes the connection.
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	// No other process of this user may read the claims in our memory. Exec
	// resets this, so it can't be done for us before we start.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)

	end := &issuerEnd{server: newServer(issuer)}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: wire.Version, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue,
		},
		Plugins:    plugin.PluginSet{"issuer": end},
		GRPCServer: newGRPC,
		Logger:     hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
	})
}

// newGRPC holds the daemon to the limits of the wire. Fixed windows of two
// messages keep a full batch from waiting for the window to grow.
func newGRPC(opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts,
		grpc.MaxRecvMsgSize(2*wire.MaxMessage),
		grpc.InitialWindowSize(2*wire.MaxMessage),
		grpc.InitialConnWindowSize(2*wire.MaxMessage),
	)...)
}

// issuerEnd registers the server with go-plugin.
type issuerEnd struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements plugin.GRPCPlugin.
func (e *issuerEnd) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginsv1.RegisterIssuerServer(s, e.server)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; this end has none.
func (e *issuerEnd) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}
