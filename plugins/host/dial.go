package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/signetd/signet/plugins/wire"
)

// credentials are what both ends show each other: certificates, or nothing but
// who listens. Nil is an issuer that should have sent its certificate.
func (l *Launcher) credentials(config *tls.Config) credentials.TransportCredentials {
	switch {
	case l.spec.PlainGRPC:
		return insecure.NewCredentials()
	case config == nil || config.RootCAs == nil:
		// With no authority of its own, TLS would ask the system's about localhost.
		return nil
	}
	return credentials.NewTLS(config)
}

// A listener is who should listen on an issuer's socket.
type listener struct {
	pid int
	uid uint32 // 0: the daemon's own
}

// dial returns a connection to the issuer at addr. It is made once: a
// connection that breaks is the end of the session.
func dial(creds credentials.TransportCredentials, addr net.Addr, want listener) (*grpc.ClientConn, error) {
	if creds == nil {
		return nil, errors.New("it sent no certificate in its handshake")
	}
	var dialled atomic.Bool
	return grpc.NewClient("passthrough:///issuer",
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errors.New("the connection to the issuer broke")
			}
			return dialUnix(ctx, addr, want)
		}),
		// Twice what the other end should send: more is a fault.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*wire.MaxMessage)),
		// Fixed windows: measuring the best one costs a ping for each read.
		grpc.WithInitialWindowSize(2*wire.MaxMessage),
		grpc.WithInitialConnWindowSize(2*wire.MaxMessage),
		// The stream stays open through quiet hours, and nothing is sent twice.
		grpc.WithIdleTimeout(0),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	)
}

// dialUnix connects and checks that the one who listens is the child.
func dialUnix(ctx context.Context, addr net.Addr, want listener) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, addr.Network(), addr.String())
	if err != nil {
		return nil, err
	}
	got, err := whoListens(conn)
	switch {
	case err != nil:
	case int(got.Pid) != want.pid:
		err = fmt.Errorf("process %d listens on the issuer's socket, not %d", got.Pid, want.pid)
	case want.uid != 0 && (got.Uid != want.uid || got.Gid != want.uid):
		err = fmt.Errorf("uid %d listens on the issuer's socket, not %d", got.Uid, want.uid)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// whoListens is the process that called listen on the other end of conn.
func whoListens(conn net.Conn) (*unix.Ucred, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, credErr)
}

// drain reads what go-plugin's other end redirects from os.Stdout and
// os.Stderr once it has shaken hands. Unread, it would block whoever writes
// there. An issuer that does not offer it is fine.
func drain(ctx context.Context, conn grpc.ClientConnInterface, to io.Writer) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/plugin.GRPCStdio/StreamStdio")
	if err != nil || stream.SendMsg(&emptypb.Empty{}) != nil || stream.CloseSend() != nil {
		return
	}
	for {
		// The type is internal to go-plugin: { channel = 1; bytes data = 2 }.
		var m emptypb.Empty
		if stream.RecvMsg(&m) != nil {
			return
		}
		_, _ = to.Write(bytesField(m.ProtoReflect().GetUnknown(), 2))
	}
}

// bytesField returns the first field of that number, nil if there is none.
func bytesField(message []byte, number protowire.Number) []byte {
	for len(message) > 0 {
		n, t, size := protowire.ConsumeField(message)
		if size < 0 {
			return nil
		}
		if n == number && t == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(message)
			b, _ := protowire.ConsumeBytes(message[tag:])
			return b
		}
		message = message[size:]
	}
	return nil
}
