// Command hostile is a plug-in that was taken over: asked for a token of the
// subject ci/attack-N it does what its mode says; any other it drafts honestly,
// as a CWT. Its second process reads back honestly.
//
//	hostile MODE FORMAT [DIR [UNIX-TIME]]
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	cwt "github.com/signetd/signet/examples/issuer-cwt"
	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

func main() {
	h := &hostile{mode: arg(1), format: arg(2), dir: arg(3)}
	if after, err := strconv.ParseInt(arg(4), 10, 64); err == nil && h.mode == "garbage" && time.Now().Unix() > after {
		fmt.Print(strings.Repeat("\x1b[2J|||\x00", 1<<16))
		select {}
	}
	// Plain gRPC, and none of serve.Main's manners.
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(2*wire.MaxMessage), grpc.MaxSendMsgSize(1<<30))
	pluginsv1.RegisterIssuerServer(s, h)
	fmt.Printf("1|1|unix|%s|grpc\n", path)
	_ = s.Serve(l)
}

func arg(i int) string {
	if i < len(os.Args) {
		return os.Args[i]
	}
	return ""
}

type hostile struct {
	pluginsv1.UnimplementedIssuerServer
	mode, format, dir string
	keys              wire.KeyReader
	held              *pluginsv1.PrepareReply
	mu                sync.Mutex
	stream            grpc.BidiStreamingServer[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch]
}

// Describe is honest; one that is mute does not read back.
func (h *hostile) Describe(ctx context.Context, _ *pluginsv1.DescribeRequest) (*pluginsv1.DescribeReply, error) {
	d, err := cwt.New().Describe(ctx)
	reply := &pluginsv1.DescribeReply{Format: h.format, Inspects: h.mode != "mute"}
	for _, a := range d.Algorithms {
		reply.Algorithms = append(reply.Algorithms, string(a))
	}
	return reply, err
}

// Inspect is honest.
func (h *hostile) Inspect(ctx context.Context, r *pluginsv1.InspectRequest) (*pluginsv1.InspectReply, error) {
	k, err := h.keys.Key(r.GetKey())
	if err != nil {
		return nil, err
	}
	d, err := wire.Draft(r.GetDraft())
	if err != nil {
		return nil, err
	}
	g, err := cwt.New().Inspect(ctx, d, k, r.GetToken())
	if err != nil {
		return &pluginsv1.InspectReply{Refused: err.Error()}, nil //nolint:nilerr // a refusal is an answer
	}
	m := &pluginsv1.Grant{}
	_, err = wire.PutGrant(m, g)
	return &pluginsv1.InspectReply{Grant: m}, err
}

// Prepare is honest until it is told to attack.
func (h *hostile) Prepare(stream grpc.BidiStreamingServer[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch]) error {
	defer os.Exit(0)
	h.stream = stream
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, r := range batch.GetRequests() {
			h.answer(r)
		}
	}
}

func (h *hostile) answer(r *pluginsv1.PrepareRequest) {
	n, attack := strings.CutPrefix(r.GetGrant().GetSubject(), "ci/attack-")
	if !attack {
		h.send(h.honest(r))
		return
	}
	number, _ := strconv.Atoi(n)
	if do, ok := attacks[h.mode]; ok {
		do(h, r, number)
		return
	}
	fmt.Fprintln(os.Stderr, "no such mode:", h.mode)
	os.Exit(2)
}

func (h *hostile) send(replies ...*pluginsv1.PrepareReply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.stream.Send(&pluginsv1.PrepareReplyBatch{Replies: replies})
}

// honest is what an honest issuer would answer.
func (h *hostile) honest(r *pluginsv1.PrepareRequest) *pluginsv1.PrepareReply {
	d, err := h.draft(wire.Grant(r.GetGrant()), r.GetKey())
	if err != nil {
		return &pluginsv1.PrepareReply{Id: r.GetId(), Refused: err.Error()}
	}
	return reply(r.GetId(), d)
}

func (h *hostile) draft(g plugins.Grant, key *pluginsv1.VerifyingKey) (plugins.Draft, error) {
	k, err := h.keys.Key(key)
	if err != nil {
		return plugins.Draft{}, err
	}
	return cwt.New().Prepare(context.Background(), g, k)
}

func reply(id uint64, d plugins.Draft) *pluginsv1.PrepareReply {
	f := d.Frame
	return &pluginsv1.PrepareReply{Id: id, Draft: &pluginsv1.Draft{
		ToBeSigned: d.ToBeSigned, Prefix: f.Prefix, Head: f.Head, Tail: f.Tail, Suffix: f.Suffix,
		Form: uint32(f.Form), Encoding: uint32(f.Encoding),
	}}
}
