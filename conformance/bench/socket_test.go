package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/signers/stream"
)

// echoAt names the socket at which this binary is to answer, and do nothing
// else.
const echoAt = "SIGNET_BENCH_ECHO"

// An echo answers what a Signer answers, from the same stream, and does none of
// the work.
type echo struct {
	signetv1.UnimplementedSignerServer
}

func (echo) SignStream(st signetv1.Signer_SignStreamServer) error {
	reply := &signetv1.SignReply{Signature: make([]byte, 64), Kid: "0123456789012345678901234567890123456789012", Algorithm: "ES256"}
	c := stream.Courier[*signetv1.SignItem, *signetv1.SignOutcome]{
		Recv: func() ([]*signetv1.SignItem, error) {
			batch, err := st.Recv()
			return batch.GetItems(), err
		},
		Send: func(done []*signetv1.SignOutcome) error {
			return st.Send(&signetv1.SignReplyBatch{Outcomes: done})
		},
		Now: time.Now, Timeout: time.Minute,
		Handle: func(_ context.Context, item *signetv1.SignItem) *signetv1.SignOutcome {
			return &signetv1.SignOutcome{Id: item.GetId(), Reply: reply}
		},
	}
	return c.Run(st.Context(), nil)
}

func serveEcho(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<20))
	signetv1.RegisterSignerServer(s, echo{})
	return s.Serve(l)
}

// BenchmarkSocket is the stream alone, between two processes: what of the
// others' added time no daemon can do without.
func BenchmarkSocket(b *testing.B) {
	raw := newRawToken(b, token.Module, sessions)
	socket := filepath.Join(b.TempDir(), "echo")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), echoAt+"="+socket)
	must(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	c, err := client.Dial(socket)
	must(b, err)
	b.Cleanup(func() { _ = c.Close() })
	message := make([]byte, 400)
	work := func() error {
		_, err := c.Sign(context.Background(), "main", message)
		return err
	}
	for begun := time.Now(); work() != nil && time.Since(begun) < 10*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			for b.Loop() {
				was, is := versus(b, callers, []int{cmd.Process.Pid}, raw.signAndVerify, work)
				report(b, was, is)
			}
		})
	}
}
