package host

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/serve"
	"github.com/signetd/signet/plugins/wire"
	"github.com/signetd/signet/signers"
)

// issue runs one of the issuers of these tests.
func issue(mode string) {
	if start, ok := starts[mode]; ok {
		start()
		return
	}
	if read, ok := mirrors[mode]; ok {
		read()
		return
	}
	if d, ok := descriptions[mode]; ok {
		serve.Main(stub{describe: d})
		return
	}
	if answer, ok := answers[mode]; ok {
		serveRaw(&raw{answer: answer})
		return
	}
	fmt.Fprintln(os.Stderr, "no such mode:", mode)
	os.Exit(2)
}

// starts are issuers that are odd before they answer.
var starts = map[string]func(){
	"honest":      func() { serve.Main(stub{describe: honest}) },
	"exit":        func() { fmt.Fprintln(os.Stderr, "no licence\x1b[2J found"); os.Exit(3) },
	"silent":      func() { time.Sleep(time.Hour) },
	"garbage":     func() { fmt.Println("\x1b[31mhello|there"); time.Sleep(time.Hour) },
	"endless":     func() { fmt.Print(strings.Repeat("x", 1<<20)); time.Sleep(time.Hour) },
	"tcp":         func() { claim("tcp", "127.0.0.1:1", "grpc", longEnough) },
	"elsewhere":   func() { claim("unix", "/run/signet/admin.sock", "grpc", longEnough) },
	"climbing":    func() { claim("unix", os.Getenv(plugin.EnvUnixSocketDir)+"/../x", "grpc", longEnough) },
	"netrpc":      func() { claim("unix", os.Getenv(plugin.EnvUnixSocketDir)+"/x", "netrpc", longEnough) },
	"no cert":     func() { claim("unix", listen(), "grpc", "") },
	"bad cert":    func() { claim("unix", listen(), "grpc", longEnough) },
	"impostor":    impostor,
	"fork":        forkAndServe,
	"fork escape": func() { forkAway(); serve.Main(stub{describe: honest}) },
	"once":        func() { onlyOnce(); serve.Main(stub{describe: honest}) },
	"sleep":       func() { time.Sleep(time.Hour) },
	"flood": func() {
		for range 20_000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("flood ", 85))
		}
		_, _ = os.Stderr.Write(make([]byte, 1<<20)) // one long line that is not text
		serve.Main(stub{describe: honest})
	},
}

const longEnough = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// claim writes a handshake.
func claim(network, address, protocol, cert string) {
	fmt.Printf("%d|%d|%s|%s|%s|%s\n", plugin.CoreProtocolVersion, wire.Version, network, address, protocol, cert)
	time.Sleep(time.Hour)
}

func listen() string {
	path := filepath.Join(os.Getenv(plugin.EnvUnixSocketDir), "s")
	if _, err := net.Listen("unix", path); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return path
}

// impostor hands on the handshake of another process, which does the work.
func impostor() {
	cmd := exec.Command("/proc/self/exe", "issuer", "honest")
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		os.Exit(4)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	fmt.Print(line)
	time.Sleep(time.Hour)
}

// eaten is what a hungry issuer holds on to.
var eaten [][]byte

// forked is the number of the process that forkAway or forkAndServe started.
var forked int

func forkAndServe() {
	cmd := exec.Command("/proc/self/exe", "issuer", "sleep")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if cmd.Start() != nil {
		os.Exit(4)
	}
	forked = cmd.Process.Pid
	serve.Main(stub{describe: honest})
}

// forkAway leaves a process behind that holds on to our output.
func forkAway() {
	cmd := exec.Command("/proc/self/exe", "issuer", "sleep")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Start() != nil {
		os.Exit(4)
	}
	forked = cmd.Process.Pid
}

// onlyOnce ends the process if it is not the first. An issuer may not write a
// file's content, but an empty file is enough to remember.
func onlyOnce() {
	mark := filepath.Join(filepath.Dir(os.Getenv(plugin.EnvUnixSocketDir)), "mark")
	if _, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		os.Exit(5)
	}
}

// A stub is an issuer that keeps to the protocol. What it does is said by the
// grant's subject.
type stub struct {
	describe plugins.Description
}

var both = []signers.Algorithm{signers.Ed25519, signers.ECDSAP256}

var honest = plugins.Description{Format: "test", Algorithms: both}

var descriptions = map[string]plugins.Description{
	"other format":      {Format: "jwt\x1b[2J", Algorithms: both},
	"no algorithm":      {Format: "test"},
	"unknown algorithm": {Format: "test", Algorithms: []signers.Algorithm{"none"}},
	"algorithm twice":   {Format: "test", Algorithms: []signers.Algorithm{signers.Ed25519, signers.Ed25519}},
}

func (s stub) Describe(context.Context) (plugins.Description, error) { return s.describe, nil }

func (s stub) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	body := g.Subject + " by " + k.ID
	switch g.Subject {
	case "refuse":
		return plugins.Draft{}, fmt.Errorf("subject %q cannot be carried: %w", g.Subject, plugins.ErrRefused)
	case "refuse at length":
		return plugins.Draft{}, fmt.Errorf("\x1b[2J\n%s: %w", strings.Repeat("é", 10_000), plugins.ErrRefused)
	case "fail":
		return plugins.Draft{}, fmt.Errorf("cannot read %s", g.Claims)
	case "panic":
		panic("claims: " + string(g.Claims))
	case "index":
		return plugins.Draft{ToBeSigned: []byte{g.Claims[len(g.Claims)]}}, nil
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "forked":
		body = fmt.Sprint(forked)
	case "report":
		report, err := json.Marshal(whatIHave())
		return plugins.Draft{ToBeSigned: report, Frame: frame()}, err
	case "size":
		body = strings.Repeat("x", int(g.Serial))
	case "chatter":
		for range 10_000 {
			fmt.Println(strings.Repeat("out ", 30))
			fmt.Fprintln(os.Stderr, strings.Repeat("err ", 30))
		}
	}
	return plugins.Draft{ToBeSigned: []byte(body), Frame: frame()}, nil
}

func frame() plugins.Frame {
	return plugins.Frame{Prefix: []byte("p"), Form: plugins.Raw, Encoding: plugins.Base64URL}
}

// holdings is what an issuer has.
type holdings struct {
	Env, Files []string
	Dir        string
	Dumpable   int
}

func whatIHave() holdings {
	h := holdings{}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		h.Env = append(h.Env, name)
	}
	h.Dir, _ = os.Getwd()
	h.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			h.Files = append(h.Files, link)
		}
	}
	return h
}

// raw is an issuer that answers as it likes.
type raw struct {
	pluginsv1.UnimplementedIssuerServer
	answer func(send func(...*pluginsv1.PrepareReply), r *pluginsv1.PrepareRequest)
}

// Describe is honest.
func (*raw) Describe(context.Context, *pluginsv1.DescribeRequest) (*pluginsv1.DescribeReply, error) {
	return &pluginsv1.DescribeReply{Format: "test", Algorithms: []string{string(signers.Ed25519)}}, nil
}

func (r *raw) Prepare(stream grpc.BidiStreamingServer[pluginsv1.PrepareBatch, pluginsv1.PrepareReplyBatch]) error {
	send := func(replies ...*pluginsv1.PrepareReply) {
		_ = stream.Send(&pluginsv1.PrepareReplyBatch{Replies: replies})
	}
	if r.answer == nil {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, q := range batch.GetRequests() {
			r.answer(send, q)
		}
	}
}

// serveRaw is serve.Main without its manners.
func serveRaw(r pluginsv1.IssuerServer) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: wire.Version, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue,
		},
		Plugins:    plugin.PluginSet{"issuer": rawEnd{r: r}},
		GRPCServer: plugin.DefaultGRPCServer,
	})
}

type rawEnd struct {
	plugin.NetRPCUnsupportedPlugin
	r pluginsv1.IssuerServer
}

func (e rawEnd) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginsv1.RegisterIssuerServer(s, e.r)
	return nil
}

func (rawEnd) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// held are requests that some of the answers below keep back.
var held []*pluginsv1.PrepareRequest

type sender = func(...*pluginsv1.PrepareReply)

// answers are issuers that break the protocol, but for "good" as subject.
var answers = map[string]func(sender, *pluginsv1.PrepareRequest){
	"die on stream": nil,
	"unasked": func(send sender, r *pluginsv1.PrepareRequest) {
		send(reply(r, r.GetId()+1000))
		send(reply(r, r.GetId()))
	},
	"zero id":       func(send sender, r *pluginsv1.PrepareRequest) { send(reply(r, 0)) },
	"twice":         func(send sender, r *pluginsv1.PrepareRequest) { send(reply(r, r.GetId())); send(reply(r, r.GetId())) },
	"twice at once": func(send sender, r *pluginsv1.PrepareRequest) { send(reply(r, r.GetId()), reply(r, r.GetId())) },
	"empty":         func(send sender, r *pluginsv1.PrepareRequest) { send(&pluginsv1.PrepareReply{Id: r.GetId()}) },
	"both": func(send sender, r *pluginsv1.PrepareRequest) {
		both := reply(r, r.GetId())
		both.Refused = "no"
		send(both)
	},
	"form 257": func(send sender, r *pluginsv1.PrepareRequest) {
		send(&pluginsv1.PrepareReply{Id: r.GetId(), Draft: &pluginsv1.Draft{Form: 257}})
	},
	"giant": func(send sender, r *pluginsv1.PrepareRequest) {
		giant := reply(r, r.GetId())
		giant.Draft.ToBeSigned = make([]byte, 8<<20)
		send(giant)
	},
	"many": func(send sender, r *pluginsv1.PrepareRequest) {
		for range 100_000 {
			send(reply(r, r.GetId()))
		}
	},
	"never": func(sender, *pluginsv1.PrepareRequest) {},
	// Keeps everything back until it is told to release it, newest first.
	"hold": func(send sender, r *pluginsv1.PrepareRequest) {
		switch r.GetGrant().GetSubject() {
		case "ping":
			send(reply(r, r.GetId()))
		case "release":
			for i := len(held) - 1; i >= 0; i-- {
				send(reply(held[i], held[i].GetId()))
			}
			held = nil
			send(reply(r, r.GetId()))
		default:
			held = append(held, r)
		}
	},
	// Says whether others may look into it.
	"dumpable": func(send sender, r *pluginsv1.PrepareRequest) {
		n, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		r.GetGrant().Subject = fmt.Sprint(n)
		send(reply(r, r.GetId()))
	},
	// Takes ten gigabytes when it is told to.
	"hungry": func(send sender, r *pluginsv1.PrepareRequest) {
		if r.GetGrant().GetSubject() == "eat" {
			for range 10 {
				b := make([]byte, 1<<30)
				for i := 0; i < len(b); i += 4096 {
					b[i] = 1
				}
				eaten = append(eaten, b)
			}
		}
		send(reply(r, r.GetId()))
	},
	// Answers each of two with the other's draft.
	"swap": func(send sender, r *pluginsv1.PrepareRequest) {
		if held = append(held, r); len(held) == 2 {
			send(reply(held[0], held[1].GetId()), reply(held[1], held[0].GetId()))
		}
	},
}

func reply(r *pluginsv1.PrepareRequest, id uint64) *pluginsv1.PrepareReply {
	return &pluginsv1.PrepareReply{Id: id, Draft: &pluginsv1.Draft{
		ToBeSigned: []byte(r.GetGrant().GetSubject()), Form: uint32(plugins.Raw), Encoding: uint32(plugins.Binary),
	}}
}
