package foreign

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/conformance/softhsm"
	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

// built is where the programs are, built once.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "signet-foreign-")
	if err != nil {
		panic(err)
	}
	built = dir
	for _, program := range []string{"daemon/cmd/signet", "examples/issuer-cwt/cmd/issuer-cwt", "conformance/foreign/cmd/hostile"} {
		if out, err := exec.Command("go", "build", "-o", dir+"/", "../../"+program).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", program, err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A plugin is one of the configuration's plug-ins, with a key and a profile.
type plugin struct {
	format  string
	lines   string // of its entry, after name
	backend string
	blind   bool
}

// A rig is a daemon with plug-ins, and a JWT profile beside them.
type rig struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	said   *syncBuffer
	client *client.Client
	shim   *shim.Shim // in front of the back-end "hsm", if there is one
	hsm    string     // its configuration
	env    []string
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "sf") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &rig{t: t, dir: dir, said: &syncBuffer{}, env: os.Environ()}
}

// counted adds a back-end "hsm" whose calls are counted outside the daemon.
func (r *rig) counted() {
	r.t.Helper()
	token, err := softhsm.Make(filepath.Join(r.dir, "hsm"))
	if errors.Is(err, softhsm.ErrMissing) && os.Getenv("REQUIRE_SOFTHSM") == "" {
		r.t.Skip(err)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.shim, err = shim.Make(filepath.Join(r.dir, "hsm"), token.Module)
	if errors.Is(err, shim.ErrCompiler) && os.Getenv("REQUIRE_SOFTHSM") == "" {
		r.t.Skip(err)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.env = append(r.env, "SOFTHSM2_CONF="+token.Conf)
	pin := filepath.Join(r.dir, "pin")
	r.write(pin, token.PIN)
	r.hsm = fmt.Sprintf("  - {name: hsm, type: pkcs11, pkcs11: {module: %s, token_label: %s, pin: {file: %s}}, health: {off: true}}\n", r.shim.Module, token.Label, pin)
}

func (r *rig) write(path, text string) {
	r.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// configure writes the configuration.
func (r *rig) configure(plugins ...plugin) {
	r.t.Helper()
	var c strings.Builder
	fmt.Fprintf(&c, "version: 1\nstate_dir: %s/state\nruntime_dir: %s/run\nbackends:\n  - {name: main, type: softkey, softkey: {dir: %s/keys, secret: {file: %s/secret}}, health: {off: true}}\n%s", r.dir, r.dir, r.dir, r.dir, r.hsm)
	c.WriteString("keys:\n  - {name: jwt, backend: main, algorithm: ecdsa-p256-sha256, format: jwt}\n")
	for _, p := range plugins {
		fmt.Fprintf(&c, "  - {name: %s, backend: %s, algorithm: ecdsa-p256-sha256, format: %s, allow_blind_signing: %t}\n", p.format, p.backend, p.format, p.blind)
	}
	c.WriteString("profiles:\n")
	for _, p := range append([]plugin{{format: "jwt"}}, plugins...) {
		kind := "application/at+cwt"
		if p.format == "jwt" {
			kind = "example+jwt"
		}
		fmt.Fprintf(&c, `  - name: %[1]s
    key: %[1]s
    issuer: https://signet.example
    type: %[3]s
    callers: [{uid: %[2]d}]
    audiences: [https://api.example, https://two.example]
    scopes: [read, write]
    subjects: ["ci/*"]
    max_ttl: 15m
    claims: {allowed: [team]}
`, p.format, os.Getuid(), kind)
	}
	c.WriteString("plugins:\n")
	for _, p := range plugins {
		fmt.Fprintf(&c, "  - {name: %s, %s}\n", p.format, p.lines)
	}
	fmt.Fprintf(&c, "admins:\n  - {uid: %d, rights: [view, rotate]}\nissuers: {deadline: 2s, memory: 256MiB, accept_missing: [uid, cgroup]}\n", os.Getuid())
	r.write(filepath.Join(r.dir, "signet.yaml"), c.String())
	if _, err := os.Stat(filepath.Join(r.dir, "secret")); err != nil {
		secret := make([]byte, 24)
		_, _ = rand.Read(secret)
		r.write(filepath.Join(r.dir, "secret"), base64.StdEncoding.EncodeToString(secret))
	}
}

// start starts the daemon; it returns what it wrote if it ends instead.
func (r *rig) start() (string, bool) {
	r.t.Helper()
	r.said = &syncBuffer{}
	r.cmd = exec.Command(filepath.Join(built, "signet"), "serve", "--config", filepath.Join(r.dir, "signet.yaml"))
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = r.env, r.said, r.said
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = r.cmd.Wait(); close(ended) }()
	r.t.Cleanup(func() { _ = r.cmd.Process.Signal(syscall.SIGTERM); <-ended })
	c, err := client.Dial(filepath.Join(r.dir, "run", "issue.sock"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	for begun := time.Now(); time.Since(begun) < 2*time.Minute; {
		if _, _, err := c.PublicKeys(r.t.Context(), ""); err == nil {
			r.client = c
			return "", true
		}
		select {
		case <-ended:
			return r.said.String(), false
		case <-time.After(10 * time.Millisecond):
		}
	}
	r.t.Fatalf("the daemon does not answer:\n%s", r.said)
	return "", false
}

// mustStart starts the daemon and makes the keys that are not there yet.
func (r *rig) mustStart(keys ...string) {
	r.t.Helper()
	if said, ok := r.start(); !ok {
		r.t.Fatalf("the daemon did not start:\n%s", said)
	}
	api, conn, err := client.DialAdmin(filepath.Join(r.dir, "run", "admin.sock"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range append([]string{"jwt"}, keys...) {
		if _, err := api.CreateKey(r.t.Context(), &signetv1.CreateKeyRequest{Name: name, Reason: "test"}); err != nil {
			r.t.Fatalf("key %s: %v", name, err)
		}
	}
}

func (r *rig) issue(ctx context.Context, profile, subject string) (client.Token, error) {
	return r.client.Issue(ctx, client.Request{
		Profile: profile, Subject: subject, Audience: []string{"https://api.example"}, Scope: []string{"read"},
		Claims: []byte(`{"team":"x"}`), TTL: 5 * time.Minute,
	})
}

// signet runs a command and returns its output and whether it went well.
func (r *rig) signet(args ...string) (string, bool) {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(built, "signet"), args...)
	cmd.Env = append(r.env, "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// pinned is the entry of a program in the configuration.
func (r *rig) pinned(path string, args ...string) string {
	r.t.Helper()
	sum, ok := r.signet("plugin", "digest", path)
	if _, err := hex.DecodeString(strings.TrimSpace(sum)); !ok || err != nil {
		r.t.Fatalf("signet plugin digest %s: %s", path, sum)
	}
	return fmt.Sprintf("path: %s, sha256: %s, args: [%s]", path, strings.TrimSpace(sum), strings.Join(args, ", "))
}
