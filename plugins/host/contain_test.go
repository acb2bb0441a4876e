package host

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/plugins/host/sandbox"
)

// needs skips a test of what this machine lacks.
func needs(t *testing.T) {
	t.Helper()
	if k := sandbox.Probe(); k.Landlock == 0 || k.Seccomp != nil {
		t.Skipf("Landlock ABI %d, seccomp: %v: this machine can't show it", k.Landlock, k.Seccomp)
	}
}

// A plug-in that does nothing to hide can't be looked into all the same: its
// sealed copy may be executed and not read. From a file that may be read, the
// same program can.
func TestAPinnedPluginIsNotDumpable(t *testing.T) {
	path, sum := pinned(t)
	s := testSpec(t, "dumpable")
	if got := mustPrepare(t, launch(t, s), "alice"); got != "1" {
		t.Errorf("from a readable file, dumpable: got %s, want 1: this test shows nothing", got)
	}
	s.Path, s.SHA256 = path, sum
	if got := mustPrepare(t, launch(t, s), "alice"); got != "0" {
		t.Errorf("from its sealed copy, dumpable: got %s, want 0", got)
	}
}

// One that takes all memory is ended, and comes back.
func TestAHungryIssuerIsEnded(t *testing.T) {
	t.Parallel()
	s := testSpec(t, "hungry")
	s.Confine.Memory = 512 << 20
	p := launch(t, s)
	if _, err := prepare(p, "eat"); !errors.Is(err, ErrDown) {
		t.Errorf("Prepare: got %v, want ErrDown", err)
	}
	until(t, "it is back", func() bool { return p.Restarts() == 1 })
	mustPrepare(t, p, "alice")
}

// The kernel is asked of the process that runs, not of what it should be.
func TestStatusIsWhatTheKernelSays(t *testing.T) {
	needs(t)
	p := launch(t, testSpec(t, "honest"))
	s := p.Status()
	if s.State != "ready" || s.PID != p.PID() || s.Name != "test" {
		t.Errorf("Status: got %+v", s)
	}
	force := map[string]bool{}
	for _, m := range s.Contains {
		force[m.Name] = m.InForce
	}
	for _, name := range []string{"seccomp", "landlock", "network", "rlimits", "privileges", "dumpable"} {
		if !force[name] {
			t.Errorf("%s is not in force: %+v", name, s.Contains)
		}
	}
	// The planted fault: of this process, which nothing contains, the same is not believed.
	for _, m := range sandbox.Observe(os.Getpid(), s.Contains) {
		if m.InForce && (m.Name == "seccomp" || m.Name == "network" || m.Name == "privileges") {
			t.Errorf("%s is in force for a process that was never contained", m.Name)
		}
	}
}

// A machine that lacks something is refused by name, and by name accepted.
func TestAMissingContainmentIsNamed(t *testing.T) {
	missing := sandbox.Kernel{Seccomp: unix.ENOSYS}
	err := sandbox.Confinement{}.Check(missing)
	if err == nil || !strings.Contains(err.Error(), "accept_missing: [seccomp]") || !strings.Contains(err.Error(), "accept_missing: [landlock]") {
		t.Errorf("Check: got %v, want both named", err)
	}
	if err := (sandbox.Confinement{Accept: []string{"seccomp", "landlock"}}).Check(missing); err != nil {
		t.Errorf("Check of what is accepted: got %v", err)
	}
}

// The file is swapped again and again while its process is killed again and
// again: no restart runs another program (threats: binary swapped between
// checksum and exec).
func TestNoRestartRunsASwappedBinary(t *testing.T) {
	t.Parallel()
	restarts := 200
	if testing.Short() {
		restarts = 20
	}
	path, sum := pinned(t)
	s := testSpec(t, "honest")
	s.Path, s.SHA256, s.Restart.Crashes = path, sum, restarts+1
	p := launch(t, s)
	stop := swapInALoop(t, path)
	defer stop()
	for range restarts {
		restarted(t, p)
	}
}
