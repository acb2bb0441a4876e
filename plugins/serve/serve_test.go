package serve

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
	"github.com/signetd/signet/signers"
)

// TestMain lets this binary be an issuer that a person starts by hand.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "issuer" {
		Main(stub{})
		return
	}
	os.Exit(m.Run())
}

// stub drafts as many bytes as the serial says; a subject is its error.
type stub struct{}

func (stub) Describe(context.Context) (plugins.Description, error) {
	return plugins.Description{Format: "test", Algorithms: []signers.Algorithm{signers.Ed25519}}, nil
}

func (stub) Prepare(_ context.Context, g plugins.Grant, _ plugins.VerifyingKey) (plugins.Draft, error) {
	if g.Subject != "" {
		return plugins.Draft{}, fmt.Errorf("%s: %w", g.Subject, plugins.ErrRefused)
	}
	return plugins.Draft{ToBeSigned: make([]byte, g.Serial)}, nil
}

// A stream hands out batches and keeps the answers.
type stream struct {
	grpc.BidiStreamingServer[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch]
	in   []*pluginsv1.PrepareBatch
	end  error
	out  []*pluginsv1.PrepareReplyBatch
	fail error
}

func (s *stream) Context() context.Context { return context.Background() }

func (s *stream) RecvMsg(m any) error {
	if len(s.in) == 0 {
		return s.end
	}
	proto.Reset(m.(proto.Message))
	proto.Merge(m.(proto.Message), s.in[0])
	s.in = s.in[1:]
	return nil
}

func (s *stream) Send(m *pluginsv1.PrepareReplyBatch) error {
	s.out = append(s.out, proto.CloneOf(m))
	return s.fail
}

func newTestServer() (*server, *[]int) {
	var exits []int
	return &server{issuer: stub{}, log: slog.New(slog.DiscardHandler), exit: func(code int) { exits = append(exits, code) }}, &exits
}

var key, _ = new(wire.KeyWriter).Message(plugins.VerifyingKey{ID: "k", Algorithm: signers.Ed25519, Public: publicKey()})

func request(id uint64, g *pluginsv1.Grant) *pluginsv1.PrepareRequest {
	return &pluginsv1.PrepareRequest{Id: id, Grant: g, Key: key}
}

func TestTheIssuerEndsWithTheStream(t *testing.T) {
	for _, s := range []*stream{
		{end: io.EOF},
		{end: errors.New("connection reset")},
		{in: []*pluginsv1.PrepareBatch{{Requests: []*pluginsv1.PrepareRequest{request(1, nil)}}}, fail: io.ErrClosedPipe},
	} {
		server, exits := newTestServer()
		if _ = server.Prepare(s); len(*exits) != 1 || (*exits)[0] != 0 {
			t.Errorf("Prepare, stream ends with %v: got exits %v, want one of 0", errors.Join(s.end, s.fail), *exits)
		}
	}
}

func TestAnswersAreCutBySize(t *testing.T) {
	batch := &pluginsv1.PrepareBatch{}
	for id := range uint64(wire.MaxBatch) {
		batch.Requests = append(batch.Requests, request(id+1, &pluginsv1.Grant{Serial: wire.MaxDraft - id}))
	}
	s := &stream{in: []*pluginsv1.PrepareBatch{batch}, end: io.EOF}
	server, _ := newTestServer()
	if err := server.Prepare(s); err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for _, m := range s.out {
		if n := proto.Size(m); n > wire.MaxMessage || len(m.GetReplies()) == 0 {
			t.Errorf("a message of %d bytes with %d answers, want some in at most %d", n, len(m.GetReplies()), wire.MaxMessage)
		}
		for _, r := range m.GetReplies() {
			if r.GetId() != next || len(r.GetDraft().GetToBeSigned()) != int(wire.MaxDraft-next+1) {
				t.Errorf("answer %d: got %d with %d bytes", next, r.GetId(), len(r.GetDraft().GetToBeSigned()))
			}
			next++
		}
	}
	if next != wire.MaxBatch+1 {
		t.Errorf("got %d answers, want %d", next-1, wire.MaxBatch)
	}
}

func TestRefusals(t *testing.T) {
	rows := []struct {
		name    string
		request *pluginsv1.PrepareRequest
		want    string
	}{
		{"a reason", request(1, &pluginsv1.Grant{Subject: "no scope"}), "no scope"},
		{"broken text", request(1, &pluginsv1.Grant{Subject: "a\xff"}), "a?"},
		{"a long reason", request(1, &pluginsv1.Grant{Subject: strings.Repeat("é", 500)}), strings.Repeat("é", wire.MaxText/2)},
		{"no reason", request(1, &pluginsv1.Grant{Subject: ""}), ""},
		{"a draft over the limit", request(1, &pluginsv1.Grant{Serial: wire.MaxDraft + 1}), "the limit is"},
		{"no key", &pluginsv1.PrepareRequest{Id: 1}, "the issuer failed on this grant"},
	}
	server, _ := newTestServer()
	for _, row := range rows {
		r := server.reply(context.Background(), row.request)
		if !strings.Contains(r.GetRefused(), row.want) || (row.want != "") != (r.GetDraft() == nil) {
			t.Errorf("%s: got %v, want a refusal with %q", row.name, r, row.want)
		}
		if len(r.GetRefused()) > wire.MaxText || !utf8.ValidString(r.GetRefused()) {
			t.Errorf("%s: got %q, want short UTF-8", row.name, r.GetRefused())
		}
	}
	if got := server.refusal(fmt.Errorf(": %w", plugins.ErrRefused)); got == "" {
		t.Error("a refusal without a reason: got no text, which the host takes for a fault")
	}
}

func TestStartedByHand(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "issuer")
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "This binary is a plugin") {
		t.Errorf("started by hand: got %v and %q, want status 1 and a sentence", err, out)
	}
}

func publicKey() ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
}
