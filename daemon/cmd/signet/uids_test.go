package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/client"
)

// TestAnIssuerHasAUIDOfItsOwn runs the daemon with a launcher: the daemon has
// no right to change uids left, the issuer has a uid that nobody else has, and
// all end with the daemon, however that ends.
func TestAnIssuerHasAUIDOfItsOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("no right to change uids; hint: run this test as root")
	}
	tr := newTrial(t, "\nprofiles:\n", "\nissuers: {uids: 60020-60029}\n\nprofiles:\n")
	if _, err := tr.issueFor(t.Context(), "demo"); err != nil {
		t.Fatal(err)
	}
	pid := issuerByAdmin(t, tr)
	if got := field(t, int(pid), "Uid"); got != "60020 60020 60020 60020" {
		t.Errorf("the issuer's uids: got %s", got)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh"} {
		var caps uint64
		if _, err := fmt.Sscanf(field(t, tr.cmd.Process.Pid, set), "%x", &caps); err != nil || caps&0xe0 != 0 {
			t.Errorf("the daemon's %s: got %x, %v, want neither CAP_SETUID, CAP_SETGID nor CAP_KILL", set, caps, err)
		}
	}
	// An issuer that ends is started again, under the same uid.
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tr.until("another issuer", func() bool { now := issuerByAdmin(t, tr); return now != 0 && now != pid })
	pid = issuerByAdmin(t, tr)
	tr.end(syscall.SIGKILL)
	tr.until("the issuer is gone", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// issuerByAdmin is the pid of the daemon's one issuer, as `signet plugin list` shows it.
func issuerByAdmin(t *testing.T, tr *trial) int32 {
	t.Helper()
	api, conn, err := client.DialAdmin(tr.dir + "/run/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := api.ListPlugins(t.Context(), &signetv1.ListPluginsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.GetPlugins() {
		if p.GetKind() == "issuer" {
			return p.GetPid()
		}
	}
	return 0
}

// field is one of /proc/PID/status.
func field(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(value), " ")
}
