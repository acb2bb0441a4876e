package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A rule says which mode bits a file with a secret must not have.
type rule struct {
	bits fs.FileMode
	hint string // %s: the path
}

var (
	forOwner = rule{0o077, "chmod 600 %s"}
	// systemd lets a service of another uid read its credentials by an ACL,
	// whose mask stat shows as the group's bits.
	forCredential = rule{0o037, "let systemd write the credential: %s"}
)

// readCredential reads what systemd left for this very service. The directory
// is the one thing that is taken from the environment; it is judged like any.
func readCredential(name string) ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("%w: credential %q: systemd gave none\nhint: add LoadCredential=%s:PATH to the unit, or use file: outside of systemd", ErrSource, name, name)
	}
	if err := checkPath("$CREDENTIALS_DIRECTORY", dir); err != nil {
		return nil, err
	}
	return readFile(filepath.Join(dir, name), forCredential)
}

// readFile opens first and asks questions of what it opened, so that nothing
// can be exchanged in between. The directory is held open for the same reason.
func readFile(path string, r rule) ([]byte, error) {
	dir, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|unix.O_DIRECTORY, 0) //nolint:gosec // the operator's own configuration
	if err != nil {
		return nil, missing(path, err)
	}
	defer dir.Close() //nolint:errcheck // only read
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	// NONBLOCK: a FIFO would keep us waiting for its writer.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), filepath.Base(path), flags, 0)
	if err != nil {
		return nil, missing(path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() //nolint:errcheck // only read
	if err := checkFile(f, r); err != nil {
		return nil, err
	}
	return readAll(f, path)
}

// missing says what keeps a file from being opened, and the remedy for each.
func missing(path string, err error) error {
	hint := "create the file, owned by the daemon's user, mode 600"
	switch {
	case errors.Is(err, unix.ELOOP):
		hint = "name the file itself: a symbolic link is not followed"
	case errors.Is(err, fs.ErrPermission):
		hint = "let the daemon's user own the file and enter its directory"
	}
	return fmt.Errorf("%w: file %q: %w\nhint: %s", ErrSource, path, err, hint)
}

// checkDir keeps anybody else from putting another file in the secret's place.
func checkDir(dir *os.File) error {
	info, owner, err := stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%w: directory %q has mode %04o\nhint: chmod go-w %s", ErrUnsafe, dir.Name(), mode, dir.Name())
	}
	return checkOwner("directory", dir.Name(), owner)
}

// checkFile judges the open file, which is the one that will be read.
func checkFile(f *os.File, r rule) error {
	info, owner, err := stat(f)
	if err != nil {
		return err
	}
	if err := r.check(f.Name(), info.Mode()); err != nil {
		return err
	}
	return checkOwner("file", f.Name(), owner)
}

func (r rule) check(path string, mode fs.FileMode) error {
	if !mode.IsRegular() {
		return fmt.Errorf("%w: %q is a %s\nhint: name a regular file", ErrSource, path, kindOf(mode))
	}
	if mode.Perm()&r.bits != 0 {
		return fmt.Errorf("%w: file %q has mode %04o\nhint: "+r.hint, ErrUnsafe, path, mode.Perm(), path)
	}
	return nil
}

// Look says what is wrong with a file that is to hold a secret, as far as
// whoever asks can see: it is not opened, and may be another user's.
func (s Source) Look() error {
	if s.File == "" {
		return nil
	}
	info, err := os.Lstat(s.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(s.File, fs.ErrNotExist)
	case err != nil:
		return nil //nolint:nilerr // not ours to see; a start says more
	case info.Mode()&fs.ModeSymlink != 0:
		return missing(s.File, unix.ELOOP)
	}
	return forOwner.check(s.File, info.Mode())
}

func kindOf(m fs.FileMode) string {
	if m.IsDir() {
		return "directory"
	}
	return "special file"
}

// checkOwner accepts root and ourselves: an owner can change any mode.
func checkOwner(what, path string, owner uint32) error {
	if self := os.Geteuid(); owner != 0 && int(owner) != self {
		return fmt.Errorf("%w: %s %q belongs to uid %d\nhint: chown %d %s", ErrUnsafe, what, path, owner, self, path)
	}
	return nil
}

// stat returns the owner too, which fs.FileInfo has only behind a type.
func stat(f *os.File) (fs.FileInfo, uint32, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrSource, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, 0, fmt.Errorf("%w: %q: %w", ErrSource, f.Name(), err)
	}
	return info, st.Uid, nil
}

// readAll reads into one locked buffer that never grows, since growing leaves
// copies.
func readAll(r io.Reader, from string) ([]byte, error) {
	buf, err := locked(MaxSize + 1)
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(r, buf)
	switch {
	case err == nil:
		Wipe(buf)
		return nil, fmt.Errorf("%w: %q\nhint: a secret is one line; is this the right one?", ErrTooLarge, from)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return buf[:n], nil
	}
	Wipe(buf)
	return nil, fmt.Errorf("%w: %q: %w", ErrSource, from, err)
}
