package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fakeCgroup is a directory with the files that a delegated group has: of the
// kernel's own, this test could have none, or somebody else's.
func fakeCgroup(t *testing.T, controllers string) (root, dir string) {
	t.Helper()
	root = t.TempDir()
	dir = filepath.Join(root, "system.slice", "signet.service")
	files := map[string]string{"cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.procs": strconv.Itoa(os.Getpid()) + "\n"}
	for _, sub := range []string{"daemon", "plugin-jwt"} {
		for _, name := range []string{"cgroup.procs", "pids.max", "memory.max", "memory.swap.max", "cpu.weight"} {
			files[filepath.Join(sub, name)] = ""
		}
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root, dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestADelegatedGroupIsHandedDown(t *testing.T) {
	root, dir := fakeCgroup(t, "cpuset cpu io memory pids\n")
	c, err := newCgroup(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	group, err := c.plugin("jwt", 64<<20)
	if err != nil || group != filepath.Join(dir, "plugin-jwt") {
		t.Fatalf("plugin: got %q, %v", group, err)
	}
	for _, f := range []struct{ got, want string }{
		{read(t, dir, "cgroup.subtree_control"), "+cpu +memory +pids"},
		{read(t, dir, "daemon", "cgroup.procs"), strconv.Itoa(os.Getpid())},
		{read(t, group, "memory.max"), "67108864"},
		{read(t, group, "memory.swap.max"), "0"},
		{read(t, group, "pids.max"), "256"},
		{read(t, group, "cpu.weight"), "50"},
	} {
		if f.got != f.want {
			t.Errorf("got %q, want %q", f.got, f.want)
		}
	}
	for text, want := range map[string]bool{
		"0::/system.slice/signet.service/plugin-jwt\n":               true,
		"4:memory:/x\n0::/system.slice/signet.service/plugin-a/deep": true,
		"0::/system.slice/signet.service/daemon\n":                   false,
		"0::/system.slice/other.service/plugin-jwt\n":                false,
		"0::/\n": false,
	} {
		if got := c.holds(text); got != want {
			t.Errorf("holds(%q): got %v, want %v", text, got, want)
		}
	}
}

// A group without what bounds a plug-in is none, and one that nobody marked as
// delegated holds other people's processes.
func TestAGroupThatIsNotOursIsLeftAlone(t *testing.T) {
	root, dir := fakeCgroup(t, "cpuset io\n")
	if _, err := newCgroup(root, dir); err == nil || !strings.Contains(err.Error(), "not memory and pids") {
		t.Errorf("newCgroup without controllers: got %v", err)
	}
	own := filepath.Join(root, "own")
	if err := os.WriteFile(own, []byte("4:memory:/x\n0::/system.slice/signet.service\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if dir, err := delegated(root, own); err == nil {
		t.Errorf("delegated: got %q for a group without the mark", dir)
	}
	if read(t, dir, "cgroup.subtree_control")+read(t, dir, "daemon", "cgroup.procs") != "" {
		t.Error("a group that can't be used was written to")
	}
}
