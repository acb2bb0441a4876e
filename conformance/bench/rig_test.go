package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"filippo.io/age"

	"github.com/signetd/signet/conformance/softhsm"
	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

// sessions is how many PKCS#11 sessions each side has.
const sessions = 2

// program is the daemon, built once for all benchmarks; shared is where the
// secrets are that all of them use.
var program, shared string

// token is the SoftHSM token that both sides use; Module is "" without SoftHSM.
var token softhsm.Token

func TestMain(m *testing.M) {
	if socket := os.Getenv(echoAt); socket != "" {
		panic(serveEcho(socket))
	}
	dir, err := os.MkdirTemp("", "signet-bench-")
	if err != nil {
		panic(err)
	}
	code := 1
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// prepare makes the token before any module is loaded, since SoftHSM reads
// its configuration's place from the environment.
func prepare(dir string) error {
	if !benchmarking() {
		return nil // a plain `go test` builds nothing
	}
	var err error
	if token, err = softhsm.Make(filepath.Join(dir, "softhsm")); err != nil {
		return err
	}
	if err := os.Setenv("SOFTHSM2_CONF", token.Conf); err != nil {
		return err
	}
	if err := secrets(dir); err != nil {
		return err
	}
	program = filepath.Join(dir, "signet")
	out, err := exec.Command("go", "build", "-o", program, "../../daemon/cmd/signet").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	return nil
}

// secrets writes the PIN and what opens softkey's files.
func secrets(dir string) error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	shared = dir
	return errors.Join(os.WriteFile(filepath.Join(dir, "pin"), []byte(token.PIN), 0o600),
		os.WriteFile(filepath.Join(dir, "secret"), []byte(id.String()), 0o600))
}

func benchmarking() bool {
	for _, a := range os.Args {
		if v, ok := strings.CutPrefix(a, "-test.bench="); ok && v != "" {
			return true
		}
	}
	return false
}

var configuration = template.Must(template.New("bench").Parse(`version: 1
state_dir: {{.Dir}}/state
runtime_dir: {{.Dir}}/run
backends:
{{- range $name, $backend := .Backends}}
  - {name: {{$name}}, {{$backend}}}
{{- end}}
keys:
{{- range .Keys}}
  - {name: {{.}}, backend: {{$.BackendOf .}}, algorithm: ecdsa-p256-sha256, format: jwt}
{{- end}}
{{- range .Foreign}}
  - {name: {{.}}, backend: main, algorithm: ecdsa-p256-sha256, format: {{.}}}
{{- end}}
profiles:
{{- range .Keys}}
  - name: {{.}}
    key: {{.}}
    issuer: https://signet.example
    type: at+jwt
    callers: [{uid: {{$.UID}}}]
    audiences: [https://api.example]
    scopes: [read, write]
    subjects: ["bench/*"]
    max_ttl: 15m
    claims: {allowed: [team], fixed: {client_id: bench}}
{{- end}}
{{- range .Foreign}}
  - name: {{.}}
    key: {{.}}
    issuer: https://signet.example
    type: application/at+cwt
    callers: [{uid: {{$.UID}}}]
    audiences: [https://api.example]
    subjects: ["ci/*"]
    max_ttl: 15m
{{- end}}
{{- if .Foreign}}
plugins:
{{- range .Foreign}}
  - {name: {{.}}, path: {{$.Hostile}}, sha256: {{$.HostileSum}}, args: [{{$.Mode}}, {{.}}], plain_grpc: true}
{{- end}}
issuers: {accept_missing: [uid, cgroup]}
{{- end}}
admins:
  - {uid: {{.UID}}, rights: [view, rotate]}
ledger: {unsafe_no_sync: {{.NoSync}}}
`))

// A setup is one kind of daemon to measure. Each back-end has a key and a
// profile of its own name; what is measured is the one called "main".
type setup struct {
	NoSync   bool
	Backends map[string]string           // name: the rest of its configuration
	Made     map[string]*ecdsa.PublicKey // more keys of main, which are in the token

	Foreign                   []string // formats of hostile plug-ins
	Mode, Hostile, HostileSum string   // what they do, and their program

	Dir string
	UID int
}

// Keys are the names of all keys.
func (s setup) Keys() []string {
	return slices.Concat(slices.Sorted(maps.Keys(s.Backends)), slices.Sorted(maps.Keys(s.Made)))
}

// BackendOf is where a key is.
func (s setup) BackendOf(key string) string {
	if _, ok := s.Backends[key]; ok {
		return key
	}
	return "main"
}

// softKey is a back-end with the options that are given.
func softKey(options string) string {
	return fmt.Sprintf("type: softkey, softkey: {dir: keys, secret: {file: %s/secret}%s}", shared, options)
}

// hsm is a back-end on the token that all share, through a module.
func hsm(module, isolation string, sessions int) string {
	return fmt.Sprintf("type: pkcs11, pkcs11: {module: %s, token_label: %s, pin: {file: %s/pin}, sessions: %d, isolation: %s, environment: [SOFTHSM2_CONF]}",
		module, token.Label, shared, sessions, isolation)
}

// A rig is a running daemon and a client of it.
type rig struct {
	client *client.Client
	cmd    *exec.Cmd
	dir    string
	env    []string          // of the daemon
	kids   map[string]string // key -> kid of its first version
}

// pids are the processes whose CPU time counts: the daemon and its issuers.
func (r *rig) pids(b *testing.B) []int {
	b.Helper()
	return append([]int{r.cmd.Process.Pid}, children(b, r.cmd.Process.Pid)...)
}

// children lists the processes a process has started.
func children(b *testing.B, pid int) []int {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		b.Fatal(err)
	}
	var pids []int
	for _, t := range tasks {
		data, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that has ended meanwhile
		}
		for _, f := range strings.Fields(string(data)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

// newRig starts a daemon as s says, with one key.
func newRig(b *testing.B, s setup) *rig {
	b.Helper()
	dir, err := os.MkdirTemp("", "sb") // short: a socket's path has a limit
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.Dir, s.UID = dir, os.Getuid()
	var text bytes.Buffer
	if err := configuration.Execute(&text, s); err != nil {
		b.Fatal(err)
	}
	write(b, filepath.Join(dir, "signet.yaml"), text.String())
	r := &rig{dir: dir, env: os.Environ(), kids: map[string]string{}}
	if s.Made != nil {
		r.record(b, s.Made)
	}
	r.start(b)
	for _, name := range append(slices.Collect(maps.Keys(s.Backends)), s.Foreign...) {
		r.makeKey(b, name)
	}
	return r
}

func write(b *testing.B, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// start starts the daemon and waits for its sockets.
func (r *rig) start(b *testing.B) {
	b.Helper()
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	r.cmd = r.serve()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.stop)
	path := filepath.Join(r.dir, "run", "issue.sock")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			break
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			b.Fatalf("the daemon did not start:\n%s", said)
		}
	}
	if r.client, err = client.Dial(path); err != nil {
		b.Fatal(err)
	}
}

func (r *rig) serve() *exec.Cmd {
	c := exec.Command(program, "serve", "--config", filepath.Join(r.dir, "signet.yaml"))
	c.Env = r.env
	return c
}

func (r *rig) stop() {
	if r.client != nil { // it may never have started
		_ = r.client.Close()
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.cmd.Wait()
}

func (r *rig) makeKey(b *testing.B, name string) {
	b.Helper()
	api, conn, err := client.DialAdmin(filepath.Join(r.dir, "run", "admin.sock"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	reply, err := api.CreateKey(context.Background(), &signetv1.CreateKeyRequest{Name: name, Reason: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	r.kids[name] = reply.GetKey().GetVersions()[0].GetKid()
}
