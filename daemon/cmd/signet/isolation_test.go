package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/shim"
	"github.com/signetd/signet/conformance/softhsm"
)

// isolated is a trial with a second key, in an HSM whose module misbehaves on
// request and runs in a process of its own.
func isolated(t *testing.T) (*trial, *shim.Shim) {
	t.Helper()
	dir := t.TempDir()
	token, err := softhsm.Make(filepath.Join(dir, "hsm"))
	if err != nil {
		if os.Getenv("REQUIRE_SOFTHSM") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Setenv("SOFTHSM2_CONF", token.Conf)
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte(token.PIN), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := shim.Make(dir, token.Module)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrial(t,
		"# - name: hsm\n#   type: pkcs11\n#   pkcs11:\n#     module: /usr/lib/softhsm/libsofthsm2.so\n#     token_label: signet\n#     pin: {file: pin}\n",
		"  - name: hsm\n    type: pkcs11\n    pkcs11:\n      module: "+s.Module+"\n      token_label: "+token.Label+
			"\n      isolation: process\n      hang_after: 1s\n      pin: {file: "+filepath.Join(dir, "pin")+"}\n",
		"\nprofiles:\n", "  - {name: hsm, backend: hsm, algorithm: ecdsa-p256-sha256, format: jwt}\n\nprofiles:\n"+
			"  - {name: hsm, key: hsm, issuer: https://signet.example, type: at+jwt, callers: [{uid: "+uid()+
			"}], audiences: [https://api.example], subjects: [\"demo/*\"], max_ttl: 15m, claims: {fixed: {client_id: hsm}}}\n")
	t.Cleanup(s.Clear)
	return tr, s
}

// TestAModuleThatCrashesOrHangsCostsNobodyElseAnything crashes and hangs the
// vendor's module under a load on both keys: the other key loses no request,
// and the module's own signs again within five seconds.
func TestAModuleThatCrashesOrHangsCostsNobodyElseAnything(t *testing.T) {
	tr, s := isolated(t)
	var others, own atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	keep := func(profile string, good *atomic.Int64) {
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					if _, err := tr.issueFor(ctx, profile); err == nil {
						good.Add(1)
					} else {
						t.Errorf("%s: got %v, want a token", profile, err)
					}
					cancel()
				}
			})
		}
	}
	keep("demo", &others)
	keep("hsm", &own)
	for _, f := range []shim.Fault{
		{Function: "C_Sign", Action: shim.Crash, Skip: 20, Times: 1},
		{Function: "C_Sign", Action: shim.Hang, Skip: 20, Times: 1},
		{Function: "C_OpenSession", Action: shim.Crash, Times: 1},
	} {
		if f.Function == "C_OpenSession" { // which only a lost session calls
			s.Set(f, shim.Fault{Function: "C_SignInit", Action: shim.DropSessions, Times: 1})
		} else {
			s.Set(f)
		}
		before := s.Calls("C_Initialize")
		tr.until("another process", func() bool { return s.Calls("C_Initialize") > before })
		begun, n := time.Now(), own.Load()
		tr.until("tokens of the key", func() bool { return own.Load() > n+20 })
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: the key signs again after %v", f.Function, took)
		}
	}
	close(stop)
	wg.Wait()
	if others.Load() < 100 {
		t.Errorf("the other key made %d tokens, want a load", others.Load())
	}
	tr.end(syscall.SIGTERM)
}

// TestAnHSMThatIsNotThereAtStartComesLater starts the daemon while the token is
// away: the other key signs, and this one does as soon as it can.
func TestAnHSMThatIsNotThereAtStartComesLater(t *testing.T) {
	tr, s := isolated(t)
	tr.end(syscall.SIGTERM)
	s.Set(shim.Fault{Function: "C_GetSlotList", Action: shim.Fail, Code: 0xe0}) // CKR_TOKEN_NOT_PRESENT
	tr.start()
	if _, err := tr.issueFor(t.Context(), "demo"); err != nil {
		t.Errorf("the other key: %v", err)
	}
	if _, err := tr.issueFor(t.Context(), "hsm"); err == nil {
		t.Error("a key of a token that is away signed")
	}
	s.Clear()
	tr.until("a token of the key", func() bool { _, err := tr.issueFor(t.Context(), "hsm"); return err == nil })
	tr.end(syscall.SIGTERM)
}

func uid() string { return strconv.Itoa(os.Getuid()) }
