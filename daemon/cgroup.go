package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/plugins/host/sandbox"
)

// A cgroup is a delegated control group (v2) under which each plug-in process
// has one of its own. systemd.resource-control(5): Delegate=yes,
// DelegateSubgroup=daemon.
type cgroup struct {
	dir  string // below /sys/fs/cgroup
	name string // the same, as /proc/PID/cgroup has it
}

// cgroupRoot is where version 2 is mounted.
const cgroupRoot = "/sys/fs/cgroup"

// What one plug-in may use of the machine beside memory.
const (
	pluginThreads = 256 // pids.max
	pluginWeight  = 50  // cpu.weight: half of the daemon's
)

var errNotDelegated = errors.New("no control group is delegated to the daemon")

// openCgroup finds the delegated group and prepares it; nil where there is none.
// One that the configuration names must be there.
func (d *Daemon) openCgroup() error {
	dir := d.cfg.Issuers.Cgroup
	if dir == "" {
		var err error
		if dir, err = delegated(cgroupRoot, "/proc/self/cgroup"); err != nil {
			d.log.Info("plug-ins have no control group of their own", slog.String("why", err.Error()))
			return nil
		}
	}
	var err error
	d.cgroup, err = newCgroup(cgroupRoot, dir)
	if err != nil && (d.cfg.Issuers.Cgroup == "" || slices.Contains(d.cfg.Issuers.AcceptMissing, sandbox.Cgroup)) {
		d.cgroup = nil
		d.log.Warn("plug-ins have no control group of their own", slog.Any("error", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("issuers.cgroup: %w\nhint: it must be delegated to the daemon's user, with memory and pids in cgroup.controllers", err)
	}
	return nil
}

// delegated is the directory of the control group that systemd gave to this
// process: its own, or the one above where it was put into a subgroup.
func delegated(root, own string) (string, error) {
	text, err := os.ReadFile(own) //nolint:gosec // /proc/self/cgroup
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		if !ok {
			continue
		}
		for _, dir := range []string{filepath.Join(root, path), filepath.Dir(filepath.Join(root, path))} {
			if dir != root && marked(dir) {
				return dir, nil
			}
		}
	}
	return "", errNotDelegated
}

// marked is whether systemd marked a control group as delegated. What is only
// writable, as everything is to root, holds other people's processes.
func marked(dir string) bool {
	value := make([]byte, 8)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, value); err == nil && bytes.Equal(value[:n], []byte("1")) {
			return true
		}
	}
	return false
}

// newCgroup hands the controllers down. A group with processes can't, so the
// daemon moves below first, where systemd has not put it there.
func newCgroup(root, dir string) (*cgroup, error) {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers")) //nolint:gosec // below /sys/fs/cgroup
	if err != nil {
		return nil, err
	}
	have := strings.Fields(string(controllers))
	var down []string
	for _, c := range have {
		if c == "memory" || c == "pids" || c == "cpu" {
			down = append(down, "+"+c)
		}
	}
	if !strings.Contains(string(controllers), "memory") || !strings.Contains(string(controllers), "pids") {
		return nil, fmt.Errorf("%s has the controllers %q, not memory and pids", dir, have)
	}
	if err := moveBelow(dir, filepath.Join(dir, "daemon")); err != nil {
		return nil, err
	}
	if err := put(dir, "cgroup.subtree_control", strings.Join(down, " ")); err != nil {
		return nil, err
	}
	return &cgroup{dir: dir, name: "/" + strings.TrimPrefix(strings.TrimPrefix(dir, root), "/")}, nil
}

// moveBelow moves this process out of a group that is to have children.
func moveBelow(dir, to string) error {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")) //nolint:gosec // below /sys/fs/cgroup
	if err != nil || len(bytes.TrimSpace(procs)) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // a control group has no secrets
		return err
	}
	return put(to, "cgroup.procs", strconv.Itoa(os.Getpid()))
}

// plugin makes the group of one plug-in and returns its directory, "" for none.
func (c *cgroup) plugin(name string, memory uint64) (string, error) {
	if c == nil {
		return "", nil
	}
	dir := filepath.Join(c.dir, "plugin-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a control group has no secrets
		return "", err
	}
	err := put(dir, "pids.max", strconv.Itoa(pluginThreads))
	if memory > 0 {
		err = errors.Join(err, put(dir, "memory.max", strconv.FormatUint(memory, 10)))
	}
	// These are not there in every kernel: without swap, or without the cpu controller.
	_ = put(dir, "memory.swap.max", "0")
	_ = put(dir, "cpu.weight", strconv.Itoa(pluginWeight))
	return dir, err
}

// holds is whether /proc/PID/cgroup says that a process is a plug-in's.
func (c *cgroup) holds(text string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "0::"+c.name+"/plugin-") {
			return true
		}
	}
	return false
}

// put writes a file of a control group, which is there already.
func put(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0) //nolint:gosec // below /sys/fs/cgroup
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}
