package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// The directory holds
//
//	lock                  held by the process that has the store open
//	keys/NAME.json        one file for each key
//	keys/.NAME.json.tmp   a save that was cut off; removed at start
const (
	lockName    = "lock"
	keysName    = "keys"
	fileSuffix  = ".json"
	tempSuffix  = ".tmp"
	privateDir  = 0o700
	privateFile = 0o600
)

func fileOf(name string) string { return path.Join(keysName, name+fileSuffix) }
func tempOf(name string) string { return path.Join(keysName, "."+name+fileSuffix+tempSuffix) }

func isTemp(file string) bool {
	return strings.HasPrefix(file, ".") && strings.HasSuffix(file, fileSuffix+tempSuffix)
}

func (s *Store) open() error {
	if err := s.make(s.dir, os.Mkdir); err != nil {
		return err
	}
	var err error
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return err
	}
	if err := s.private("."); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	if err := s.make(keysName, s.root.Mkdir); err != nil {
		return err
	}
	if err := s.private(keysName); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	return errors.Join(s.syncParent(), s.syncFolder("."), s.sync())
}

func (s *Store) make(name string, mkdir func(string, fs.FileMode) error) error {
	return s.step("mkdir", func() error {
		if err := mkdir(name, privateDir); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// private refuses a directory that others may use or that is not ours: who can
// write here decides which keys are believed.
func (s *Store) private(name string) error {
	info, err := s.root.Stat(name)
	if err != nil {
		return err
	}
	dir := path.Join(s.dir, name)
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o\nhint: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user\nhint: chown %d %s", dir, os.Geteuid(), dir)
	}
	return nil
}

// takeLock fails at once if another process has the directory: each would
// think that only it saves here.
func (s *Store) takeLock() error {
	f, err := s.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, privateFile)
	if err != nil {
		return err
	}
	s.lock = f
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %w\nhint: stop the daemon that has this state_dir, or give this one its own", ErrLocked, err)
	}
	return nil
}

// sweep removes what a crash left of a save: its name was never the record's.
func (s *Store) sweep() error {
	files, err := fs.ReadDir(s.root.FS(), keysName)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !isTemp(f.Name()) {
			continue
		}
		if err := s.remove(path.Join(keysName, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// replace makes data the record: bytes on disk, then the name, then the
// directory. A power cut leaves the old record or the new one.
func (s *Store) replace(name string, data []byte) error {
	temp := tempOf(name)
	if err := s.write(temp, data); err != nil {
		_ = s.remove(temp) // if it stays, the next start removes it
		return err
	}
	err := s.step("rename", func() error {
		s.dirty = true
		return s.root.Rename(temp, fileOf(name))
	})
	if err != nil {
		_ = s.remove(temp) // if it stays, the next start removes it
		return err
	}
	// Told even if the directory does not reach the disk: whoever looks has to
	// wait until it does.
	defer s.tell(name)
	return s.sync()
}

func (s *Store) remove(name string) error {
	return s.step("remove", func() error { return s.root.Remove(name) })
}

func (s *Store) write(name string, data []byte) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, privateFile)
	if err != nil {
		return err
	}
	err = s.step("write", func() error {
		_, err := f.Write(data)
		return err
	})
	if err == nil {
		err = s.step("fsync", f.Sync)
	}
	return errors.Join(err, f.Close())
}

// step is the one seam for faults: every change to the disk passes here.
func (s *Store) step(op string, do func() error) error {
	if s.fault != nil {
		if err := s.fault("filestore." + op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// sync makes every earlier change to keys/ survive a power cut.
func (s *Store) sync() error {
	if !s.dirty {
		return nil
	}
	if err := s.syncFolder(keysName); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

func (s *Store) syncFolder(name string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(s.step("fsync-dir", f.Sync), f.Close())
}

// syncParent makes the directory itself last. One whose parent we may not even
// read is not one that we made.
func (s *Store) syncParent() error {
	f, err := os.Open(filepath.Dir(filepath.Clean(s.dir)))
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.step("fsync-dir", f.Sync), f.Close())
}
