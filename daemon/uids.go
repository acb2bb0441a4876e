package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/plugins/host/sandbox"
)

// Part leaves the right to change uids to a launcher, if the configuration has
// uids for plug-ins, and becomes this program again without it. It returns nil
// where there is nothing to leave, or where it was left already.
func Part(cfg *config.Config) error {
	first, last, err := cfg.Issuers.Range()
	if err != nil || first == 0 || sandbox.HasLauncher() {
		return err
	}
	if uint32(os.Geteuid()) >= first && uint32(os.Geteuid()) <= last { //nolint:gosec // uids fit
		return fmt.Errorf("issuers.uids: the daemon's own uid %d is among them\nhint: choose uids that nobody has", os.Geteuid())
	}
	err = sandbox.Part([]string{"signet", "launcher"}, first, last)
	if errors.Is(err, sandbox.ErrNoCaps) {
		if slices.Contains(cfg.Issuers.AcceptMissing, sandbox.UID) {
			return nil
		}
		return fmt.Errorf("issuers.uids: %w\nhint: AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL in the unit, or accept_missing: [uid]", err)
	}
	return err
}

// openLauncher connects to the launcher that Part has left.
func (d *Daemon) openLauncher() error {
	conn, err := sandbox.Launcher()
	if conn == nil {
		return err
	}
	if err := throughable(d.sockDir); err != nil {
		return errors.Join(err, conn.Close())
	}
	d.launcher = sandbox.NewRemote(conn, &d.children)
	d.uids.there = true
	d.atStop(d.launcher.Close)
	return nil
}

// throughable is whether a uid that nobody else has can reach what is in dir.
func throughable(dir string) error {
	for ; dir != "" && dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("issuers.uids: no other uid gets through %q, of mode %04o, to its socket's directory\nhint: chmod o+x %s, or choose another runtime_dir", dir, info.Mode().Perm(), dir)
		}
	}
	return nil
}

// uids are those that plug-in processes have.
type uids struct {
	there bool // there is a launcher
	mu    sync.Mutex
	taken map[uint32]string
}

// take is the uid for a process: the one that the configuration gives its
// plug-in, or the first that is free. 0 is the daemon's own.
func (u *uids) take(cfg *config.Config, name string) (uint32, error) {
	if !u.there {
		return 0, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.taken == nil {
		u.taken = map[uint32]string{}
		for _, p := range cfg.Plugins {
			if p.UID != nil {
				u.taken[*p.UID] = p.Name
			}
		}
	}
	first, last, err := cfg.Issuers.Range()
	if err != nil {
		return 0, err
	}
	for uid, who := range u.taken {
		if who == name {
			return uid, nil
		}
	}
	for uid := first; uid <= last; uid++ {
		if _, taken := u.taken[uid]; !taken {
			u.taken[uid] = name
			return uid, nil
		}
	}
	return 0, fmt.Errorf("no uid is left of issuers.uids %s\nhint: one for each issuer, and one more for each inspector", cfg.Issuers.UIDs)
}
