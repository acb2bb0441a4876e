// Package remote runs a back-end in a process of its own. What crashes or hangs
// there, a vendor's library above all, costs its own keys a pause and nobody
// else anything.
//
// [Main] is the process's end, [Open] the daemon's. How a process is started is
// the daemon's business: it hands in a function.
package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/signetd/signet/signers"
	signersv1 "github.com/signetd/signet/signers/api/v1"
	"github.com/signetd/signet/signers/stream"
)

// What the two ends tell each other to be sure of themselves (go-plugin).
const (
	Version     = 1
	CookieKey   = "SIGNET_BACKEND"
	CookieValue = "keys-live-here"
)

// maxMessage bounds one message, in bytes: a batch of token bodies.
const maxMessage = 8 << 20

// An Opener opens a back-end by its settings, in the process.
type Opener func(ctx context.Context, kind string, settings []byte) (signers.Backend, error)

// Main serves the back-end that open opens to the daemon that started this
// process, until the daemon goes away.
func Main(open Opener, now func() time.Time) {
	// The daemon decides when this ends, not a service manager: it may still
	// answer requests.
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	// There is a PIN in this process, at times.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: Version, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue},
		Plugins:         plugin.PluginSet{"backend": &end{server: newServer(open, now)}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(maxMessage),
				grpc.InitialWindowSize(maxMessage), grpc.InitialConnWindowSize(maxMessage))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
	})
}

// end registers the server with go-plugin.
type end struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements plugin.GRPCPlugin.
func (e *end) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	signersv1.RegisterBackendServer(s, e.server)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; this end has none.
func (e *end) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// A server answers the daemon.
type server struct {
	signersv1.UnimplementedBackendServer
	open    Opener
	now     func() time.Time
	backend atomic.Pointer[signers.Backend]

	mu   sync.RWMutex
	keys []signers.Key // a key's handle is its place here, from 1
}

func newServer(open Opener, now func() time.Time) *server { return &server{open: open, now: now} }

// Open implements signersv1.BackendServer.
func (s *server) Open(ctx context.Context, r *signersv1.OpenRequest) (*signersv1.OpenReply, error) {
	if s.backend.Load() != nil {
		return nil, onTheWire(signers.ErrExists)
	}
	b, err := s.open(ctx, r.GetType(), r.GetSettings())
	if err != nil {
		return nil, onTheWire(err)
	}
	s.backend.Store(&b)
	_, lists := b.(signers.Lister)
	_, adopts := b.(signers.Adopter)
	return &signersv1.OpenReply{Lists: lists, Adopts: adopts}, nil
}

// opened is the back-end, once it is open.
func (s *server) opened() (signers.Backend, error) {
	if b := s.backend.Load(); b != nil {
		return *b, nil
	}
	return nil, onTheWire(signers.ErrClosed)
}

// CreateKey implements signersv1.BackendServer.
func (s *server) CreateKey(ctx context.Context, r *signersv1.KeyRequest) (*signersv1.KeyReply, error) {
	b, err := s.opened()
	if err != nil {
		return nil, err
	}
	return s.keep(b.Create(ctx, signers.KeyID(r.GetId()), signers.Algorithm(r.GetAlgorithm())))
}

// OpenKey implements signersv1.BackendServer.
func (s *server) OpenKey(ctx context.Context, r *signersv1.KeyRequest) (*signersv1.KeyReply, error) {
	b, err := s.opened()
	if err != nil {
		return nil, err
	}
	return s.keep(b.Open(ctx, signers.KeyID(r.GetId()), signers.Algorithm(r.GetAlgorithm())))
}

// AdoptKey implements signersv1.BackendServer.
func (s *server) AdoptKey(ctx context.Context, r *signersv1.AdoptRequest) (*signersv1.AdoptReply, error) {
	b, err := s.opened()
	if err != nil {
		return nil, err
	}
	adopter, ok := b.(signers.Adopter)
	if !ok {
		return nil, onTheWire(signers.ErrUnsupported)
	}
	a, err := adopter.Adopt(ctx, r.GetRef(), r.GetFingerprint(), signers.Algorithm(r.GetAlgorithm()))
	if err != nil {
		return nil, onTheWire(err)
	}
	key, err := s.keep(a.Key, nil)
	return &signersv1.AdoptReply{Id: string(a.ID), Key: key, Unattested: a.Unattested}, err
}

// keep gives a key a handle.
func (s *server) keep(k signers.Key, err error) (*signersv1.KeyReply, error) {
	if err != nil {
		return nil, onTheWire(err)
	}
	public, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return nil, onTheWire(err)
	}
	reply := &signersv1.KeyReply{Public: public}
	if a, ok := k.(signers.Attester); ok {
		reply.Attestation = a.Attestation()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	reply.Handle = uint64(len(s.keys))
	return reply, nil
}

// DestroyKey implements signersv1.BackendServer.
func (s *server) DestroyKey(ctx context.Context, r *signersv1.DestroyRequest) (*signersv1.DestroyReply, error) {
	b, err := s.opened()
	if err == nil {
		err = onTheWire(b.Destroy(ctx, signers.KeyID(r.GetId())))
	}
	return &signersv1.DestroyReply{}, err
}

// ListKeys implements signersv1.BackendServer.
func (s *server) ListKeys(ctx context.Context, _ *signersv1.ListRequest) (*signersv1.ListReply, error) {
	b, err := s.opened()
	if err != nil {
		return nil, err
	}
	lister, ok := b.(signers.Lister)
	if !ok {
		return nil, onTheWire(signers.ErrUnsupported)
	}
	ids, err := lister.List(ctx)
	reply := &signersv1.ListReply{}
	for _, id := range ids {
		reply.Ids = append(reply.Ids, string(id))
	}
	return reply, onTheWire(err)
}

// Report implements signersv1.BackendServer.
func (s *server) Report(context.Context, *signersv1.ReportRequest) (*signersv1.ReportReply, error) {
	b, err := s.opened()
	if err != nil {
		return nil, err
	}
	reporter, ok := b.(signers.Reporter)
	if !ok {
		return &signersv1.ReportReply{State: "ready"}, nil
	}
	r := reporter.Report()
	return &signersv1.ReportReply{
		State: r.State, Why: r.Why, Sessions: int32(r.Sessions), Busy: int32(r.Busy), //nolint:gosec // small numbers
		Waiting: int32(r.Waiting), Recoveries: r.Recoveries, //nolint:gosec // small numbers
	}, nil
}

// signTimeout bounds one signature in the process. The caller's own deadline is
// the daemon's to watch.
const signTimeout = 30 * time.Second

// Sign implements signersv1.BackendServer.
func (s *server) Sign(st grpc.BidiStreamingServer[signersv1.SignBatch, signersv1.SignatureBatch]) error {
	c := stream.Courier[*signersv1.SignItem, *signersv1.SignatureItem]{
		Recv: func() ([]*signersv1.SignItem, error) {
			batch, err := st.Recv()
			return batch.GetItems(), err
		},
		Send:   func(items []*signersv1.SignatureItem) error { return st.Send(&signersv1.SignatureBatch{Items: items}) },
		Handle: s.sign,
		Now:    s.now, Timeout: signTimeout,
	}
	err := c.Run(st.Context(), nil)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (s *server) sign(ctx context.Context, item *signersv1.SignItem) *signersv1.SignatureItem {
	out := &signersv1.SignatureItem{Id: item.GetId()}
	sig, err := s.signWith(ctx, item)
	if err != nil {
		out.Code, out.Message = uint32(code(err)), err.Error()
	}
	out.Signature = sig
	return out
}

func (s *server) signWith(ctx context.Context, item *signersv1.SignItem) ([]byte, error) {
	s.mu.RLock()
	n := item.GetKey()
	if n == 0 || n > uint64(len(s.keys)) {
		s.mu.RUnlock()
		return nil, signers.ErrNotFound
	}
	k := s.keys[n-1]
	s.mu.RUnlock()
	if d, ok := k.(signers.Doubter); ok && item.GetDoubt() {
		d.Doubt()
	}
	return k.Sign(ctx, item.GetMessage())
}
