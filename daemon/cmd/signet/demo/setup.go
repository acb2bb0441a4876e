package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"text/template"
	"time"

	"filippo.io/age"

	"github.com/signetd/signet/conformance/softhsm"
	"github.com/signetd/signet/daemon/client"
)

// leadTime is short here so that a rotation can be watched: in earnest it is
// as long as verifiers may take to fetch a new key.
const leadTime = time.Second

var configuration = template.Must(template.New("signet.yaml").Parse(`version: 1
state_dir: {{.Dir}}/state
runtime_dir: {{.Dir}}/run
lifecycle: {lead_time: 1s, drain: 5s}
backends:
{{- if .Module}}
  - name: main
    type: pkcs11
    pkcs11: {module: {{.Module}}, token_label: {{.Label}}, pin: {file: {{.Dir}}/pin}}
{{- else}}
  - name: main
    type: softkey
    softkey: {dir: {{.Dir}}/keys, secret: {file: {{.Dir}}/secret}}
{{- end}}
keys:
  - {name: demo, backend: main, algorithm: ecdsa-p256-sha256, format: jwt}
profiles:
  - name: demo
    key: demo
    issuer: https://signet.example
    type: at+jwt
    callers: [{uid: {{.UID}}}]
    audiences: [https://api.example]
    scopes: [read, write]
    subjects: ["demo/*"]
    max_ttl: 15m
    claims: {fixed: {client_id: demo}}
  - name: payroll
    key: demo
    issuer: https://signet.example
    type: at+jwt
    callers: [{uid: {{.Other}}}]
    audiences: [https://payroll.example]
    subjects: ["payroll/*"]
    max_ttl: 5m
    claims: {fixed: {client_id: payroll}}
admins:
  - {uid: {{.UID}}, rights: [view, rotate, policy]}
`))

// settings fill the configuration.
type settings struct {
	Dir, Module, Label string
	UID, Other         int
}

// configure writes the configuration and the secret it names, and returns the
// environment that the daemon needs.
func (w *walk) configure() ([]string, error) {
	s := settings{Dir: w.dir, UID: os.Getuid(), Other: os.Getuid() + 1}
	env, err := w.keyStore(&s)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := configuration.Execute(&text, s); err != nil {
		return nil, err
	}
	return env, os.WriteFile(filepath.Join(w.dir, "signet.yaml"), text.Bytes(), 0o600)
}

// keyStore makes an empty place for keys: a directory that an age identity
// opens, or a SoftHSM token.
func (w *walk) keyStore(s *settings) ([]string, error) {
	switch w.Signer {
	case "softkey":
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return nil, err
		}
		return nil, os.WriteFile(filepath.Join(w.dir, "secret"), []byte(id.String()+"\n"), 0o600)
	case "pkcs11":
		token, err := softhsm.Make(filepath.Join(w.dir, "softhsm"))
		if err != nil {
			return nil, err
		}
		s.Module, s.Label = token.Module, token.Label
		return []string{"SOFTHSM2_CONF=" + token.Conf}, os.WriteFile(filepath.Join(w.dir, "pin"), []byte(token.PIN+"\n"), 0o600)
	}
	return nil, fmt.Errorf("signer %q is not known\nhint: softkey or pkcs11", w.Signer)
}

// start starts the daemon and waits until it answers.
func (w *walk) start(ctx context.Context) (figures, error) {
	env, err := w.configure()
	if err != nil {
		return nil, err
	}
	begun := w.Now()
	w.daemon, err = spawn(w.Program, filepath.Join(w.dir, "signet.yaml"), env)
	if err != nil {
		return nil, err
	}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	ms := w.Now().Sub(begun).Milliseconds()
	w.show("pid %d answers on %s/run/issue.sock after %d ms", w.daemon.cmd.Process.Pid, w.dir, ms)
	return figures{"ready_ms": ms}, nil
}

// connect waits for the daemon's two sockets, which appear when it is ready.
func (w *walk) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	run := filepath.Join(w.dir, "run")
	for !exists(filepath.Join(run, "issue.sock")) || !exists(filepath.Join(run, "admin.sock")) {
		select {
		case <-w.daemon.done:
			return errors.New("the daemon ended")
		case <-ctx.Done():
			return errors.New("the daemon did not open its sockets in 20 s")
		case <-time.After(5 * time.Millisecond):
		}
	}
	var err error
	if w.issuer, err = client.Dial(filepath.Join(run, "issue.sock")); err != nil {
		return err
	}
	if w.admin, w.conn, err = client.DialAdmin(filepath.Join(run, "admin.sock")); err != nil {
		return err
	}
	_, _, err = w.issuer.PublicKeys(ctx, "")
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A process is the daemon, with what it said last.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  lastBytes
}

// spawn starts the daemon with its log kept, to be shown only if a step fails.
func spawn(program, config string, env []string) (*process, error) {
	p := &process{cmd: exec.Command(program, "serve", "--config", config), done: make(chan struct{})} //nolint:gosec // our own binary
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the daemon to end and waits until it has.
func (w *walk) stop(ctx context.Context) (figures, error) {
	if err := w.daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	select {
	case <-w.daemon.done:
		return nil, w.daemon.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(20 * time.Second):
		return nil, errors.New("the daemon did not end in 20 s")
	}
}

func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail is the daemon's last words, for a step that failed.
func (p *process) tail() string {
	if p == nil {
		return ""
	}
	if said := p.log.String(); said != "" {
		return "\nthe daemon's log:\n" + said
	}
	return ""
}

// lastBytes keeps the last 8 KiB written to it.
type lastBytes struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - 8<<10; over > 0 {
		l.buf = l.buf[over:]
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
