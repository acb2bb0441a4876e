package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	goplugin "github.com/hashicorp/go-plugin/runner"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
	"github.com/signetd/signet/signers"
)

// A launching is a launch that may still fail.
type launching struct {
	p       *Process
	output  *output
	dir     string  // the socket's
	runner  *runner // nil until go-plugin asks for it
	session *session
}

// launch starts one issuer process and asks what it is. Whatever goes wrong,
// the process is dead and its directory gone when launch returns an error.
func (p *Process) launch(ctx context.Context) (_ *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.spec.StartTimeout)
	defer cancel()
	l := &launching{p: p, output: newOutput(p.spec)}
	defer func() {
		if err != nil {
			l.undo()
			err = l.explain(ctx, err)
		}
	}()
	config, addr, err := l.handshake(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.connect(config, addr); err != nil { //nolint:contextcheck // the connection outlives the launch
		return nil, err
	}
	if err := l.talk(ctx); err != nil {
		return nil, err
	}
	// From here on the end of ctx must not end the process.
	if !l.runner.keep() {
		return nil, ctx.Err()
	}
	l.session.run()
	return l.session, nil
}

// handshake has go-plugin start the process and read where it listens.
// go-plugin's own client would add two streams and a broker that nobody uses,
// and waits for ever for a process that does not answer: the rest is ours.
func (l *launching) handshake(ctx context.Context) (*plugin.ClientConfig, net.Addr, error) {
	config := &plugin.ClientConfig{
		// Each config is used once: go-plugin writes the certificates of this
		// start into it.
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: wire.Version, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{wire.Version: {}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     l.p.spec.StartTimeout,
		Stderr:           l.output.source(),
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off}),
		// go-plugin makes a directory in it that only this user may enter.
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: l.p.spec.TempDir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (goplugin.Runner, error) {
			l.dir, l.runner = dir, l.p.newRunner(ctx, cmd, dir)
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

// talk opens the stream and checks what the issuer says about itself.
func (l *launching) talk(ctx context.Context) error {
	s := l.session
	client := pluginsv1.NewIssuerClient(s.conn)
	reply, err := client.Describe(ctx, &pluginsv1.DescribeRequest{})
	if err != nil {
		return fmt.Errorf("describe: %s", clean(err.Error()))
	}
	if s.described, err = described(reply, l.p.spec.Format); err != nil {
		return err
	}
	// Opened now, so that the first caller does not wait for it.
	s.stream, err = client.Prepare(s.ctx) //nolint:contextcheck // the stream outlives the launch
	if err != nil {
		return fmt.Errorf("prepare: %s", clean(err.Error()))
	}
	return nil
}

// described reads a description and refuses what it cannot explain.
func described(reply *pluginsv1.DescribeReply, format string) (plugins.Description, error) {
	if reply.GetFormat() != format {
		return plugins.Description{}, fmt.Errorf("it makes %q, not %q", clean(reply.GetFormat()), format)
	}
	d := plugins.Description{Format: format}
	seen := map[string]bool{}
	for _, name := range reply.GetAlgorithms() {
		a := signers.Algorithm(name)
		if _, err := a.Params(); err != nil || seen[name] {
			return plugins.Description{}, fmt.Errorf("it names the algorithm %q, which is unknown or named twice", clean(name))
		}
		seen[name] = true
		d.Algorithms = append(d.Algorithms, a)
	}
	if len(d.Algorithms) == 0 {
		return plugins.Description{}, errors.New("it names no algorithm")
	}
	return d, nil
}

// connect makes the session, without its stream.
func (l *launching) connect(config *plugin.ClientConfig, addr net.Addr) error {
	ctx, cancel := context.WithCancel(l.p.ctx)
	spec := l.p.spec
	l.session = &session{
		child: l.runner.child, ctx: ctx, cancel: cancel, dir: l.dir, output: l.output,
		most: spec.MaxAnswer, tickEvery: max(spec.Deadline/ticks, time.Millisecond),
		wake: make(chan struct{}, 1), over: make(chan struct{}), calls: map[uint64]*call{},
	}
	l.session.watchdog = time.AfterFunc(time.Hour, l.session.watch)
	l.session.watchdog.Stop()
	conn, err := dial(config.TLSConfig, addr, l.runner.child.PID())
	if err != nil {
		return err
	}
	l.session.conn = conn
	l.session.running.Go(func() { drain(ctx, conn, l.output.source()) })
	return nil
}

// undo takes back what was done, however far it came.
func (l *launching) undo() {
	if l.session != nil {
		l.session.fail(errors.New("it did not start"))
		l.session.close()
	}
	if l.runner != nil && l.runner.child != nil {
		l.runner.child.Kill()
		<-l.runner.child.Ended()
	}
	l.output.close()
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// explain makes an error that a person can work with: a process that dies at
// once has mostly said why.
func (l *launching) explain(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if last := l.output.last(); last != "" {
		return fmt.Errorf("host: issuer %q did not start: %w\nhint: it wrote: %s", l.p.spec.Name, err, last)
	}
	return fmt.Errorf("host: issuer %q did not start: %w", l.p.spec.Name, err)
}
