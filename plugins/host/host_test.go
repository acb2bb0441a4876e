package host

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/host/sandbox"
	"github.com/signetd/signet/plugins/wire"
	"github.com/signetd/signet/signers"
)

// testSpec is an issuer of these tests. When the test is over, its directory
// must be empty: no socket is left.
func testSpec(t testing.TB, mode string) Spec {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "signet-host-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		self.Close()
		os.Remove(dir + "/mark")
		if err := os.Remove(dir); err != nil {
			t.Errorf("sockets are left: %v", err)
		}
	})
	// These fork, or write: an issuer can't, a vendor's library may.
	forks := slices.Contains([]string{"fork", "fork escape", "impostor", "once"}, mode)
	return Spec{
		Confine: sandbox.Confinement{Backend: forks},
		Name:    "test", Self: self, Args: []string{"issuer", mode}, TempDir: dir,
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Deadline: 20 * time.Second, StartTimeout: 30 * time.Second,
		Restart: Restart{Min: time.Millisecond, Max: time.Millisecond, Crashes: 100, Window: time.Hour},
	}
}

func launch(t testing.TB, s Spec) *Process {
	t.Helper()
	p, err := Launch(context.Background(), s)
	if err != nil {
		t.Fatalf("Launch: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

var testKey = plugins.VerifyingKey{ID: "k1", Algorithm: signers.Ed25519, Public: ed25519.NewKeyFromSeed(make([]byte, 32)).Public()}

func grant(subject string) plugins.Grant {
	return plugins.Grant{Subject: subject, Audience: []string{"a"}, Expires: time.Unix(2e9, 0)}
}

// prepare asks p and returns the bytes to be signed. It waits long enough for
// any machine, so that a test of a broken host fails by itself.
func prepare(p *Process, subject string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := p.Prepare(ctx, grant(subject), testKey)
	return string(d.ToBeSigned), err
}

func mustPrepare(t testing.TB, p *Process, subject string) string {
	t.Helper()
	got, err := prepare(p, subject)
	if err != nil {
		t.Fatalf("Prepare(%q): %v", subject, err)
	}
	return got
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}

// alive is false for a process that is gone or waits to be reaped.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// A logBuffer may be written by several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestPrepare(t *testing.T) {
	p := launch(t, testSpec(t, "honest"))
	d, err := p.Prepare(context.Background(), grant("alice"), testKey)
	want := plugins.Draft{ToBeSigned: []byte("alice by k1"), Frame: frame()}
	if diff := cmp.Diff(want, d); diff != "" || err != nil {
		t.Errorf("Prepare: %v (-want +got):\n%s", err, diff)
	}
	got, err := p.Describe(context.Background())
	if diff := cmp.Diff(honest, got); diff != "" || err != nil {
		t.Errorf("Describe: %v (-want +got):\n%s", err, diff)
	}
	if p.Healthy() != nil || p.PID() == 0 || p.Restarts() != 0 || p.Faults() != 0 {
		t.Errorf("got %v, pid %d, %d restarts, %d faults, want a healthy process", p.Healthy(), p.PID(), p.Restarts(), p.Faults())
	}
}

func TestManyCallersEachGetTheirOwn(t *testing.T) {
	p := launch(t, testSpec(t, "honest"))
	var wg sync.WaitGroup
	for c := range 64 {
		wg.Go(func() {
			for i := range 30 {
				subject := fmt.Sprintf("caller %d request %d", c, i)
				if got, err := prepare(p, subject); got != subject+" by k1" || err != nil {
					t.Errorf("Prepare(%q): got %q, %v", subject, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// Requests of 200 KB fit one message each at most five at a time, answers of
// 100 KB ten at a time: both ends must cut their batches by size.
func TestLargeRequestsAndAnswersTravelInSeveralMessages(t *testing.T) {
	p := launch(t, testSpec(t, "honest"))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			g := grant("size")
			g.Claims, g.Serial = make([]byte, 200_000), 100_000
			d, err := p.Prepare(context.Background(), g, testKey)
			if len(d.ToBeSigned) != 100_000 || err != nil {
				t.Errorf("Prepare: got %d bytes, %v", len(d.ToBeSigned), err)
			}
		})
	}
	wg.Wait()
	if p.Faults() != 0 {
		t.Errorf("got %d faults, want none", p.Faults())
	}
}

func TestRefusals(t *testing.T) {
	var log logBuffer
	s := testSpec(t, "honest")
	s.Log = log.logger()
	s.MaxAnswer = 1000
	p := launch(t, s)
	pid := p.PID()
	broken, large, long := grant("\xff"), grant("alice"), grant("size")
	large.Claims = make([]byte, wire.MaxRequest)
	long.Serial = 1001
	secret := func(g plugins.Grant) plugins.Grant { g.Claims = []byte("s3cret"); return g }
	rows := []struct {
		name  string
		grant plugins.Grant
		want  string
	}{
		{"the issuer refuses", grant("refuse"), `subject "refuse" cannot be carried: issuer refused`},
		{"the issuer says too much", grant("refuse at length"), strings.Repeat("é", 100)},
		{"the issuer fails", secret(grant("fail")), "the issuer failed on this grant"},
		{"the issuer panics", secret(grant("panic")), "the issuer failed on this grant"},
		{"the issuer reads past the end", secret(grant("index")), "the issuer failed on this grant"},
		{"the grant is not text", broken, "not UTF-8"},
		{"the grant is too large", large, "the limit is"},
		{"the draft is over the host's limit", long, "the limit is 1000"},
	}
	for _, row := range rows {
		_, err := p.Prepare(context.Background(), row.grant, testKey)
		if !errors.Is(err, plugins.ErrRefused) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want ErrRefused with %q", row.name, err, row.want)
		} else if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\x1b\n") || strings.Contains(text, "s3cret") {
			t.Errorf("%s: got %q: too long, not printable or not safe to show", row.name, text)
		}
	}
	if _, err := p.Prepare(context.Background(), grant("alice"), plugins.VerifyingKey{}); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("Prepare without a key: got %v, want ErrRefused", err)
	}
	mustPrepare(t, p, "alice")
	if p.PID() != pid || p.Faults() != 0 {
		t.Errorf("after refusals: pid %d, %d faults, want pid %d and none", p.PID(), p.Faults(), pid)
	}
	until(t, "the panic is in the log", func() bool { return strings.Contains(log.String(), "index out of range") })
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log has claims:\n%s", log.String())
	}
}

func TestIssuerHasNothingItWasNotGiven(t *testing.T) {
	fd, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY, 0) // no O_CLOEXEC, as a PKCS#11 module would
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	t.Setenv("SIGNET_TEST_PIN", "123456")
	p := launch(t, testSpec(t, "honest"))
	report := mustPrepare(t, p, "report")
	got := decode(t, report)
	slices.Sort(got.Env)
	want := (Spec{}).withDefaults().passed()
	slices.Sort(want)
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if got.Dir != "/" || got.Dumpable != 0 {
		t.Errorf("got directory %q and dumpable %d, want / and 0", got.Dir, got.Dumpable)
	}
	for i, f := range got.Files {
		kind, _, _ := strings.Cut(f, ":[")
		known := []string{"pipe", "socket", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"}
		if (i == 0) != (f == "/dev/null") || i > 0 && !slices.Contains(known, kind) && !slices.Contains(known, f) && !strings.HasPrefix(f, "/sys/fs/cgroup/") {
			t.Errorf("descriptor %d is %q, which is not on the list", i, f)
		}
	}
}

// A service manager signals every process of a service.
func TestIssuerOutlivesTheServiceManagersSignals(t *testing.T) {
	p := launch(t, testSpec(t, "honest"))
	pid := p.PID()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		if mustPrepare(t, p, "alice"); p.PID() != pid {
			t.Fatalf("after %v: pid %d, want %d still", sig, p.PID(), pid)
		}
	}
}

func decode(t *testing.T, report string) (h holdings) {
	t.Helper()
	if err := json.Unmarshal([]byte(report), &h); err != nil {
		t.Fatal(err)
	}
	return h
}
