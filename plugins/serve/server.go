package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

// A server answers the daemon.
type server struct {
	pluginsv1.UnimplementedIssuerServer
	issuer  plugins.Issuer
	inspect plugins.ForeignInspector // the issuer, or nil
	keys    wire.KeyReader
	log     *slog.Logger
	exit    func(code int)
}

func newServer(issuer plugins.Issuer) *server {
	s := &server{issuer: issuer, log: slog.New(slog.NewTextHandler(os.Stderr, nil)), exit: os.Exit}
	s.inspect, _ = issuer.(plugins.ForeignInspector)
	return s
}

// Describe implements pluginsv1.IssuerServer.
func (s *server) Describe(ctx context.Context, _ *pluginsv1.DescribeRequest) (*pluginsv1.DescribeReply, error) {
	d, err := s.issuer.Describe(ctx)
	if err != nil {
		return nil, err
	}
	reply := &pluginsv1.DescribeReply{Format: d.Format, Inspects: s.inspect != nil}
	for _, a := range d.Algorithms {
		reply.Algorithms = append(reply.Algorithms, string(a))
	}
	return reply, nil
}

// Prepare implements pluginsv1.IssuerServer. Batches are worked one after the
// other: drafts cost microseconds, handing them to other goroutines costs more.
func (s *server) Prepare(stream grpc.BidiStreamingServer[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch]) error {
	// The stream lives as long as the daemon's interest in us.
	defer s.exit(0)
	var batch pluginsv1.PrepareBatch
	for {
		err := stream.RecvMsg(&batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.answer(stream, batch.GetRequests()); err != nil {
			return err
		}
	}
}

// answer works a batch and sends the answers, in as few messages as the limit
// of the wire allows.
func (s *server) answer(stream grpc.ServerStreamingServer[pluginsv1.PrepareReplyBatch], requests []*pluginsv1.PrepareRequest) error {
	// Send encodes before it returns, so that one batch serves all messages.
	var out pluginsv1.PrepareReplyBatch
	size := 0
	for _, r := range requests {
		reply := s.reply(stream.Context(), r)
		n := proto.Size(reply) + wire.MaxOverhead
		if size+n > wire.MaxMessage {
			if err := stream.Send(&out); err != nil {
				return err
			}
			out.Replies, size = nil, 0
		}
		out.Replies, size = append(out.Replies, reply), size+n
	}
	return stream.Send(&out)
}

// reply answers one request: a draft or a refusal.
func (s *server) reply(ctx context.Context, r *pluginsv1.PrepareRequest) *pluginsv1.PrepareReply {
	draft, err := s.prepare(ctx, r)
	if err == nil {
		return &pluginsv1.PrepareReply{Id: r.GetId(), Draft: draft}
	}
	return &pluginsv1.PrepareReply{Id: r.GetId(), Refused: s.refusal(err)}
}

var errPanic = errors.New("the issuer panicked")

// prepare asks the issuer. A panic is answered as a refusal of this one
// request: an issuer is pure, so nothing is left half-done, and one caller's
// odd claims must not end the process under all the others.
func (s *server) prepare(ctx context.Context, r *pluginsv1.PrepareRequest) (_ *pluginsv1.Draft, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logPanic(p)
			err = errPanic
		}
	}()
	key, err := s.keys.Key(r.GetKey())
	if err != nil {
		return nil, err
	}
	d, err := s.issuer.Prepare(ctx, wire.Grant(r.GetGrant()), key)
	if err != nil {
		return nil, err
	}
	return wire.NewDraft(d)
}

// Inspect implements pluginsv1.IssuerServer.
func (s *server) Inspect(ctx context.Context, r *pluginsv1.InspectRequest) (*pluginsv1.InspectReply, error) {
	if s.inspect == nil {
		return nil, status.Error(codes.Unimplemented, "this issuer does not read back")
	}
	g, err := s.readBack(ctx, r)
	if err != nil {
		return &pluginsv1.InspectReply{Refused: s.refusal(err)}, nil
	}
	return &pluginsv1.InspectReply{Grant: g}, nil
}

func (s *server) readBack(ctx context.Context, r *pluginsv1.InspectRequest) (_ *pluginsv1.Grant, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logPanic(p)
			err = errPanic
		}
	}()
	key, err := s.keys.Key(r.GetKey())
	if err != nil {
		return nil, err
	}
	d, err := wire.Draft(r.GetDraft())
	if err != nil {
		return nil, err
	}
	g, err := s.inspect.Inspect(ctx, d, key, r.GetToken())
	if err != nil {
		return nil, err
	}
	m := &pluginsv1.Grant{}
	_, err = wire.PutGrant(m, g)
	return m, err
}

// logPanic leaves the value out unless the runtime made it: another may hold
// claims.
func (s *server) logPanic(value any) {
	what := "a value of the issuer's own"
	if e, ok := value.(runtime.Error); ok {
		what = e.Error()
	}
	s.log.Error("the issuer panicked", slog.String("panic", what), slog.String("stack", string(debug.Stack())))
}

// refusal is the text that the caller sees.
func (s *server) refusal(err error) string {
	if !errors.Is(err, plugins.ErrRefused) {
		// Not meant for callers, and perhaps full of claims.
		s.log.Error("the issuer failed", slog.Bool("panic", errors.Is(err, errPanic)))
		return "the issuer failed on this grant"
	}
	text := strings.ToValidUTF8(strings.TrimSuffix(err.Error(), ": "+plugins.ErrRefused.Error()), "?")
	for len(text) > wire.MaxText {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	if text == "" {
		return "no reason given"
	}
	return text
}
