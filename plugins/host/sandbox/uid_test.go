package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An identity is who a process is.
type identity struct {
	UID, GID, Groups int
	Caps             string
	Listens          string // why it can't, "" if it can
	Neighbour        string // why it can't enter another's directory
}

func who() {
	groups, _ := os.Getgroups()
	sets, _ := capabilities()
	id := identity{UID: os.Getuid(), GID: os.Getgid(), Groups: len(groups), Caps: fmt.Sprintf("%08x%08x", sets[1].Permitted, sets[0].Permitted)}
	for to, err := range map[*string]error{
		&id.Listens: deeds["listen"](prey{Own: os.Args[2]}), &id.Neighbour: deeds["listen"](prey{Own: os.Args[3]}),
	} {
		if err != nil {
			*to = err.Error()
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(id)
	time.Sleep(time.Hour)
}

// remote is a launcher of this test's, and what it starts.
func remote(t *testing.T, all *Children) *Remote {
	t.Helper()
	fd, err := startLauncher([]string{"signet", "launcher"}, 60000, 60009)
	if errors.Is(err, ErrNoCaps) {
		t.Skipf("%v; hint: run this test as root", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connOf(fd)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRemote(conn, all)
	t.Cleanup(func() {
		r.Close()
		_, _ = unix.Wait4(-1, nil, 0, nil)
	})
	return r
}

// as starts a process with a uid and a directory of its own.
func as(t *testing.T, r *Remote, uid uint32, neighbour string) (*Child, string, *os.File, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "signet-uid")
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir); out.Close() })
	defer w.Close()
	exe := self(t)
	c, err := r.Start(Command{
		Trampoline: exe, LaunchArgs: []string{"signet", "launch", "--"}, Target: exe, Args: []string{"child", "who", dir, neighbour},
		Confine: Confinement{UID: uid, Dir: dir, Accept: []string{Landlock, Seccomp}}, Stdout: w, Stderr: w,
	})
	return c, dir, out, err
}

func TestAProcessHasAUIDOfItsOwn(t *testing.T) {
	var all Children
	r := remote(t, &all)
	c, dir, out, err := as(t, r, 60001, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var got identity
	if err := json.NewDecoder(out).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := identity{UID: 60001, GID: 60001, Caps: strings.Repeat("0", 16), Neighbour: got.Neighbour}
	if got != want || !strings.Contains(got.Neighbour, "permission denied") {
		t.Errorf("got %+v, want %+v, and no way to the neighbour's directory", got, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode&0o7777 != 0o730 || int(st.Uid) != os.Getuid() || st.Gid != 60001 {
		t.Errorf("its directory: mode %o, owner %d, group %d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	if !all.Has(c.PID()) {
		t.Errorf("process %d is no child", c.PID())
	}
	c.Kill()
	if how := c.How(); how != "signal: killed" || all.Has(c.PID()) {
		t.Errorf("after Kill: %s, still a child: %v", how, all.Has(c.PID()))
	}
}

func TestALauncherKeepsToItsUIDs(t *testing.T) {
	r := remote(t, nil)
	for _, uid := range []uint32{0, 1, 59999, 60010, uint32(os.Getuid())} {
		if c, _, _, err := as(t, r, uid, ""); err == nil || !strings.Contains(err.Error(), "is not from 60000 to 60009") {
			t.Errorf("uid %d: got %v, %v, want a refusal", uid, c, err)
		}
	}
}

// What a launcher started ends with it, and the launcher with the daemon.
func TestWhatALauncherStartedEndsWithTheDaemon(t *testing.T) {
	r := remote(t, nil)
	c, _, out, err := as(t, r, 60002, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(out).Decode(&identity{}); err != nil {
		t.Fatal(err)
	}
	pid := c.PID()
	r.Close()
	<-c.Ended()
	until(t, "the process is gone", func() bool { return !alive(pid) })
	if _, _, _, err := as(t, r, 60002, ""); !errors.Is(err, ErrStopped) {
		t.Errorf("Start after the end: got %v, want ErrStopped", err)
	}
}

// A launcher has the capabilities that it needs, in every thread.
func TestALauncherKeepsThreeCapabilities(t *testing.T) {
	r := remote(t, nil)
	if c, _, _, err := as(t, r, 60003, ""); err != nil {
		t.Fatal(err)
	} else {
		defer c.Kill() // and the launcher is past its start
	}
	if len(childrenOfAllThreads(t)) == 0 {
		t.Skip("this kernel does not list children (CONFIG_PROC_CHILDREN)")
	}
	found := 0
	for _, pid := range childrenOfAllThreads(t) {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%s/task", pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%s/task/%s/status", pid, task.Name()))
			found++
			if !strings.Contains(string(text), "CapPrm:\t00000000000000e0") || !strings.Contains(string(text), "NoNewPrivs:\t1") {
				t.Errorf("thread %s of the launcher: %s", task.Name(), text)
			}
		}
	}
	if found == 0 {
		t.Error("no thread of a launcher was seen")
	}
}

func childrenOfAllThreads(t *testing.T) (pids []string) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}
