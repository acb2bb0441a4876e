package peer

import (
	"strings"
	"testing"
)

func TestParseCgroup(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"0::/system.slice/build.service\n", "/system.slice/build.service"},
		{"12:pids:/a\n1:name=systemd:/system.slice/build.service\n0::/\n", "/system.slice/build.service"},
		{"1:name=systemd:/old.service\n0::/system.slice/new.service\n", "/system.slice/new.service"},
		{"1:name=systemd:/system.slice/build.service\n", "/system.slice/build.service"},
		{"0::/\n", "/"},
		{"0::/a:b/c\n", "/a:b/c"},
		{"4:memory:/system.slice/build.service\n", ""},
		{"0::/../build.service\n", ""},
		{"0::/system.slice/build.service (deleted)\n", ""},
		{"0::relative\n", ""},
		{"garbage\n", ""},
		{"", ""},
	} {
		if got := parseCgroup(c.text); got != c.want {
			t.Errorf("parseCgroup(%q): got %q, want %q", c.text, got, c.want)
		}
	}
}

func TestUnitOf(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/system.slice/build.service", "build.service"},
		{"/build.slice/build-ci.slice/runner@7.service", "runner@7.service"},
		{"/system.slice/_odd.service", "odd.service"},
		{"/init.scope", "init.scope"},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope"},
		// A user's own units are known by the user's manager, so that one user
		// can't pass for another or for the system.
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/build.service", "user@1000.service/build.service"},
		{"/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service/init.scope"},
		{"/user.slice/user-1000.slice/user@1000.service", "user@1000.service"},
		// What a unit makes below itself is of its own naming.
		{"/system.slice/docker.service/build.service", "docker.service"},
		{"/system.slice/docker-1f.scope/system.slice/build.service", "docker-1f.scope"},
		{"/system.slice/user@me.service/app.slice/build.service", "user@me.service"},
		{"/docker/1f/build.service", ""},
		{"/system.slice", ""},
		{"/.service", ""},
		{"/", ""},
		{"", ""},
	} {
		if got := unitOf(c.path); got != c.want {
			t.Errorf("unitOf(%q): got %q, want %q", c.path, got, c.want)
		}
	}
}

// FuzzUnitOf: whatever a path is, a unit is one element of it, or two below a
// user manager, and never of our own making.
func FuzzUnitOf(f *testing.F) {
	f.Add("/user.slice/user-1000.slice/user@1000.service/app.slice/build.service")
	f.Add("/system.slice/_odd.service/x")
	f.Fuzz(func(t *testing.T, path string) {
		unit := unitOf(path)
		manager, own, nested := strings.Cut(unit, "/")
		if !strings.Contains(path, manager) || !strings.Contains(path, own) {
			t.Errorf("unitOf(%q): %q is not in it", path, unit)
		}
		if nested && !isUserManager(manager) {
			t.Errorf("unitOf(%q): %q is below what is no user manager", path, unit)
		}
	})
}
