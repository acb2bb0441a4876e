package sandbox

import (
	"encoding/json"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// alone are the deeds that end the process which does them.
var alone = []string{"execute", "execute from memory", "a new user namespace by clone", "clone a process", "clone3"}

// startVictim starts the daemon that is preyed upon.
func startVictim(t *testing.T) prey {
	t.Helper()
	own, state := t.TempDir(), t.TempDir()
	cmd := exec.Command("/proc/self/exe", "victim", state)
	cmd.Env = []string{"SECRET=1"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var p prey
	if err := json.NewDecoder(out).Decode(&p); err != nil {
		t.Fatalf("the victim did not start: %v", err)
	}
	p.Own = own
	return p
}

// batches are the deeds as processes do them.
func batches(names []string) [][]string {
	var many []string
	all := [][]string{}
	for _, name := range names {
		if slices.Contains(alone, name) {
			all = append(all, []string{name})
		} else {
			many = append(many, name)
		}
	}
	return append(all, many)
}

func hostileArgs(t *testing.T, p prey, names []string) []string {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"hostile", string(text)}, names...)
}

// inside does deeds in the sandbox.
func inside(t *testing.T, c Confinement, p prey, names ...string) map[string]string {
	t.Helper()
	c.Dir = p.Own
	_, out := runAs(t, newStarter(t), c, hostileArgs(t, p, names))
	return answers(t, out)
}

// outside does deeds without it.
func outside(t *testing.T, p prey, names ...string) map[string]string {
	t.Helper()
	out, err := exec.Command("/proc/self/exe", hostileArgs(t, p, names)...).Output()
	if err != nil {
		t.Logf("%q: %v", names, err)
	}
	return answers(t, strings.NewReader(string(out)))
}

func answers(t *testing.T, from io.Reader) (done map[string]string) {
	t.Helper()
	text, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &done); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return done
}

// mayLack are the deeds that a container or an ordinary user may be refused
// without any sandbox: then only the refusal is shown, and the log says so.
var mayLack = []string{
	"a new user namespace by clone", "unshare", "setns", "io_uring", "bpf", "perf", "userfaultfd", "keyctl", "add_key", "mount", "chroot",
	"become root", "ptrace", "process_vm_readv", "pidfd_getfd", "kcmp", "read the daemon's memory", "a raw socket", "a vsock", "a kernel's cipher",
	"a MPTCP socket", "xattr of the state", "use a capability", "the daemon's nice", "write its own core", "clone3",
}

// TestAHostileProcessGetsNothing has a process try everything that it should
// not get, in the sandbox and, to show that each deed is a deed, outside it.
func TestAHostileProcessGetsNothing(t *testing.T) {
	needAll(t)
	p := startVictim(t)
	shown := 0
	for _, names := range batches(slices.Sorted(maps.Keys(deeds))) {
		in, out := inside(t, Confinement{Memory: 512 << 20}, p, names...), outside(t, p, names...)
		for _, name := range names {
			switch {
			case name == "listen":
				if in[name] != "" {
					t.Errorf("listen: got %q, want the one thing that an issuer needs", in[name])
				}
			case in[name] == "" || !refused(in[name]):
				t.Errorf("%s: got %q in the sandbox, want a refusal", name, in[name])
			case out[name] == "":
				shown++
			case slices.Contains(mayLack, name):
				t.Logf("%s: refused in the sandbox (%s), and outside it on this machine too: %s", name, in[name], out[name])
			default:
				t.Errorf("%s: got %q outside the sandbox: the deed shows nothing", name, out[name])
			}
		}
	}
	t.Logf("%d deeds of %d are done outside the sandbox, none inside", shown, len(deeds)-1)
}

// needAll skips a test of what this kernel or container lacks.
func needAll(t *testing.T) {
	t.Helper()
	k := Probe()
	if k.Landlock < scopesABI || k.Seccomp != nil {
		t.Skipf("Landlock ABI %d, seccomp: %v: this machine can't show it", k.Landlock, k.Seccomp)
	}
}

// Each containment holds alone: what is refused by only one of them shows that
// the other is no reason to leave it out.
func TestEachContainmentHoldsAlone(t *testing.T) {
	needAll(t)
	p := startVictim(t)
	rows := []struct {
		without string
		deeds   []string
	}{
		{"system calls", []string{
			"read /etc/passwd", "read the state", "read the daemon's memory", "connect by TCP", "connect to an abstract name",
			"kill the daemon", "write in /tmp", "execute",
		}},
		{"files", []string{
			"connect to issue.sock", "connect by TCP", "send by UDP", "kill the daemon", "chmod the state", "ptrace", "clone a process",
			"execute from memory",
		}},
	}
	for _, row := range rows {
		for _, names := range batches(row.deeds) {
			_, out := runBy(t, newStarter(t), []string{"launch-without", row.without}, Confinement{Dir: p.Own}, hostileArgs(t, p, names))
			for name, got := range answers(t, out) {
				if !refused(got) {
					t.Errorf("%s, without the step %q: got %q, want a refusal", name, row.without, got)
				}
			}
		}
	}
}

// A call by another architecture's numbers is no call that a filter knows.
func TestForeignNumbersEndTheProcess(t *testing.T) {
	if auditArch != 0xc000003e {
		t.Skip("x32 is amd64's")
	}
	for _, c := range []Confinement{{}, {Backend: true}} {
		child, _ := runAs(t, newStarter(t), c, []string{"x32"})
		if how := child.How(); !strings.Contains(how, "bad system call") {
			t.Errorf("backend %v: got %s, want SIGSYS", c.Backend, how)
		}
	}
}

// What a vendor's library may not do either, and what it may.
func TestABackendsProcess(t *testing.T) {
	needAll(t)
	p := startVictim(t)
	refusals := []string{
		"ptrace", "process_vm_readv", "pidfd_open", "pidfd_getfd", "io_uring", "bpf", "perf", "userfaultfd", "keyctl", "mount", "unshare", "setns",
		"a netlink socket", "a raw socket", "connect by TCP", "send by UDP", "kill the daemon", "connect to an abstract name", "the daemon's limits",
		"outlive the daemon", "use a capability",
	}
	may := []string{"clone a process", "read /etc/passwd", "connect to issue.sock", "write in /tmp", "listen"}
	for _, names := range batches(append(slices.Clone(refusals), may...)) {
		for name, got := range inside(t, Confinement{Backend: true}, p, names...) {
			if want := slices.Contains(refusals, name); refused(got) != want {
				t.Errorf("%s: got %q, want a refusal: %v", name, got, want)
			}
		}
	}
	withNetwork := Confinement{Backend: true, Network: true}
	if got := inside(t, withNetwork, p, "connect by TCP")["connect by TCP"]; got != "" {
		t.Errorf("connect with network: true: got %q, want nil", got)
	}
	// With files, all others are out of reach.
	files := Confinement{Backend: true, Write: []string{p.Own}}
	for name, got := range inside(t, files, p, "read the state", "write in /tmp", "list the state") {
		if !refused(got) {
			t.Errorf("%s, with files: got %q, want a refusal", name, got)
		}
	}
	for _, names := range [][]string{{"fill its own directory", "read /etc/passwd"}, {"execute"}} {
		for name, got := range inside(t, files, p, names...) {
			if got != "" {
				t.Errorf("%s, with files: got %q, want nil", name, got)
			}
		}
	}
}

// What is missing is refused, unless it is accepted by name.
func TestWhatIsMissingIsAcceptedByName(t *testing.T) {
	for _, name := range []string{Landlock, Seccomp, Cgroup} {
		missing := errNoLandlock
		if err := (Confinement{}).accepts(name, missing); err == nil || !strings.Contains(err.Error(), "hint: `signet doctor`") {
			t.Errorf("%s is missing: got %v, want an error with a hint", name, err)
		}
		if err := (Confinement{Accept: []string{"uid", name}}).accepts(name, missing); err != nil {
			t.Errorf("%s is missing and accepted: got %v", name, err)
		}
	}
	c := Confinement{Cgroup: t.TempDir() + "/none"}
	if err := c.joinCgroup(); err == nil {
		t.Error("a cgroup that is not there: got no error")
	}
}

// The filter's programs fit: a block's jumps have 8 bits, a program 4096 instructions.
func TestFiltersFit(t *testing.T) {
	for name, l := range map[string]list{"issuer": issuerList(1), "back-end": backendList(false), "network": backendList(true)} {
		for _, c := range l.checked {
			if n := len(c.assemble()); n > 255 {
				t.Errorf("%s: call %d has %d instructions", name, c.nr, n)
			}
		}
		if n := len(l.assemble()); n > 4096 {
			t.Errorf("%s: %d instructions", name, n)
		}
		seen := map[uint32]bool{}
		for _, nr := range slices.Concat(l.allowed, l.denied) {
			if seen[nr] {
				t.Errorf("%s: call %d stands twice", name, nr)
			}
			seen[nr] = true
		}
	}
}
