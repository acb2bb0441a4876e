package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// ErrServerOnly says that [Credentials] were given to a client.
var ErrServerOnly = errors.New("peer: these credentials are for a server")

// Info is the AuthInfo of a connection: who connected.
type Info struct {
	credentials.CommonAuthInfo
	Caller Caller
}

// AuthType names the way in which the caller was identified.
func (Info) AuthType() string { return "so_peercred" }

// Credentials are the transport credentials of a gRPC server on a unix socket.
// The handshake reads who connected and nothing of what the caller sends, so
// it can't be made to wait.
func Credentials() credentials.TransportCredentials { return unixCredentials{} }

type unixCredentials struct{}

// ServerHandshake identifies the other end, or refuses the connection.
func (unixCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("peer: a %T: %w", conn, ErrNotLocal)
	}
	c, err := fromSyscallConn(sc)
	if err != nil {
		return nil, nil, err
	}
	// The bytes never leave the kernel of this machine.
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return pinnedConn{conn, c.pin}, Info{level, c}, nil
}

// ClientHandshake is refused: the daemon proves itself by owning the path.
func (unixCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, ErrServerOnly
}

// Info describes the protocol.
func (unixCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "so_peercred"}
}

// Clone returns the same value, which has no state.
func (u unixCredentials) Clone() credentials.TransportCredentials { return u }

// OverrideServerName does nothing: there are no server names here.
func (unixCredentials) OverrideServerName(string) error { return nil }

// pinnedConn lets go of the process with its connection.
type pinnedConn struct {
	net.Conn
	pin *pin
}

// Close closes the connection and forgets the process.
func (c pinnedConn) Close() error {
	c.pin.close()
	return c.Conn.Close()
}
