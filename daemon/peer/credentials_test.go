package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcpeer "google.golang.org/grpc/peer"
)

// serve runs a gRPC server and returns the callers that its requests came from.
func serve(t *testing.T, l net.Listener) <-chan Caller {
	t.Helper()
	callers := make(chan Caller, 1)
	s := grpc.NewServer(grpc.Creds(Credentials()), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			c, _ := FromContext(ctx)
			callers <- c
			return next(ctx, req)
		}))
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return callers
}

func TestARequestKnowsItsCaller(t *testing.T) {
	l, address := listen(t)
	callers := serve(t, l)
	// A caller that connects and sends nothing holds up nobody.
	idle, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	conn, err := grpc.NewClient("unix-abstract:"+address[1:], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if c := <-callers; int(c.UID()) != os.Getuid() || int(c.PID()) != os.Getpid() {
		t.Errorf("got %v, want ourselves", c)
	}
}

func TestTheHandshakeReadsNothing(t *testing.T) {
	l, address := listen(t)
	mine, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn, auth, err := Credentials().ServerHandshake(theirs)
	if err != nil {
		t.Fatal(err)
	}
	info, ok := auth.(Info)
	if !ok || info.AuthType() != "so_peercred" || info.SecurityLevel != credentials.PrivacyAndIntegrity {
		t.Errorf("AuthInfo: got %+v", auth)
	}
	if _, ok := info.Caller.Exe(); !ok {
		t.Error("Exe: got none before Close")
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	nothingKnown(t, info.Caller) // and the pidfd is closed with it
}

func TestConnectionsOfAnotherKindAreRefused(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if _, _, err := Credentials().ServerHandshake(here); !errors.Is(err, ErrNotLocal) {
		t.Errorf("a pipe: got %v, want ErrNotLocal", err)
	}
	if _, _, err := Credentials().Clone().ClientHandshake(t.Context(), "", here); !errors.Is(err, ErrServerOnly) {
		t.Errorf("ClientHandshake: got %v, want ErrServerOnly", err)
	}
	l, address := listen(t)
	mine, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	theirs, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, _, err := Credentials().ServerHandshake(theirs); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a closed connection: got %v, want an error of ours", err)
	}
}

func TestOnlyTheKernelsCallersComeOutOfAContext(t *testing.T) {
	made := func(auth credentials.AuthInfo) context.Context {
		return grpcpeer.NewContext(t.Context(), &grpcpeer.Peer{AuthInfo: auth})
	}
	for name, ctx := range map[string]context.Context{
		"no peer":      t.Context(),
		"no AuthInfo":  made(nil),
		"nobody":       made(Info{}),
		"hypothetical": made(Info{Caller: Hypothetical(0, 0, "", "")}),
	} {
		if c, ok := FromContext(ctx); ok {
			t.Errorf("FromContext with %s: got %v", name, c)
		}
	}
}
