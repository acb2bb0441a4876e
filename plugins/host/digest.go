package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// errWritable says that what was hashed could be another thing when it is read.
var errWritable = errors.New("others may write it")

// Digest is the SHA-256, in hex, that pins an issuer: of the program at path,
// or, with what its interpreter reads, of everything together. It refuses a
// runtime that somebody else could change afterwards: unlike the program, it is
// read from where it stands.
func Digest(path string, runtime []string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the issuer
	if err != nil {
		return "", fmt.Errorf("host: digest: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading
	sum, err := digest(f, runtime)
	if err != nil {
		return "", fmt.Errorf("host: digest of %s: %w", path, err)
	}
	return sum, nil
}

// digest of a program and its runtime. With a runtime it is the SHA-256 of one
// line for each file, in the order of their paths:
//
//	SHA-256 in hex, two spaces, the path, a line feed
//
// the program first, as "-"; a symbolic link's is of its target's name, after "link ".
func digest(program *os.File, runtime []string) (string, error) {
	sum, err := hashOf(io.NewSectionReader(program, 0, maxBinary))
	if err != nil || len(runtime) == 0 {
		return sum, err
	}
	all := sha256.New()
	fmt.Fprintf(all, "%s  -\n", sum)
	roots := slices.Sorted(slices.Values(runtime))
	for _, root := range roots {
		if err := alone(root); err != nil {
			return "", err
		}
		if to, err := filepath.EvalSymlinks(root); err != nil || to != root {
			return "", fmt.Errorf("%s: a link on the way: %w\nhint: name %s instead", root, errors.Join(fs.ErrInvalid, err), to)
		}
		if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return addTo(all, path, d)
		}); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// addTo adds one entry of a runtime. A cache that Python would write is none
// of it only if it is not there: what is there is read.
func addTo(all hash.Hash, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	var sum string
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		// Where it leads is in the runtime too, or can't be read.
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		h := sha256.Sum256([]byte("link " + to))
		sum = hex.EncodeToString(h[:])
	case !ours(info):
		return fmt.Errorf("%s: %w\nhint: only root or the daemon's user may own it, and nobody else may write it", path, errWritable)
	case info.IsDir():
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: neither a file, a directory nor a link", path)
	default:
		if sum, err = hashFile(path); err != nil {
			return err
		}
	}
	fmt.Fprintf(all, "%s  %s\n", sum, path)
	return nil
}

// alone checks that nobody else could put another directory in a path's place.
func alone(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		sticky := info.Mode()&fs.ModeSticky != 0 // whose entries are their owners' alone
		if !ours(info) && !sticky {
			return fmt.Errorf("%s: %w\nhint: only root or the daemon's user may own it, and nobody else may write it", dir, errWritable)
		}
		if dir == "/" {
			return nil
		}
	}
}

// ours is whether only root and this user may write a file.
func ours(info fs.FileInfo) bool {
	owner := info.Sys().(*syscall.Stat_t).Uid //nolint:forcetypeassert // Linux
	return (owner == 0 || int(owner) == os.Geteuid()) && info.Mode().Perm()&0o022 == 0
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // below a path that the operator names
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	return hashOf(f)
}

func hashOf(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
