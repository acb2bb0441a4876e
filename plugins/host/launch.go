package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	goplugin "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/signetd/signet/plugins/host/sandbox"
)

// A Launcher starts processes of one kind, each as often as it is asked to.
type Launcher struct {
	spec    Spec
	self    *os.File // our own copies
	target  *os.File
	starter starter
	close   func() // ends what is the starter's own
	last    atomic.Pointer[sandbox.Child]
}

// A starter is the daemon itself, or its launcher.
type starter interface {
	Start(c sandbox.Command) (*sandbox.Child, error)
}

// NewLauncher checks a spec and takes copies of what it runs. Close it after
// the last process has ended.
func NewLauncher(spec Spec) (*Launcher, error) {
	spec, err := spec.check()
	if err != nil {
		return nil, err
	}
	self, err := duplicate(spec.Self)
	if err != nil {
		return nil, err
	}
	target, err := spec.target()
	if err != nil {
		_ = self.Close()
		return nil, err
	}
	l := &Launcher{spec: spec, self: self, target: target, starter: spec.Launcher, close: func() {}}
	if spec.Confine.UID == 0 {
		own := sandbox.NewStarter(spec.Children)
		l.starter, l.close = own, own.Close
	}
	return l, nil
}

// Close gives back what NewLauncher took.
func (l *Launcher) Close() {
	l.close()
	_ = l.self.Close()
	_ = l.target.Close()
}

// PID is the process id of the one started last, 0 once it has ended.
func (l *Launcher) PID() int {
	child := l.last.Load()
	if child == nil {
		return 0
	}
	select {
	case <-child.Ended():
		return 0
	default:
		return child.PID()
	}
}

// Measures returns what contains each process.
func (l *Launcher) Measures() []sandbox.Measure { return l.spec.Confine.Measures(sandbox.Probe()) }

// A Link is a process that was started, and the one connection to it.
type Link struct {
	child   *sandbox.Child
	conn    *grpc.ClientConn
	output  *output
	dir     string // the socket's
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Conn is the connection. When it breaks, it is not made again.
func (l *Link) Conn() grpc.ClientConnInterface { return l.conn }

// PID is the process id.
func (l *Link) PID() int { return l.child.PID() }

// Ended is closed when the process has ended.
func (l *Link) Ended() <-chan struct{} { return l.child.Ended() }

// Kill ends the process.
func (l *Link) Kill() { l.child.Kill() }

// Close returns when nothing of the process is left. Kill it first.
func (l *Link) Close() {
	<-l.child.Ended()
	l.cancel()
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.running.Wait()
	l.output.close()
	_ = os.RemoveAll(l.dir)
}

// A launching is a launch that may still fail.
type launching struct {
	*Launcher
	output *output
	dir    string  // the socket's
	runner *runner // nil until go-plugin asks for it
}

// Start starts a process and connects to it. Whatever goes wrong, the process
// is dead and its directory gone when Start returns an error; it also ends
// with ctx, until Start has returned.
func (l *Launcher) Start(ctx context.Context) (*Link, error) {
	ctx, cancel := context.WithTimeout(ctx, l.spec.StartTimeout)
	defer cancel()
	n := &launching{Launcher: l, output: newOutput(l.spec)}
	link, err := n.start(ctx)
	if err == nil && !n.runner.keep() {
		// The end of ctx must not end the process from here on.
		err = ctx.Err()
	}
	if err != nil {
		n.undo(link)
		return nil, explain(ctx, l.spec.Name, n.output, err)
	}
	return link, nil
}

func (l *launching) start(ctx context.Context) (*Link, error) {
	config, addr, err := l.handshake(ctx)
	if err != nil {
		return nil, err
	}
	return l.connect(config, addr) //nolint:contextcheck // the connection outlives the launch
}

// handshake has go-plugin start the process and read where it listens.
// go-plugin's own client would add two streams and a broker that nobody uses,
// and waits for ever for a process that does not answer: the rest is ours.
func (l *launching) handshake(ctx context.Context) (*plugin.ClientConfig, net.Addr, error) {
	config := &plugin.ClientConfig{
		// Each config is used once: go-plugin writes the certificates of this
		// start into it.
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: l.spec.Handshake.Version, MagicCookieKey: l.spec.Handshake.Key, MagicCookieValue: l.spec.Handshake.Value,
		},
		VersionedPlugins: map[int]plugin.PluginSet{int(l.spec.Handshake.Version): {}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         !l.spec.PlainGRPC,
		SkipHostEnv:      true,
		StartTimeout:     l.spec.StartTimeout,
		Stderr:           l.output.source(),
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off}),
		// go-plugin makes a directory in it that only this user may enter.
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: l.spec.TempDir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (goplugin.Runner, error) {
			l.dir, l.runner = dir, l.newRunner(ctx, cmd, dir)
			return l.runner, nil
		},
	}
	addr, err := plugin.NewClient(config).Start()
	if err != nil {
		// The text may hold whatever the process wrote.
		return nil, nil, errors.New(clean(err.Error()))
	}
	return config, addr, nil
}

// connect makes the one connection.
func (l *launching) connect(config *plugin.ClientConfig, addr net.Addr) (*Link, error) {
	ctx, cancel := context.WithCancel(context.Background())
	link := &Link{child: l.runner.child, dir: l.dir, output: l.output, cancel: cancel}
	conn, err := dial(l.credentials(config.TLSConfig), addr, listener{link.PID(), l.spec.Confine.UID})
	if err != nil {
		return link, err
	}
	link.conn = conn
	link.running.Go(func() { drain(ctx, conn, l.output.source()) })
	return link, nil
}

// undo takes back what was done, however far it came.
func (l *launching) undo(link *Link) {
	if l.runner != nil && l.runner.child != nil {
		l.runner.child.Kill()
		<-l.runner.child.Ended()
	}
	if link != nil {
		link.Close()
	}
	l.output.close()
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// explain makes an error that a person can work with: a process that dies at
// once has mostly said why.
func explain(ctx context.Context, name string, from *output, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if last := from.last(); last != "" {
		return fmt.Errorf("host: %q did not start: %w\nhint: it wrote: %s", name, err, last)
	}
	return fmt.Errorf("host: %q did not start: %w", name, err)
}
