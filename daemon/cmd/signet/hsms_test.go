package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	raw "github.com/miekg/pkcs11"

	"github.com/signetd/signet/conformance/opencryptoki"
	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/conformance/softhsm"
)

// An hsm is one token in a daemon's configuration.
type hsm struct {
	name, module, label, pin string
	algorithm, isolation     string
}

func (h hsm) backend() string {
	return fmt.Sprintf("  - name: %s\n    type: pkcs11\n    pkcs11: {module: %s, token_label: %s, isolation: %s, pin: {file: %s}}\n",
		h.name, h.module, h.label, h.isolation, h.pin)
}

func (h hsm) key() string {
	return fmt.Sprintf("  - {name: %s, backend: %s, algorithm: %s, format: jwt}\n", h.name, h.name, h.algorithm)
}

func (h hsm) profile() string {
	return fmt.Sprintf("  - {name: %s, key: %s, issuer: https://signet.example, type: at+jwt, claims: {fixed: {client_id: test}}, callers: [{uid: %s}], "+
		"audiences: [https://api.example], subjects: [\"demo/*\"], max_ttl: 15m}\n", h.name, h.name, uid())
}

// A bank is three tokens of two modules: a and b of one, c of another.
type bank struct {
	hsms []hsm
	shim *shim.Shim // of a and b
	a    uint       // its slot
}

func newBank(t *testing.T, isolation string) bank {
	t.Helper()
	dir := t.TempDir()
	token, err := softhsm.Make(filepath.Join(dir, "hsm"))
	if err != nil && os.Getenv("REQUIRE_SOFTHSM") == "" {
		t.Skip(err)
	}
	check(t, err)
	t.Setenv("SOFTHSM2_CONF", token.Conf)
	check(t, token.Init("signet-b"))
	pin := filepath.Join(dir, "pin")
	check(t, os.WriteFile(pin, []byte(token.PIN), 0o600))
	check(t, os.Mkdir(filepath.Join(dir, "ab"), 0o700))
	s, err := shim.Make(filepath.Join(dir, "ab"), token.Module)
	check(t, err)
	return bank{
		hsms: []hsm{
			{"a", s.Module, token.Label, pin, "ecdsa-p256-sha256", isolation},
			{"b", s.Module, "signet-b", pin, "ecdsa-p256-sha256", isolation},
			another(t, dir, isolation, token, pin),
		},
		shim: s, a: slotOf(t, token),
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// another is a token of another module: openCryptoki's where it is required,
// in the daemon, since its daemon can't be asked from a sandbox; else SoftHSM's
// as a second library.
func another(t *testing.T, dir, isolation string, token softhsm.Token, pin string) hsm {
	t.Helper()
	if os.Getenv("REQUIRE_OPENCRYPTOKI") != "" {
		ock, err := opencryptoki.Make()
		check(t, err)
		t.Cleanup(ock.Release)
		file := filepath.Join(dir, "ock-pin")
		check(t, os.WriteFile(file, []byte(ock.PIN), 0o600))
		return hsm{"c", ock.Module, ock.Label, file, "rsa2048-pkcs1-sha256", "none"}
	}
	check(t, os.Mkdir(filepath.Join(dir, "c"), 0o700))
	check(t, token.Init("signet-c"))
	s, err := shim.Make(filepath.Join(dir, "c"), token.Module)
	check(t, err)
	return hsm{"c", s.Module, "signet-c", pin, "ecdsa-p256-sha256", isolation}
}

// slotOf is where a token is.
func slotOf(t *testing.T, token softhsm.Token) uint {
	t.Helper()
	ctx := raw.New(token.Module)
	check(t, ctx.Initialize())
	defer ctx.Finalize()
	slots, err := ctx.GetSlotList(true)
	check(t, err)
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.Label == token.Label {
			return slot
		}
	}
	t.Fatalf("no token %q", token.Label)
	return 0
}

// start starts a daemon that has all three, beside the embedded key.
func (b bank) start(t *testing.T) *trial {
	t.Helper()
	var backends, keys, profiles strings.Builder
	for _, h := range b.hsms {
		backends.WriteString(h.backend())
		keys.WriteString(h.key())
		profiles.WriteString(h.profile())
	}
	tr := newTrial(t,
		"# - name: hsm\n#   type: pkcs11\n#   pkcs11:\n#     module: /usr/lib/softhsm/libsofthsm2.so\n#     token_label: signet\n#     pin: {file: pin}\n",
		backends.String(),
		"\nprofiles:\n", keys.String()+"\nprofiles:\n"+profiles.String())
	t.Cleanup(b.shim.Clear)
	return tr
}

// keep asks for tokens of a profile until it is told to stop: none may fail.
func (tr *trial) keep(profile string) (got *atomic.Int64, stop func()) {
	got = &atomic.Int64{}
	var over atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !over.Load() {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				_, err := tr.issueFor(ctx, profile)
				cancel()
				if err != nil {
					tr.t.Errorf("%s: got %v, want a token", profile, err)
					return
				}
				got.Add(1)
			}
		})
	}
	return got, func() { over.Store(true); wg.Wait() }
}

// TestTokensAndModulesInOneDaemon has two tokens of one module and one of
// another sign, and one of the two lost until its module is initialised again:
// the others' callers see a delay at most.
func TestTokensAndModulesInOneDaemon(t *testing.T) {
	for isolation, lives := range map[string]int{"none": 1, "process": 2} {
		t.Run(isolation, func(t *testing.T) {
			b := newBank(t, isolation)
			tr := b.start(t)
			if n := b.shim.Calls("C_Initialize"); n != lives {
				t.Errorf("the module of two tokens was initialised %d times, want %d", n, lives)
			}
			for _, h := range b.hsms {
				if _, err := tr.issueFor(t.Context(), h.name); err != nil {
					t.Fatalf("%s: %v", h.name, err)
				}
			}
			besideB, stopB := tr.keep("b")
			besideC, stopC := tr.keep("c")
			before, beganB, beganC := b.shim.Calls("C_Initialize"), besideB.Load(), besideC.Load()
			b.shim.Set(shim.Fault{Function: "C_SignInit", Slot: b.a, Action: shim.Fail, Code: raw.CKR_DEVICE_REMOVED})
			signed := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				_, err := tr.issueFor(ctx, "a")
				signed <- err
			}()
			tr.until("the module to be initialised again", func() bool { return b.shim.Calls("C_Initialize") > before })
			b.shim.Clear()
			if err := <-signed; err != nil {
				t.Errorf("the token that was lost: got %v, want a signature: its caller had waited", err)
			}
			tr.until("tokens of the others", func() bool { return besideB.Load() > beganB+5 && besideC.Load() > beganC+5 })
			stopB()
			stopC()
			if n := b.shim.Overlaps(); n != 0 {
				t.Errorf("%d C_Finalize while a call was under way", n)
			}
			tr.end(syscall.SIGTERM)
		})
	}
}
