package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this binary as signet: as a user, as the daemon,
// and as the issuer processes that the daemon starts from its own executable.
func TestMain(m *testing.M) {
	if asSignet() {
		main()
	}
	testscript.Main(m, map[string]func(){"signet": main})
}

// asSignet reports whether the daemon under test has started this binary.
func asSignet() bool {
	return os.Getenv(asDaemon) != "" || len(os.Args) > 1 && slices.Contains([]string{"launch", "launcher", "issuer", "backend"}, os.Args[1])
}

// TestScripts runs whole sessions, as a person would type them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Condition: func(name string) (bool, error) {
			if name != "required" {
				return false, fmt.Errorf("condition %q is not known", name)
			}
			return os.Getenv("REQUIRE_SOFTHSM") != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":    ready,
			"fakekms":  fakeKMS,
			"awsfault": awsFault,
			"awsasked": awsAsked,
			"scrape":   scrape,
		},
	})
}

// setup gives each script a short directory for sockets: a unix socket's path
// has at most 107 bytes, and a test's directory is longer.
func setup(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "sg")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(dir) })
	repo, err := filepath.Abs("../../..")
	if err != nil {
		return err
	}
	env.Values["clouds"] = &clouds{}
	env.Setenv("REPO", repo)
	env.Setenv("D", dir)
	env.Setenv("UID", fmt.Sprint(os.Getuid()))
	env.Setenv("OTHER", fmt.Sprint(os.Getuid()+1))
	env.Setenv("NO_COLOR", "1")
	return nil
}

// ready waits until a daemon answers on a socket.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready SOCKET")
	}
	for begun := time.Now(); time.Since(begun) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", args[0])
		if err == nil {
			_ = conn.Close()
			return
		}
	}
	ts.Fatalf("no daemon on %s after 30 s", args[0])
}
