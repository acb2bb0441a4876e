package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/plugins/jwt"
)

// asDaemon is set for a copy of this test binary that is to be signet.
const asDaemon = "SIGNET_TEST_RUN"

// A trial is a ring of its own and the daemon that runs on it.
type trial struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	said   bytes.Buffer
	client *client.Client
}

// newTrial writes a configuration, starts a daemon on it and makes its keys.
func newTrial(t *testing.T, edits ...string) *trial {
	t.Helper()
	dir, err := os.MkdirTemp("", "sg") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // as /run is: a plug-in with a uid of its own goes through
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"init", dir}, &bytes.Buffer{}, os.Stderr); code != 0 {
		t.Fatalf("init: exit status %d", code)
	}
	tr := &trial{t: t, dir: dir}
	names := tr.edit(edits)
	t.Cleanup(func() { tr.end(syscall.SIGKILL) })
	tr.start()
	api, conn, err := client.DialAdmin(filepath.Join(dir, "run", "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range names {
		if _, err := api.CreateKey(t.Context(), &signetv1.CreateKeyRequest{Name: name, Reason: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// edit changes the configuration: pairs of what stands there and what is to
// stand there. It returns the names of the keys that are in it.
func (tr *trial) edit(pairs []string) (names []string) {
	tr.t.Helper()
	path := filepath.Join(tr.dir, "signet.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		tr.t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			tr.t.Fatalf("%q stands %d times in the configuration", pairs[i], strings.Count(text, pairs[i]))
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tr.t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		tr.t.Fatal(err)
	}
	for _, k := range cfg.Keys {
		names = append(names, k.Name)
	}
	return names
}

// start starts the daemon and waits until it issues, or until it ends.
func (tr *trial) start() {
	tr.t.Helper()
	self, err := os.Executable()
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.said.Reset()
	tr.cmd = exec.Command(self, "serve", "--config", filepath.Join(tr.dir, "signet.yaml"))
	tr.cmd.Env = append(os.Environ(), asDaemon+"=1")
	tr.cmd.Stdout, tr.cmd.Stderr = &tr.said, &tr.said
	if err := tr.cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	path := filepath.Join(tr.dir, "run", "issue.sock")
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := client.Dial(path)
		if err != nil {
			tr.t.Fatal(err)
		}
		if _, _, err := c.PublicKeys(tr.t.Context(), ""); err == nil {
			tr.client = c
			return
		}
		_ = c.Close()
		if time.Since(begun) > 30*time.Second {
			tr.t.Fatalf("the daemon did not start:\n%s", &tr.said)
		}
	}
}

// end ends the daemon with a signal and waits until it is gone.
func (tr *trial) end(signal syscall.Signal) {
	if tr.cmd.ProcessState != nil {
		return
	}
	_ = tr.cmd.Process.Signal(signal)
	_ = tr.cmd.Wait()
	if tr.client != nil { // it never answered
		_ = tr.client.Close()
	}
}

func (tr *trial) issue(ctx context.Context) (client.Token, error) { return tr.issueFor(ctx, "demo") }

func (tr *trial) issueFor(ctx context.Context, profile string) (client.Token, error) {
	return tr.client.Issue(ctx, client.Request{
		Profile: profile, Subject: "demo/kill", Audience: []string{"https://api.example"}, TTL: time.Minute,
	})
}

// load issues tokens from 8 callers until stop, and gives those it got to got.
func (tr *trial) load(stop <-chan struct{}, got func(client.Token, error)) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				got(tr.issue(ctx))
				cancel()
			}
		})
	}
	return &wg
}

// until polls until ok holds.
func (tr *trial) until(what string, ok func() bool) {
	tr.t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			tr.t.Fatalf("not in 30 s: %s\n%s", what, &tr.said)
		}
	}
}

// TestAKilledDaemonLosesNothing kills the daemon under load, three times: each
// token that a caller got is on record, and the daemon starts again as it was.
func TestAKilledDaemonLosesNothing(t *testing.T) {
	tr := newTrial(t)
	var mu sync.Mutex
	jtis, kids := []string{}, map[string]bool{}
	got := func(token client.Token, err error) {
		if err != nil {
			return // of a daemon that is being killed
		}
		mu.Lock()
		defer mu.Unlock()
		jtis, kids[token.Kid] = append(jtis, token.ID), true
	}
	for round := 1; round <= 3; round++ {
		stop := make(chan struct{})
		wg := tr.load(stop, got)
		tr.until("tokens under load", func() bool { mu.Lock(); defer mu.Unlock(); return len(jtis) >= 100*round })
		_ = tr.cmd.Process.Signal(syscall.SIGKILL)
		_ = tr.cmd.Wait()
		close(stop)
		wg.Wait()
		_ = tr.client.Close()
		tr.start()
	}
	tr.end(syscall.SIGTERM)
	r, err := audit.Verify(filepath.Join(tr.dir, "state", "ledger"))
	if err != nil || r.Kinds[audit.KindUncleanStop] != 3 {
		t.Errorf("the ledger: %+v, %v; want three unclean stops and no fault", r, err)
	}
	if len(kids) != 1 {
		t.Errorf("kids %v, want the same one all the time", kids)
	}
	text := readLedger(t, tr.dir)
	for _, jti := range jtis {
		if strings.Count(text, `"jti":"`+jti+`"`) != 2 {
			t.Fatalf("a token that was given out is not on record with intent and outcome: %s", jti)
		}
	}
}

func readLedger(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "state", "ledger", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// TestAKilledIssuerIsReplacedUnderLoad kills the issuer process: callers see a
// delay or an error that may be retried, never a bad token.
func TestAKilledIssuerIsReplacedUnderLoad(t *testing.T) {
	tr := newTrial(t)
	_, set, err := tr.client.PublicKeys(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	good := 0
	stop := make(chan struct{})
	wg := tr.load(stop, func(token client.Token, err error) {
		if err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v, want Unavailable at worst", err)
			}
			return
		}
		if _, err := jwt.Verify(token.Value, set, jwt.VerifyOptions{Audience: "https://api.example", Now: time.Now()}); err != nil {
			t.Error(err)
		}
		mu.Lock()
		good++
		mu.Unlock()
	})
	count := func() int { mu.Lock(); defer mu.Unlock(); return good }
	for range 2 {
		before := count()
		tr.until("tokens", func() bool { return count() > before+20 })
		old := issuerOf(t, tr.cmd.Process.Pid)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		tr.until("another issuer process", func() bool { pid := issuerOf(t, tr.cmd.Process.Pid); return pid != 0 && pid != old })
		before = count()
		tr.until("tokens from the new issuer", func() bool { return count() > before+20 })
	}
	close(stop)
	wg.Wait()
	tr.end(syscall.SIGTERM)
}

// issuerOf is the pid of the process that a daemon has started, 0 if there is
// none now.
func issuerOf(t *testing.T, daemon int) int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", daemon))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		if fields := strings.Fields(string(data)); len(fields) > 0 {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// TestAStartThatCanNotBeExplainedIsRefused has what a daemon must not run on.
func TestAStartThatCanNotBeExplainedIsRefused(t *testing.T) {
	tr := newTrial(t)
	cfg := filepath.Join(tr.dir, "signet.yaml")
	refused := func(what, says string) {
		t.Helper()
		var said bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		code := run(ctx, []string{"serve", "--config", cfg}, &said, &said)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) || code == 0 || !strings.Contains(said.String(), says) || !strings.Contains(said.String(), "hint: ") {
			t.Errorf("%s: exit status %d, said %q; want a refusal with %q and a hint", what, code, said.String(), says)
		}
	}
	refused("a second daemon", "another process")
	tr.end(syscall.SIGTERM)
	run := filepath.Join(tr.dir, "run")
	if err := os.Chmod(run, 0o777); err != nil {
		t.Fatal(err)
	}
	refused("a runtime directory that others may write in", "others may write")
	if err := os.Chmod(run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(tr.dir, "state", "ledger"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused("a ledger that others may read", "chmod 700")
}
