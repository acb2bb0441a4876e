package host

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxBinary bounds the copy of a binary that is held in memory.
const maxBinary = 512 << 20

// target is the file that a process becomes. The caller closes it.
func (s Spec) target() (*os.File, error) {
	if s.Path == "" {
		return duplicate(s.Self)
	}
	f, err := pin(s.Path, s.SHA256, s.Runtime)
	if err != nil {
		return nil, fmt.Errorf("host: issuer %q: %w", s.Name, err)
	}
	return f, nil
}

// duplicate keeps the binary ours, whatever the caller closes.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("host: %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// pin copies the binary at path to sealed memory and returns that, if its
// checksum is sum. What was hashed is then what runs, now and after each
// restart: another file put in its place, and another content written into the
// same file, reach nothing.
func pin(path, sum string, runtime []string) (_ *os.File, err error) {
	from, err := os.Open(path) //nolint:gosec // the operator names the issuer
	if err != nil {
		return nil, err
	}
	defer from.Close() //nolint:errcheck // opened for reading
	f, err := sealed(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	got, err := digest(f, runtime)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !strings.EqualFold(got, sum) {
		return nil, fmt.Errorf("%s: sha256 is %s, the configuration says %s: %w\nhint: find out who changed the file before you pin it anew",
			path, got, sum, ErrChecksum)
	}
	return f, runnable(f, path)
}

// runnable checks that the kernel can run the file by its descriptor: a
// script's interpreter could not open it.
func runnable(f *os.File, path string) error {
	// Asked here, since the kernel's own answer would be that the file is not there.
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != "\x7fELF" {
		return fmt.Errorf("%s: not a program that Linux runs by itself\nhint: name the interpreter, the script in args, and what it reads in runtime", path)
	}
	return nil
}

// sealed copies a regular file to memory that nobody can write any more.
func sealed(from *os.File) (_ *os.File, err error) {
	info, err := from.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxBinary {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", maxBinary)
	}
	fd, err := unix.MemfdCreate(filepath.Base(from.Name()), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	to := os.NewFile(uintptr(fd), from.Name())
	defer func() {
		if err != nil {
			_ = to.Close()
		}
	}()
	if _, err := io.Copy(to, io.LimitReader(from, maxBinary)); err != nil {
		return nil, err
	}
	// To be executed and not read: the kernel then keeps others from looking
	// into the process (PR_SET_DUMPABLE), whatever that does itself.
	if err := to.Chmod(0o111); err != nil {
		return nil, err
	}
	_, err = unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	return to, err
}
