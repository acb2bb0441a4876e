package softkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/signers"
)

// The directory:
//
//	lock              held with flock while a process uses the directory
//	identity.age      passphrase only: the identity that opens the keys
//	secret-check.age  identity only: shows at start that it is the right one
//	keys/ID.age       one file for each key, see seal.go
//	keys/.ID.age.tmp  a key that was never finished; removed at start
const (
	lockName    = "lock"
	keysName    = "keys"
	fileSuffix  = ".age"
	tempSuffix  = ".tmp"
	privateDir  = 0o700
	privateFile = 0o600
)

// A dir is a directory that only we use. Its methods are called one at a time.
type dir struct {
	path  string
	root  *os.Root
	lock  *os.File
	seal  *seal
	fault func(op string) error

	// dirty is set while a change to keys/ may not survive a power cut.
	// Nothing is read before it is cleared: a key that was found, published
	// and then vanished would be worse than one that cannot be found.
	dirty bool
}

// openDir leaves nothing open when it fails.
func openDir(ctx context.Context, o Options) (d *dir, err error) {
	d = &dir{path: o.Dir, fault: o.Fault, dirty: true}
	defer func() {
		if err != nil {
			_ = d.close() // err is the reason to tell
			d, err = nil, fmt.Errorf("softkey: %q: %w", o.Dir, err)
		}
	}()
	if err := d.make(o.Dir, os.Mkdir); err != nil {
		return d, err
	}
	if d.root, err = os.OpenRoot(o.Dir); err != nil {
		return d, err
	}
	if err := d.private(".", privateDir|fs.ModeDir); err != nil {
		return d, err
	}
	if err := d.takeLock(); err != nil {
		return d, err
	}
	if err := d.make(keysName, d.root.Mkdir); err != nil {
		return d, err
	}
	if err := d.private(keysName, privateDir|fs.ModeDir); err != nil {
		return d, err
	}
	keys, err := d.tidy()
	if err != nil {
		return d, err
	}
	if d.seal, err = d.unlock(ctx, o, keys > 0); err != nil {
		return d, err
	}
	return d, d.sync()
}

func (d *dir) make(name string, mkdir func(string, fs.FileMode) error) error {
	return d.step("mkdir", func() error {
		if err := mkdir(name, privateDir); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

func (d *dir) close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Close()
	}
	if d.root != nil {
		err = errors.Join(err, d.root.Close())
	}
	return err
}

// step is the one seam for faults: every change to the disk passes here. What
// the disk refuses (full, read-only, broken) may be tried again.
func (d *dir) step(op string, do func() error) error {
	err := error(nil)
	if d.fault != nil {
		err = d.fault("softkey." + op)
	}
	if err == nil {
		err = do()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", op, signers.ErrUnavailable, err)
	}
	return nil
}

// takeLock fails at once if another process has the directory: two daemons
// would each believe that only they destroy and make keys here.
func (d *dir) takeLock() error {
	f, err := d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, privateFile)
	if err != nil {
		return err
	}
	d.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("in use by another process: %w\nhint: stop the daemon that has it open, or give this one a directory of its own",
			errors.Join(signers.ErrUnavailable, err))
	}
	return nil
}

// private refuses what others may read, or what is not ours: a key file in
// somebody else's name is somebody else's key.
func (d *dir) private(name string, want fs.FileMode) error {
	info, err := d.root.Lstat(name)
	if err != nil {
		return err
	}
	return d.privateInfo(name, info, want)
}

func (d *dir) privateInfo(name string, info fs.FileInfo, want fs.FileMode) error {
	file := path.Join(d.path, name)
	if info.Mode().Type() != want.Type() {
		return fmt.Errorf("%q is a %v, not a %v\nhint: move it away", file, info.Mode().Type(), want.Type())
	}
	if others := info.Mode().Perm() & 0o077; others != 0 {
		return fmt.Errorf("%q may be used by others: its mode is %04o\nhint: chmod %04o %s", file, info.Mode().Perm(), want.Perm(), file)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%q belongs to another user\nhint: chown %d %s", file, os.Geteuid(), file)
	}
	return nil
}

// tidy removes what a crash left half-written, refuses whatever else it cannot
// explain, and returns how many keys there are.
func (d *dir) tidy() (keys int, err error) {
	files, err := fs.ReadDir(d.root.FS(), keysName)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		name := path.Join(keysName, f.Name())
		if strings.HasPrefix(f.Name(), ".") && strings.HasSuffix(f.Name(), tempSuffix) {
			if err := d.step("remove", func() error { return d.root.Remove(name) }); err != nil {
				return 0, err
			}
			continue
		}
		if _, ok := keyID(f.Name()); !ok {
			return 0, fmt.Errorf("%q is not a key file\nhint: move it out of %q", f.Name(), path.Join(d.path, keysName))
		}
		if err := d.private(name, privateFile); err != nil {
			return 0, err
		}
		keys++
	}
	return keys, nil
}

// keyID takes the id out of a file name.
func keyID(file string) (signers.KeyID, bool) {
	name, ok := strings.CutSuffix(file, fileSuffix)
	id := signers.KeyID(name)
	return id, ok && id.Check() == nil
}

func keyFile(id signers.KeyID) string { return string(id) + fileSuffix }

// list returns the keys that have a file, and passes over everything else: it
// may have come since the start, which would have refused it.
func (d *dir) list() ([]signers.KeyID, error) {
	files, err := fs.ReadDir(d.root.FS(), keysName)
	if err != nil {
		return nil, err
	}
	ids := make([]signers.KeyID, 0, len(files))
	for _, f := range files {
		if id, ok := keyID(f.Name()); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// load returns fs.ErrNotExist for an absent key.
func (d *dir) load(id signers.KeyID) (*entry, error) {
	if err := d.sync(); err != nil {
		return nil, err
	}
	file, err := d.read(path.Join(keysName, keyFile(id)))
	if err != nil {
		return nil, err
	}
	return d.seal.open(id, file)
}

// read looks at the mode of the very file that it reads.
func (d *dir) read(name string) ([]byte, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := d.privateInfo(name, info, privateFile); err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, errDamaged
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// save makes a key durable, or returns an error. After an error the key may
// be there none the less, whole; it is then found by load, and synced first.
func (d *dir) save(e *entry) error {
	file, err := d.seal.close(e)
	if err != nil {
		return err
	}
	d.dirty = true
	if err := d.write(keysName, keyFile(e.id), file); err != nil {
		return err
	}
	return d.sync()
}

// write puts a whole file in place or none: temporary file, fsync, rename.
func (d *dir) write(folder, name string, data []byte) error {
	temp, final := path.Join(folder, "."+name+tempSuffix), path.Join(folder, name)
	err := d.writeTemp(temp, data)
	if err == nil {
		err = d.step("rename", func() error { return d.root.Rename(temp, final) })
	}
	if err != nil {
		_ = d.step("remove", func() error { return d.root.Remove(temp) }) // else the next start does it
	}
	return err
}

func (d *dir) writeTemp(temp string, data []byte) error {
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, privateFile)
	if err != nil {
		return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
	}
	err = d.step("write", func() error {
		_, err := f.Write(data)
		return err
	})
	if err == nil {
		err = d.step("fsync", f.Sync)
	}
	return errors.Join(err, f.Close())
}

// remove unlinks a key's file; sync makes that last.
func (d *dir) remove(id signers.KeyID) error {
	return d.step("remove", func() error {
		err := d.root.Remove(path.Join(keysName, keyFile(id)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		d.dirty = true
		return err
	})
}

// sync makes every earlier change to keys/ survive a power cut.
func (d *dir) sync() error {
	if !d.dirty {
		return nil
	}
	if err := d.syncFolder(keysName); err != nil {
		return err
	}
	d.dirty = false
	return nil
}

func (d *dir) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
	}
	defer f.Close() //nolint:errcheck // read only
	return d.step("fsync-dir", f.Sync)
}

// syncParent makes the directory itself last. One that we may not even read is
// not where we made it.
func (d *dir) syncParent() error {
	f, err := os.Open(filepath.Dir(filepath.Clean(d.path)))
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", signers.ErrUnavailable, err)
	}
	defer f.Close() //nolint:errcheck // read only
	return d.step("fsync-dir", f.Sync)
}
