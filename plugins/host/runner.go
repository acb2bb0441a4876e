package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/signetd/signet/plugins/host/sandbox"
)

// passed is every environment variable of go-plugin's that a process gets: what
// a server on a unix socket reads.
func (s Spec) passed() []string {
	return []string{s.Handshake.Key, "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_CLIENT_CERT", plugin.EnvUnixSocketDir}
}

// A runner is how go-plugin starts an issuer: through the sandbox. It
// implements runner.Runner of go-plugin.
type runner struct {
	starter starter
	command sandbox.Command
	dir     string // where the issuer may listen
	name    string
	stdout  *os.File
	stderr  *os.File
	last    *atomic.Pointer[sandbox.Child] // the launcher's
	child   *sandbox.Child
	ctx     context.Context // of the launch: the process ends with it
	keep    func() bool     // unties the process from ctx; false if that has ended
}

// newRunner takes from cmd the environment alone.
func (l *Launcher) newRunner(ctx context.Context, cmd *exec.Cmd, dir string) *runner {
	env := slices.DeleteFunc(slices.Clone(cmd.Env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(l.spec.passed(), name)
	})
	for _, name := range l.spec.Environment {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return &runner{
		starter: l.starter, last: &l.last, dir: dir, name: l.spec.Name, ctx: ctx,
		command: sandbox.Command{
			Trampoline: l.self, LaunchArgs: l.spec.LaunchArgs, Target: l.target, Args: l.spec.argv(), Env: env,
			Confine: l.spec.confinement(dir),
		},
	}
}

// confinement is what the process in dir is kept to.
func (s Spec) confinement(dir string) sandbox.Confinement {
	c := s.Confine
	c.Dir = dir
	c.Read = slices.Concat(c.Read, s.Runtime)
	return c
}

// Start starts the process; its output is read through pipes.
func (r *runner) Start(context.Context) (err error) {
	var ours, theirs [2]*os.File
	defer func() {
		closeAll(theirs[:])
		if err != nil {
			closeAll(ours[:])
		}
	}()
	for i := range ours {
		if ours[i], theirs[i], err = os.Pipe(); err != nil {
			return err
		}
	}
	r.command.Stdout, r.command.Stderr = theirs[0], theirs[1]
	if r.child, err = r.starter.Start(r.command); err != nil {
		return err
	}
	r.last.Store(r.child)
	r.stdout, r.stderr = ours[0], ours[1]
	r.keep = context.AfterFunc(r.ctx, r.child.Kill) //nolint:contextcheck // go-plugin's own context knows nothing of the launch's
	go r.hangUp()
	return nil
}

// lastWords is how long output is read after the process has ended.
const lastWords = 200 * time.Millisecond

// hangUp closes our ends of the pipes a little after the process: one that it
// forked and that got away may hold the other ends for ever.
func (r *runner) hangUp() {
	<-r.child.Ended()
	time.AfterFunc(lastWords, func() { closeAll([]*os.File{r.stdout, r.stderr}) })
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// Wait waits for the end of the process.
func (r *runner) Wait(context.Context) error {
	how := r.child.How()
	if how != "exit status 0" {
		return errors.New(how)
	}
	return nil
}

// Kill ends the process and what it forked in its group.
func (r *runner) Kill(context.Context) error {
	r.child.Kill()
	return nil
}

// Stdout is where the issuer writes its address.
func (r *runner) Stdout() io.ReadCloser { return r.stdout }

// Stderr is what the issuer logs.
func (r *runner) Stderr() io.ReadCloser { return r.stderr }

// Name is the issuer's name.
func (r *runner) Name() string { return r.name }

// ID is the process id.
func (r *runner) ID() string { return strconv.Itoa(r.child.PID()) }

// Diagnose adds nothing to go-plugin's own words.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost accepts an address only in the directory that the issuer was
// given: it must not send the daemon to another socket.
func (r *runner) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != filepath.Clean(r.dir) {
		return "", "", fmt.Errorf("it listens on %s %q, outside its directory", clean(network), clean(address))
	}
	return network, address, nil
}

// HostToPlugin is never asked: the daemon offers an issuer nothing.
func (r *runner) HostToPlugin(string, string) (string, string, error) {
	return "", "", errors.New("the daemon serves nothing to an issuer")
}
