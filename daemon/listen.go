package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// errInUse says that another daemon answers on a socket of ours.
var errInUse = errors.New("another daemon is using it")

// prepareDir makes a directory for the daemon alone to write in, or refuses
// one that others may write in: they could put a socket of theirs in the
// place of ours.
func prepareDir(dir string, mode os.FileMode) error {
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("daemon: %w\nhint: make the directory, owned by the daemon's user", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("daemon: directory %q has mode %04o: others may write in it\nhint: chmod go-w %s", dir, info.Mode().Perm(), dir)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner != uint32(os.Geteuid()) && owner != 0 { //nolint:gosec // uids fit
		return fmt.Errorf("daemon: directory %q belongs to uid %d\nhint: chown it to the daemon's user", dir, owner)
	}
	return nil
}

// listen opens a unix socket that is complete when it appears: it is bound
// under another name, given its mode and group, and then renamed.
func listen(dir, name string, mode os.FileMode, gid int) (*net.UnixListener, error) {
	path := filepath.Join(dir, name)
	if err := removeStale(path); err != nil {
		return nil, err
	}
	temp := path + ".new"
	_ = os.Remove(temp) // of a daemon that was killed just here
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("daemon: listen: %w\nhint: a unix socket's path has at most 107 bytes, and %q has %d; choose a shorter runtime_dir", err, temp, len(temp))
	}
	l.SetUnlinkOnClose(false) // Close would look for the old name
	if err := settle(temp, path, mode, gid); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func settle(temp, path string, mode os.FileMode, gid int) error {
	if gid >= 0 {
		if err := os.Chown(temp, -1, gid); err != nil {
			return fmt.Errorf("daemon: socket group: %w\nhint: the daemon's user must be in the group", err)
		}
	}
	if err := os.Chmod(temp, mode); err != nil {
		return fmt.Errorf("daemon: socket mode: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("daemon: socket: %w", err)
	}
	return nil
}

// removeStale removes a socket that nobody answers on any more, and refuses
// to take one that somebody does.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("daemon: %q is there and is not a socket\nhint: move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("daemon: socket %q: %w\nhint: stop it first, or give this one another runtime_dir", path, errInUse)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("daemon: stale socket: %w", err)
	}
	return nil
}
